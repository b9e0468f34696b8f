//! SIGTERM in the middle of work: what runs is finished, nothing new is begun, the Lease is given back.

use std::net::SocketAddr;

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cluster::Suite;
use crate::program::{Program, kubeconfig};
use crate::scene::{Scene, until};

/// More than can be worked on before the signal comes.
const CLAIMS: usize = 40;

/// A way to the API server on which answers can be held back.
struct Way {
    address: SocketAddr,
    held: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Way {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let held = watch::Sender::new(false);
        let gate = held.clone();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                tokio::spawn(carry(client, server, gate.subscribe()));
            }
        });
        Self { address, held, task }
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut held: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let questions = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let read = from_server.read(&mut bytes).await?;
            let open = held.wait_for(|held| !held).await.is_ok();
            if read == 0 || !open {
                return Ok::<_, std::io::Error>(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    tokio::select! {
        _ = questions => {}
        _ = answers => {}
    }
}

/// Who holds the Lease; empty for nobody.
async fn holder(scene: &Scene) -> Result<String, String> {
    let leases: Api<Lease> = scene.api();
    let lease = leases.get_opt("dbclaim").await;
    let lease = lease.map_err(|error| error.to_string())?;
    Ok(lease.and_then(|it| it.spec?.holder_identity).unwrap_or_default())
}

/// What stands for a claim whose first wave was begun.
async fn begun(scene: &Scene) -> Result<Vec<String>, String> {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=dbclaim");
    let accounts: Api<ServiceAccount> = scene.api();
    let accounts = accounts.list(&ours).await.map_err(|error| error.to_string())?;
    Ok(accounts.iter().map(ResourceExt::name_any).collect())
}

async fn create_claims(scene: &Scene) {
    let claims: Api<DatabaseClaim> = scene.api();
    let create = (0..CLAIMS).map(|number| {
        let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
            "metadata": {"name": format!("claim-{number}")},
            "spec": {"engine": "postgres", "size": "small", "team": "checkout"}});
        let (claims, claim) = (claims.clone(), serde_json::from_value(claim).unwrap());
        async move { claims.create(&PostParams::default(), &claim).await.map(drop) }
    });
    futures::future::try_join_all(create).await.unwrap();
}

pub async fn sigterm_in_the_middle_of_work_finishes_what_runs_and_releases_the_lease(suite: &Suite) {
    let scene = Scene::empty(suite).await;
    let server = suite.config().cluster_url;
    let server = format!("{}:{}", server.host().unwrap(), server.port_u16().unwrap());
    let way = Way::to(server.parse().unwrap()).await;
    let address = format!("https://{}", way.address);
    let kubeconfig = kubeconfig("shutdown", suite.kubeconfig(), Some(&address), None);
    let settings = [
        ("DBCLAIM_LEADER_ELECT", "true"),
        ("DBCLAIM_LEASE_NAMESPACE", scene.namespace.as_str()),
        ("DBCLAIM_CONCURRENCY", "1"),
    ];
    let mut program = Program::start(&kubeconfig, &scene.namespace, &settings);
    let led = until("a leader", async || match holder(&scene).await? {
        nobody if nobody.is_empty() => Err("nobody".into()),
        _ => Ok(()),
    });
    led.await.unwrap();
    create_claims(&scene).await;
    until("work", async || match begun(&scene).await?.len() {
        0 => Err("none".into()),
        _ => Ok(()),
    })
    .await
    .unwrap();
    way.held.send_replace(true);
    program.signal(Signal::SIGTERM);
    until("the signal taken", async || {
        let log = program.log();
        if log.contains("finishing what is under way") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await
    .unwrap();
    // A pass is under way, and with it everything that comes after.
    assert!(program.is_running(), "{}", program.log());
    assert_ne!(
        holder(&scene).await.unwrap(),
        "",
        "the lease was released before the work was done"
    );
    way.held.send_replace(false);
    let (status, log) = program.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(
        holder(&scene).await.unwrap(),
        "",
        "the lease was not released: {log}"
    );
    let begun = begun(&scene).await.unwrap();
    no_pass_was_cut_off(&scene, &begun, &log).await;
    way.task.abort();
    let _ = std::fs::remove_file(kubeconfig);
}

/// The status is the last that a pass writes.
async fn no_pass_was_cut_off(scene: &Scene, begun: &[String], log: &str) {
    println!("{} of {CLAIMS} claims were begun", begun.len());
    assert!(begun.len() < CLAIMS, "it went on after the signal");
    let claims: Api<DatabaseClaim> = scene.api();
    for claim in claims.list(&ListParams::default()).await.unwrap() {
        let base = format!("{}-db", claim.name_any());
        let said = claim.status.and_then(|it| it.observed_generation).is_some();
        assert_eq!(said, begun.contains(&base), "{base}: a pass was cut off; {log}");
    }
}
