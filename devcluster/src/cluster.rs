//! One throw-away cluster: how it is started, what its users get from it, and how it goes.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::try_join_all;
use kube::{Client, Config};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Progress, Step, addons,
    address::Addresses,
    claim::{self, Claim},
    component::{self, Components},
    control_plane::{self, Plan, Site},
    dns, fake, network,
    node::{self, Node},
    pki::{self, Authority},
    prerequisites,
    programs::{self, Programs},
    record,
};

/// The most nodes that one cluster can have.
const MOST_NODES: u8 = 5;
/// The most nodes that kwok plays in one cluster.
const MOST_FAKE_NODES: u16 = 1000;
/// How often [`Cluster::failed`] looks after the programs.
const HEALTH_POLL: Duration = Duration::from_millis(500);

/// How much of a cluster there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// API server and controllers, but nothing that runs a pod. Any user can start it.
    #[default]
    Api,
    /// Nodes that only say that their pods run (kwok), each with room for all pods that there are; volumes are
    /// folders that nobody mounts. Any user can start it.
    Fake {
        /// How many, 1 to 1,000.
        nodes: u16,
    },
    /// Real nodes that run real pods. Needs root on Linux.
    Node {
        /// How many, 1 to 5.
        nodes: u8,
    },
}

/// What kind of cluster to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How much of a cluster there is.
    pub profile: Profile,
    /// 1 to 32 characters of `a-z`, `0-9` and `-`; by default one that nobody uses.
    pub name: Option<String>,
    /// Where progress is shown.
    pub progress: Progress,
}

/// A cluster could not be started, used or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number of fake nodes is not 1 to 1,000.
    #[error("{0} fake nodes were asked for; a cluster has 1 to {MOST_FAKE_NODES}")]
    FakeNodeCount(u16),
    /// The number of nodes is not 1 to 5.
    #[error("{0} nodes were asked for; a cluster has 1 to {MOST_NODES}")]
    NodeCount(u8),
    /// The system lacks something.
    #[error(transparent)]
    Prerequisites(#[from] prerequisites::Error),
    /// The Kubernetes programs could not be had.
    #[error(transparent)]
    Programs(#[from] programs::Error),
    /// There is no place for the cluster.
    #[error(transparent)]
    Claim(#[from] claim::Error),
    /// The folder of logs could not be made.
    #[error("making the folder for logs failed: {0}")]
    Logs(#[source] std::io::Error),
    /// The certificates could not be made.
    #[error(transparent)]
    Certificates(#[from] pki::Error),
    /// The network could not be made.
    #[error("making the network of the nodes failed: {0}")]
    Network(#[from] network::Error),
    /// The control plane did not come up.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// DNS did not come up.
    #[error(transparent)]
    Dns(#[from] dns::Error),
    /// The fake nodes did not come up.
    #[error(transparent)]
    Fake(#[from] fake::Error),
    /// A node did not come up or could not be used.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// A program ended although nobody stopped it.
    #[error(transparent)]
    Component(#[from] component::Error),
    /// A name could not be resolved.
    #[error(transparent)]
    Resolve(#[from] dns::ResolveError),
    /// The cluster has no DNS because it has no nodes.
    #[error("the cluster was started without nodes and so has no DNS")]
    NoDns,
    /// The image that every pod needs could not be had.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// A background task panicked.
    #[error("a background task of the cluster ended unexpectedly: {0}")]
    Task(#[from] JoinError),
}

/// A running cluster. It lives as long as this value: dropping it removes it, as does [`Cluster::stop`], which
/// tells when that fails.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    nodes: Vec<Node>,
    dns: Option<SocketAddr>,
    kubeconfig: PathBuf,
    audit_log: PathBuf,
    site: Arc<Site>,
    /// Ends what runs beside the cluster when it is dropped.
    shutdown: DropGuard,
    /// Dropped last: this removes everything.
    claim: Claim,
}

impl Cluster {
    /// Starts a cluster and waits until it is usable: pods can be created in the namespace `default`, and in the
    /// profile `node` all nodes are Ready and DNS answers.
    ///
    /// Cancelling (dropping) this future removes what was started so far.
    pub async fn start(options: Options) -> Result<Cluster, Error> {
        let Options {
            profile,
            name,
            progress,
        } = options;
        match profile {
            Profile::Api => {}
            Profile::Fake { nodes } if (1..=MOST_FAKE_NODES).contains(&nodes) => {}
            Profile::Fake { nodes } => return Err(Error::FakeNodeCount(nodes)),
            Profile::Node { nodes } if (1..=MOST_NODES).contains(&nodes) => {}
            Profile::Node { nodes } => return Err(Error::NodeCount(nodes)),
        }
        prerequisites::ensure_profile(profile, progress).await?;
        let programs = Programs::resolve(profile, progress).await?;
        let step = progress.step("starting Kubernetes");
        step.detail("removing what killed runs left behind");
        let claim = spawn_blocking(move || Claim::take(name.as_deref(), profile)).await??;
        let cluster = match claim.record().addresses() {
            None => start_api(claim, programs, profile, &step).await?,
            Some(addresses) => start_nodes(claim, programs, addresses, &step).await?,
        };
        step.finish();
        Ok(cluster)
    }

    /// The name under which the command line finds the cluster.
    pub fn name(&self) -> &str {
        &self.claim.record().name
    }

    /// The administrator's kubeconfig, for programs on this machine.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client that is the cluster's administrator. Each call makes a new one, which belongs to the tokio runtime
    /// that it is called in.
    pub fn client(&self) -> Result<Client, Error> {
        Ok(control_plane::client(self.config.clone())?)
    }

    /// How to reach the API server as its administrator, for clients of one's own.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// The API server's audit log: one JSON event (`audit.k8s.io/v1`, level Metadata, without bodies) per line
    /// and request, complete as soon as the request is answered. `user.username` and `userAgent` say who asked.
    pub fn audit_log(&self) -> &Path {
        &self.audit_log
    }

    /// The folder of all files of the cluster; `log/` is in it.
    pub fn dir(&self) -> &Path {
        self.claim.folder()
    }

    /// The nodes; none in the profile `api`.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The DNS server that knows the names of the cluster, reachable from the host; only with nodes.
    pub fn dns(&self) -> Option<SocketAddr> {
        self.dns
    }

    /// The address of a full name such as `web.default.svc.cluster.local`.
    pub async fn resolve(&self, name: &str) -> Result<IpAddr, Error> {
        Ok(dns::resolve(self.dns.ok_or(Error::NoDns)?, name).await?)
    }

    /// The path of a program that the cluster uses, such as `kubectl` or `ctr`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.site.programs.path(name)
    }

    /// Makes an image from an OCI archive known to every node.
    pub async fn load_image(&self, archive: &Path) -> Result<(), Error> {
        try_join_all(self.nodes.iter().map(|node| node.load_image(archive))).await?;
        Ok(())
    }

    /// Waits until a program of the cluster ends by itself, and says which and why.
    pub async fn failed(&self) -> Error {
        let mut clock = tokio::time::interval(HEALTH_POLL);
        loop {
            clock.tick().await;
            if let Err(error) = self.site.components.check() {
                return error.into();
            }
        }
    }

    /// Removes the cluster and waits until all of it is gone.
    pub async fn stop(self) -> Result<(), Error> {
        let Cluster {
            claim,
            site,
            shutdown,
            ..
        } = self;
        drop(shutdown);
        let removed = spawn_blocking(move || claim.release()).await?;
        site.components.reap().await;
        Ok(removed?)
    }
}

impl Cluster {
    fn new(claim: Claim, site: Arc<Site>, config: Config, shutdown: DropGuard) -> Cluster {
        let (kubeconfig, audit_log) = (
            record::kubeconfig(&site.folder),
            control_plane::audit_log(&site.folder),
        );
        Cluster {
            config,
            nodes: Vec::new(),
            dns: None,
            kubeconfig,
            audit_log,
            site,
            shutdown,
            claim,
        }
    }

    fn with_nodes(self, nodes: Vec<Node>, dns: SocketAddr) -> Cluster {
        Cluster {
            nodes,
            dns: Some(dns),
            ..self
        }
    }
}

fn prepare(claim: &Claim, programs: Programs, plan: Plan) -> Result<Arc<Site>, Error> {
    let folder = claim.folder().to_owned();
    let authority = Authority::create(folder.join("pki"))?;
    let components = Components::new(&folder).map_err(Error::Logs)?;
    Ok(Arc::new(Site {
        folder,
        programs,
        authority,
        components,
        plan,
    }))
}

async fn start_api(
    claim: Claim,
    programs: Programs,
    profile: Profile,
    step: &Step,
) -> Result<Cluster, Error> {
    let site = prepare(&claim, programs, Plan::local()?)?;
    control_plane::start_api(&site)?;
    step.detail("API server, then controllers");
    let config = control_plane::config(&site).await?;
    let client = control_plane::ready(&site, config.clone()).await?;
    control_plane::start_controllers(&site)?;
    step.detail("controllers");
    let shutdown = CancellationToken::new();
    if let Profile::Fake { nodes } = profile {
        step.detail("controllers and fake nodes");
        control_plane::start_scheduler(&site)?;
        fake::start(&site, &client, nodes).await?;
        fake::ready(&site, &client).await?;
        addons::spawn(&site, &client, &shutdown);
    }
    control_plane::accounts_ready(&site, &client).await?;
    Ok(Cluster::new(claim, site, config, shutdown.drop_guard()))
}

async fn start_nodes(
    claim: Claim,
    programs: Programs,
    addresses: Addresses,
    step: &Step,
) -> Result<Cluster, Error> {
    let count = claim.record().nodes;
    network::create(addresses, count)?;
    let site = prepare(&claim, programs, Plan::bridged(addresses)?)?;
    control_plane::start_api(&site)?;
    let nodes: Vec<_> = (1..=count)
        .map(|number| Node::new(number, addresses, site.clone()))
        .collect();
    step.detail("API server and containerd, then nodes and DNS");
    let config = control_plane::config(&site).await?;
    let (client, ()) = tokio::try_join!(
        async {
            control_plane::ready(&site, config.clone())
                .await
                .map_err(Error::from)
        },
        start_runtimes(&nodes)
    )?;
    control_plane::start_controllers(&site)?;
    control_plane::start_scheduler(&site)?;
    node::prepare_proxy(&site)?;
    try_join_all(nodes.iter().map(|node| node.register(&client))).await?;
    for node in &nodes {
        node.start_kubelet()?;
    }
    let dns = dns::start(&site, addresses)?;
    step.detail("nodes, controllers and DNS");
    tokio::try_join!(
        async {
            control_plane::accounts_ready(&site, &client)
                .await
                .map_err(Error::from)
        },
        async {
            dns::ready(&site, &client, addresses, dns)
                .await
                .map_err(Error::from)
        },
        async {
            try_join_all(nodes.iter().map(|node| node.ready(&client)))
                .await
                .map_err(Error::from)
        },
    )?;
    let shutdown = CancellationToken::new();
    addons::spawn(&site, &client, &shutdown);
    Ok(Cluster::new(claim, site, config, shutdown.drop_guard()).with_nodes(nodes, dns))
}

/// Starts containerd on every node and gives it the images that it cannot do without.
async fn start_runtimes(nodes: &[Node]) -> Result<(), Error> {
    try_join_all(nodes.iter().map(|node| async {
        node.start_containerd()?;
        node.containerd_ready().await?;
        addons::import_images(node).await
    }))
    .await?;
    Ok(())
}
