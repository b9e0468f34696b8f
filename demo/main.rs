//! `cargo demo`: from a fresh clone to an answered query on a real Kubernetes.
#![expect(unreachable_pub, reason = "modules of one program")]
#![expect(clippy::print_stdout, reason = "its purpose is to print")]

mod binding;
mod external;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use devcluster::operator::{Setting, Stage};
use devcluster::{Progress, with_interrupt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use binding::Binding;
use dbclaim::api::v1::DatabaseClaim;

const NAMESPACE: &str = "demo";
const CLAIM: &str = "orders";
/// The engine image that the built-in class uses for the default version.
const ENGINE_IMAGE: &str = "docker.io/library/postgres:17";

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Starts a Kubernetes on this machine, installs the operator, applies examples/postgres.yaml, and connects.
#[derive(Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Args {
    /// End as soon as the query is answered, instead of staying up until Ctrl-C.
    #[arg(long)]
    exit: bool,

    /// Use the cluster of this kubeconfig context instead of an embedded one; its nodes must be able to get the
    /// image (a kind cluster is given it).
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let work = async {
        match &args.context {
            Some(context) => external::run(context, args.exit).await,
            None => Box::pin(embedded(args.exit)).await,
        }
    };
    match Box::pin(with_interrupt(work)).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
        // Ctrl-C is how a demo that stays up is ended.
        Err(_) => ExitCode::from(130),
    }
}

async fn embedded(exit: bool) -> anyhow::Result<()> {
    let stage = Box::pin(Stage::set(Setting {
        workspace: root(),
        name: None,
        nodes: 1,
        engines: &[ENGINE_IMAGE],
        values: &Value::Null,
        progress: Progress::Stderr,
    }))
    .await?;
    let client = stage.cluster.client()?;
    apply_example(&client).await?;
    watch::until_ready(&client, NAMESPACE, CLAIM).await?;
    let binding = Binding::read(&client, NAMESPACE, CLAIM).await?;
    let address = stage.cluster.resolve(binding.get("host")?).await?;
    query(&binding, address, binding.get("port")?.parse()?).await?;
    if exit {
        return Ok(stage.cluster.stop().await?);
    }
    println!("{}", what_next(&stage));
    let error = stage.cluster.failed().await;
    Err(error).context("the cluster stopped working")
}

async fn apply_example(client: &Client) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }});
    namespaces
        .patch(
            NAMESPACE,
            &PatchParams::apply("demo").force(),
            &Patch::Apply(namespace),
        )
        .await?;
    let path = root().join("examples/postgres.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    println!("\n$ kubectl -n {NAMESPACE} apply -f examples/postgres.yaml");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        println!("    {line}");
    }
    let claim: serde_json::Value =
        serde_saphyr::from_str(&text).context("examples/postgres.yaml is not YAML")?;
    let claims: Api<DatabaseClaim> = Api::namespaced(client.clone(), NAMESPACE);
    claims
        .patch(CLAIM, &PatchParams::apply("kubectl"), &Patch::Apply(claim))
        .await?;
    Ok(())
}

async fn query(binding: &Binding, address: std::net::IpAddr, port: u16) -> anyhow::Result<()> {
    println!(
        "\nConnecting with nothing but the Secret {CLAIM}-db-app: {}",
        binding.get("host")?
    );
    let database = binding
        .connect_as(binding.get("host")?, address, port)
        .await
        .context("cannot connect")?;
    let said = "Hello from a real database";
    let sql =
        "CREATE TABLE IF NOT EXISTS greeting (id bigint GENERATED ALWAYS AS IDENTITY, said text NOT NULL)";
    database.batch_execute(sql).await?;
    database
        .execute("INSERT INTO greeting (said) VALUES ($1)", &[&said])
        .await?;
    println!("    INSERT INTO greeting (said) VALUES ('{said}');");
    let row = database
        .query_one(
            "SELECT said, version() FROM greeting ORDER BY id DESC LIMIT 1",
            &[],
        )
        .await?;
    let (read, version): (String, String) = (row.get(0), row.get(1));
    anyhow::ensure!(read == said, "read back {read:?} instead of {said:?}");
    println!("    SELECT said FROM greeting;\n      → {read}");
    println!("    SELECT version();\n      → {version}");
    Ok(())
}

fn what_next(stage: &Stage) -> String {
    let kubectl = stage.cluster.program("kubectl");
    let path = kubectl
        .parent()
        .map(|folder| folder.display().to_string())
        .unwrap_or_default();
    format!(
        "
Everything stays up until Ctrl-C. In another terminal:

  export KUBECONFIG={} PATH={path}:$PATH
  kubectl -n {NAMESPACE} get dbclaim                          # the claim
  kubectl -n {NAMESPACE} describe dbclaim {CLAIM}             # its conditions, in sentences
  kubectl explain dbclaim.spec                        # every field
  kubectl -n {NAMESPACE} exec -it {CLAIM}-db-1-0 -- psql -h /run/dbclaim -U postgres app
  kubectl -n {NAMESPACE} delete pod {CLAIM}-db-1-0            # the row survives
  kubectl -n {NAMESPACE} delete dbclaim {CLAIM}               # the volume and the password stay …
  kubectl -n {NAMESPACE} apply -f examples/postgres.yaml      # … and are taken up again",
        stage.cluster.kubeconfig().display()
    )
}
