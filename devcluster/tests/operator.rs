//! The operator's image is made of static programs, and an operator that cannot start is described.
//!
//! The first run compiles the operator.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use devcluster::operator::{self, InstallError, Installation};
use devcluster::{Cluster, Options, Profile, Progress, programs};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::json;

/// The layer's files with their modes, and the image's name.
fn look_into(archive: &Path) -> Result<(BTreeMap<String, u32>, String)> {
    let mut name = None;
    let mut largest = Vec::new();
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let mut entry = entry?;
        let is_index = entry.path()?.as_ref() == Path::new("index.json");
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents)?;
        if is_index {
            let index: serde_json::Value = serde_json::from_slice(&contents)?;
            let found = index.pointer("/manifests/0/annotations/io.containerd.image.name");
            name = found.and_then(|name| Some(name.as_str()?.to_owned()));
        } else if contents.len() > largest.len() {
            largest = contents;
        }
    }
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(largest.as_slice()).entries()? {
        let entry = entry?;
        files.insert(
            entry.path()?.to_string_lossy().into_owned(),
            entry.header().mode()?,
        );
    }
    Ok((files, name.context("the index names no image")?))
}

#[test]
fn the_same_programs_are_the_same_image() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache = std::env::temp_dir().join(format!("devcluster-{}-operator", std::process::id()));
    let (archive, reference) = operator::build_image(&root, &cache, &mut |step| eprintln!("{step}"))?;
    let again = operator::build_image(&root, &cache, &mut |_| ())?;
    let looked = look_into(&archive);
    std::fs::remove_dir_all(&cache)?;
    ensure!(again == (archive, reference.clone()), "{again:?}");
    let (files, name) = looked?;
    ensure!(name == reference, "{name} is not {reference}");
    let expected = [("dbclaim", 0o755), ("dbclaim-agent", 0o755)];
    ensure!(
        files == expected.map(|(path, mode)| (path.to_owned(), mode)).into(),
        "{files:?}"
    );
    Ok(())
}

/// The image holds no library, and so no NSS modules: the operator finds its API server by `/etc/hosts` all the same.
#[test]
fn names_resolve_without_any_library() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        ensure!(
            std::env::var_os("CI").is_none(),
            "in CI this test must run, and chroot needs root"
        );
        eprintln!("skipped: chroot needs root");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binaries =
        operator::build_binaries(&root, operator::Flavour::Cluster, &mut |step| eprintln!("{step}"))?;
    let folder = std::env::temp_dir().join(format!("devcluster-{}-names", std::process::id()));
    std::fs::create_dir_all(folder.join("etc"))?;
    let outcome = is_reached_by_name(&folder, &binaries.dbclaim);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn is_reached_by_name(folder: &Path, program: &Path) -> Result<()> {
    let api_server = std::net::TcpListener::bind("127.0.0.1:0")?;
    api_server.set_nonblocking(true)?;
    let port = api_server.local_addr()?.port();
    let authority = rcgen::generate_simple_self_signed(["api.example".to_owned()])?;
    std::fs::copy(program, folder.join("dbclaim"))?;
    std::fs::write(folder.join("etc/hosts"), "127.0.0.1 api.example\n")?;
    std::fs::write(folder.join("ca.crt"), authority.cert.pem())?;
    let cluster =
        json!({"server": format!("https://api.example:{port}"), "certificate-authority": "/ca.crt"});
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "x"}}]});
    std::fs::write(folder.join("kubeconfig"), kubeconfig.to_string())?;
    let mut operator = std::process::Command::new("/usr/sbin/chroot")
        .arg(folder)
        .args(["/dbclaim", "--agent-image", "registry.example/dbclaim:1"])
        .env_clear()
        .env("KUBECONFIG", "/kubeconfig")
        .spawn()?;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let reached = loop {
        match api_server.accept() {
            Ok(_) => break true,
            Err(_) if std::time::Instant::now() > deadline || operator.try_wait()?.is_some() => break false,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let _ = operator.kill();
    operator.wait()?;
    ensure!(reached, "nobody came to api.example within 30 s");
    Ok(())
}

/// Without nodes no Pod can run: that is what the error has to say, and the chart has to be accepted.
async fn install_where_nothing_runs(cluster: &Cluster) -> Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/dbclaim");
    let helm = programs::tool("helm", Progress::Silent).await?;
    let installation = Installation {
        kubeconfig: cluster.kubeconfig(),
        context: None,
        helm: &helm,
        chart: &chart,
        image: "devcluster.local/dbclaim:0123456789ab",
        values: &json!({"log": {"level": "debug"}}),
        deadline: Duration::from_secs(2),
    };
    let outcome = operator::install(installation).await;
    let Err(InstallError::NotAvailable { seen, .. }) = outcome else {
        anyhow::bail!("{outcome:?}")
    };
    ensure!(
        seen.contains("Deployment Available=False") && seen.contains("is Pending"),
        "{seen}"
    );

    let wrong = Installation {
        values: &json!({"logs": {}}),
        ..installation
    };
    let outcome = operator::install(wrong).await;
    let Err(InstallError::Helm { said, .. }) = outcome else {
        anyhow::bail!("{outcome:?}")
    };
    ensure!(said.contains("logs"), "{said}");
    let outcome = operator::install(Installation {
        image: "localhost:5000/dbclaim",
        ..installation
    })
    .await;
    ensure!(matches!(outcome, Err(InstallError::Untagged(_))), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn an_operator_that_does_not_start_is_described() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let outcome = install_where_nothing_runs(&cluster).await;
    cluster.stop().await?;
    outcome
}

/// Installs the operator on a real node, and then once more, which must not restart it.
async fn install_twice(cluster: &Cluster, archive: &Path, image: &str) -> Result<()> {
    cluster.load_image(archive).await?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/dbclaim");
    let helm = programs::tool("helm", Progress::Silent).await?;
    let installation = Installation {
        kubeconfig: cluster.kubeconfig(),
        context: None,
        helm: &helm,
        chart: &chart,
        image,
        values: &json!(null),
        deadline: Duration::from_secs(60),
    };
    operator::install(installation).await?;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client()?, operator::NAMESPACE);
    let first = deployments.get("dbclaim").await?;
    operator::install(installation).await?;
    let second = deployments.get("dbclaim").await?;
    ensure!(
        first.metadata.generation == second.metadata.generation,
        "the second install changed the Deployment"
    );
    Ok(())
}

#[tokio::test]
async fn the_operator_serves_from_its_image_under_restricted() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        ensure!(
            std::env::var_os("CI").is_none(),
            "in CI this test must run, and nodes need root"
        );
        eprintln!("skipped: nodes need root");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cache = std::env::temp_dir().join(format!("devcluster-{}-installed", std::process::id()));
    let folder = cache.clone();
    let build = move || operator::build_image(&root, &folder, &mut |step| eprintln!("{step}"));
    let (archive, image) = tokio::task::spawn_blocking(build).await??;
    let cluster = Cluster::start(Options {
        profile: Profile::Node { nodes: 1 },
        ..Options::default()
    })
    .await?;
    let outcome = install_twice(&cluster, &archive, &image).await;
    cluster.stop().await?;
    std::fs::remove_dir_all(cache)?;
    outcome
}
