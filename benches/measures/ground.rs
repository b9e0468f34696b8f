//! A cluster with fake nodes and the contender installed, its program run beside the cluster under its own account,
//! so that its memory and CPU time are read directly and its requests are told apart.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use devcluster::operator::{self, Installation};
use devcluster::{Cluster, Options, Profile, Progress, programs};
use futures::StreamExt as _;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::audit::{self, Audit, Mark, Request};
use crate::contender::Contender;
use crate::histogram::Histogram;

/// How long anything may take before a run is given up.
pub const DEADLINE: Duration = Duration::from_secs(900);
/// An operator is at rest when it has written nothing for this long.
const REST: Duration = Duration::from_secs(3);
/// Nodes of a cluster; each takes any number of Pods.
pub const NODES: u16 = 3;
/// The image's name; no fake node ever pulls it.
const IMAGE: &str = "devcluster.local/dbclaim:measured";

/// Where is measured.
pub struct Ground {
    /// The cluster.
    pub cluster: Cluster,
    /// Its administrator.
    pub client: Client,
    /// Who is measured.
    pub contender: Arc<dyn Contender>,
    kubeconfig: PathBuf,
}

/// A running operator. It is killed when it is dropped.
pub struct Operator {
    child: Child,
    listen: SocketAddr,
    /// Process id.
    pub pid: u32,
}

impl Ground {
    /// Starts the cluster and installs the contender, whose program does not run yet.
    pub async fn set(contender: Arc<dyn Contender>, nodes: u16) -> anyhow::Result<Self> {
        let cluster = Cluster::start(Options {
            profile: Profile::Fake { nodes },
            name: None,
            progress: Progress::Stderr,
        });
        let cluster = cluster.await?;
        let helm = programs::tool("helm", Progress::Stderr).await?;
        operator::install(Installation {
            kubeconfig: cluster.kubeconfig(),
            context: None,
            helm: &helm,
            chart: &contender.chart(),
            image: IMAGE,
            values: &Value::Null,
            deadline: Duration::from_secs(120),
        })
        .await?;
        let client = cluster.client()?;
        let kubeconfig = account(&cluster, &client, contender.account()).await?;
        Ok(Self {
            cluster,
            client,
            contender,
            kubeconfig,
        })
    }

    /// Name of the contender in the audit log.
    pub fn user(&self) -> String {
        let (namespace, name) = self.contender.account();
        format!("system:serviceaccount:{namespace}:{name}")
    }

    /// Starts the operator's program and waits until it is ready.
    pub async fn operate(&self) -> anyhow::Result<Operator> {
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.cluster.dir().join("log/operator.log"))?;
        let child = self
            .contender
            .command(&self.kubeconfig, listen)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.contender.program().display()))?;
        let pid = child.id().context("the operator has ended already")?;
        let operator = Operator { child, listen, pid };
        let started = Instant::now();
        while !is_ready(listen).await {
            if started.elapsed() > DEADLINE {
                bail!("the operator is not ready after {DEADLINE:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(operator)
    }

    /// A new namespace.
    pub async fn namespace(&self, name: &str) -> anyhow::Result<String> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(name.to_owned())
    }

    /// The audit log.
    pub fn audit(&self) -> Audit<'_> {
        Audit(self.cluster.audit_log())
    }

    /// The operator's requests between a moment and now.
    pub fn since(&self, from: Mark) -> anyhow::Result<Vec<Request>> {
        let audit = self.audit();
        audit.requests(&self.user(), from, audit.mark()?)
    }

    /// Waits until the operator has stopped writing.
    pub async fn rest(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let mark = self.audit().mark()?;
            tokio::time::sleep(REST).await;
            let writes = audit::writes(&self.since(mark)?);
            if writes == 0 {
                return Ok(());
            }
            if started.elapsed() > DEADLINE {
                bail!("the operator does not come to rest: {writes} writes in the last {REST:?}");
            }
        }
    }

    /// The operator's requests in the next while.
    pub async fn window(&self, length: Duration) -> anyhow::Result<Vec<Request>> {
        let mark = self.audit().mark()?;
        // The window itself is what is measured.
        tokio::time::sleep(length).await;
        self.since(mark)
    }

    /// Waits until so many claims in a namespace are Ready.
    pub async fn ready(&self, namespace: &str, count: usize) -> anyhow::Result<()> {
        let claims: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &self.contender.claims());
        let mut ready = std::collections::HashSet::new();
        let wait = async {
            let mut seen = watcher(claims, watcher::Config::default())
                .default_backoff()
                .applied_objects()
                .boxed();
            while let Some(claim) = seen.next().await {
                let Ok(claim) = claim else { continue };
                if is_true(&claim, "Ready") {
                    ready.insert(claim.name_any());
                } else {
                    ready.remove(&claim.name_any());
                }
                if ready.len() >= count {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        waited.with_context(|| format!("{} of {count} claims are Ready after {DEADLINE:?}", ready.len()))
    }

    /// Lets no Pod on any node, or lets them again.
    pub async fn cordon(&self, cordoned: bool) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        for node in nodes.list(&kube::api::ListParams::default()).await?.items {
            let patch = Patch::Merge(json!({"spec": {"unschedulable": cordoned}}));
            nodes
                .patch(&node.name_any(), &PatchParams::default(), &patch)
                .await?;
        }
        Ok(())
    }
}

impl Operator {
    /// What it says of the time that its passes took.
    pub async fn passes(&self, contender: &dyn Contender) -> anyhow::Result<Histogram> {
        let page = get(self.listen, "/metrics").await.context("no metrics")?;
        Ok(Histogram::read(&page, contender.pass_metric()))
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no process id")?, rustix::process::Signal::TERM)?;
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let status = ended.context("the operator does not end within 60 s of SIGTERM")??;
        anyhow::ensure!(status.success(), "the operator ended with {status}");
        Ok(())
    }
}

/// Whether a condition of a claim is True.
pub fn is_true(claim: &DynamicObject, condition: &str) -> bool {
    let conditions = claim.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|it| it["type"] == condition && it["status"] == "True")
}

async fn is_ready(listen: SocketAddr) -> bool {
    get(listen, "/readyz")
        .await
        .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// An answer, with its head.
async fn get(listen: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(listen).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A kubeconfig that speaks for a ServiceAccount.
async fn account(
    cluster: &Cluster,
    client: &Client,
    (namespace, name): (&str, &str),
) -> anyhow::Result<PathBuf> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 86_400}}))?;
    let made = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await?;
    let token = made.status.context("no token was made")?.token;
    let mut config: Value = serde_json::from_slice(&std::fs::read(cluster.kubeconfig())?)?;
    config["users"][0]["user"] = json!({"token": token});
    let path = cluster.dir().join("operator.kubeconfig");
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}
