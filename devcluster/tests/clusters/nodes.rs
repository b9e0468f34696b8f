//! Clusters with nodes that run real pods: root on Linux.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::outside::{Owner, assert_gone, processes};
use devcluster::{Cluster, Node, Options, Profile, Progress};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions::is_pod_running},
};
use rustix::process::Signal;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_and_are_reachable_and_what_a_killed_owner_left_is_removed() {
    if !can_run_nodes() {
        return;
    }
    let left = kill_an_owner_of_a_pod().await;
    let profile = Profile::Node { nodes: 2 };
    let options = Options {
        profile,
        name: None,
        progress: Progress::Stderr,
    };
    let cluster = Cluster::start(options).await.unwrap();
    left.assert_gone();

    let client = cluster.client().unwrap();
    let mut pods = Vec::new();
    for node in cluster.nodes() {
        pods.push(run_pod(&client, node.name()).await);
    }
    for pod in &pods {
        assert!(
            answers(SocketAddr::new(*pod, 1)),
            "the host reaches the pod {pod}"
        );
    }
    let [first, second] = cluster.nodes() else {
        panic!("two nodes were asked for")
    };
    assert!(
        node_reaches(first, pods[1]) && node_reaches(second, pods[0]),
        "nodes reach each other's pods"
    );
    let api = cluster
        .resolve("kubernetes.default.svc.cluster.local")
        .await
        .unwrap();
    assert!(
        answers(SocketAddr::new(api, 443)),
        "the host reaches the Service at {api}"
    );

    first.disconnect().unwrap();
    assert!(
        !answers(SocketAddr::new(pods[0], 1)),
        "a disconnected node's pod is not reached"
    );
    first.reconnect().unwrap();
    let kubelet = kubelet_of(first);
    first.restart_kubelet().await.unwrap();
    let another = kubelet_of(first);
    assert_ne!(another, kubelet, "another kubelet runs");
    assert!(answers(SocketAddr::new(pods[0], 1)), "its pods were left alone");
    second.crash().await.unwrap();
    assert!(
        !answers(SocketAddr::new(second.address().into(), 10250)),
        "no kubelet answers after a crash"
    );
    second.restart().await.unwrap();
    comes_back(&client, second.name()).await;

    let left = Left::of(cluster.dir(), cluster.nodes()[0].address().into(), 2);
    cluster.stop().await.unwrap();
    left.assert_gone();
}

/// Says why the tests of nodes do not run here. Where that must not happen, it is a failure.
fn can_run_nodes() -> bool {
    let can = cfg!(target_os = "linux") && rustix::process::geteuid().is_root();
    if !can {
        assert!(
            std::env::var_os("CI").is_none(),
            "tests of nodes need root on Linux"
        );
        eprintln!("skipped: nodes need root on Linux");
    }
    can
}

async fn kill_an_owner_of_a_pod() -> Left {
    let mut owner = Owner::spawn(
        &format!("test-node-{}", std::process::id()),
        &["--profile", "node"],
    );
    owner.wait_until_up();
    let kubeconfig = Kubeconfig::read_from(owner.folder.join("kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let bridge: IpAddr = config.cluster_url.host().unwrap().parse().unwrap();
    run_pod(&Client::try_from(config).unwrap(), "node1").await;
    let left = Left::of(&owner.folder, bridge, 1);
    owner.end(Signal::KILL);
    assert!(processes(&left.folder) >= 8, "a killed owner's programs run on");
    left
}

/// What a cluster made outside of its folder. The next cluster may use the same names, so it is remembered by
/// what the kernel calls it.
struct Left {
    folder: PathBuf,
    made: BTreeMap<PathBuf, u64>,
}

impl Left {
    fn of(folder: &Path, node_or_bridge: IpAddr, nodes: u8) -> Left {
        let IpAddr::V4(address) = node_or_bridge else {
            panic!("nodes have IPv4 addresses")
        };
        let index = address.octets()[2];
        let mut made = vec![PathBuf::from(format!("/sys/class/net/dbc{index}"))];
        for node in 1..=nodes {
            made.push(format!("/sys/class/net/dbc{index}v{node}").into());
            let trees = fs::read_dir("/sys/fs/cgroup")
                .unwrap()
                .flatten()
                .map(|tree| tree.path());
            let groups = trees
                .chain([PathBuf::from("/sys/fs/cgroup")])
                .map(|tree| tree.join(format!("dbc{index}n{node}")));
            made.extend(groups.filter(|group| group.exists()));
        }
        assert!(made.iter().all(|path| path.exists()), "{made:?}");
        let made = made
            .into_iter()
            .map(|path| (path.clone(), identity(&path).unwrap()))
            .collect();
        Left {
            folder: folder.to_owned(),
            made,
        }
    }

    fn assert_gone(&self) {
        assert_gone(&self.folder);
        for (path, then) in &self.made {
            assert_ne!(identity(path), Some(*then), "{} is left", path.display());
        }
        for folder in ["/var/log/containers", "/run/containerd/s", "/var/lib/cni/results"] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let ours = |path: &Path| fs::read_link(path).is_ok_and(|target| target.starts_with(&self.folder));
            assert!(
                !entries.map(|entry| entry.path()).any(|path| ours(&path)),
                "links in {folder} are left"
            );
        }
    }
}

fn identity(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}

/// Runs a pod on a node and returns its address, which is one of those that the node may deal out.
async fn run_pod(client: &Client, node: &str) -> IpAddr {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({
        "metadata": {"name": format!("on-{node}")},
        "spec": {"nodeName": node, "containers": [{"name": "pause", "image": "devcluster.local/pause:1"}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let name = format!("on-{node}");
    let running = await_condition(pods, &name, is_pod_running());
    let pod = tokio::time::timeout(SOON, running)
        .await
        .expect("the pod runs soon")
        .unwrap()
        .unwrap();
    pod.status.unwrap().pod_ip.unwrap().parse().unwrap()
}

/// Waits until the pod of a restarted node runs in a new sandbox.
async fn comes_back(client: &Client, node: &str) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let restarted = |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        statuses.is_some_and(|statuses| {
            statuses
                .iter()
                .any(|status| status.ready && status.restart_count > 0)
        })
    };
    let name = format!("on-{node}");
    let running = await_condition(pods, &name, restarted);
    tokio::time::timeout(SOON, running)
        .await
        .expect("the pod comes back soon")
        .unwrap();
}

/// The process of a node's kubelet.
fn kubelet_of(node: &Node) -> PathBuf {
    let mark = format!("--hostname-override={}\0", node.name());
    let ours = node.folder().to_string_lossy().into_owned();
    let is_kubelet = |process: &Path| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        command.contains("kubelet\0") && command.contains(&mark) && command.contains(&ours)
    };
    let mut processes = fs::read_dir("/proc").unwrap().flatten().map(|it| it.path());
    processes.find(|it| is_kubelet(it)).expect("the kubelet runs")
}

/// Whether somebody at this address takes or refuses a connection, instead of not being there.
fn answers(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused && address.port() == 1,
    }
}

fn node_reaches(node: &Node, pod: IpAddr) -> bool {
    let namespace = node.address().octets();
    let net = format!("--net=/run/netns/dbc{}n{}", namespace[2], namespace[3] - 10);
    let script = format!("exec 3<>/dev/tcp/{pod}/1");
    let output = Command::new("nsenter")
        .args([&net, "timeout", "2", "bash", "-c", &script])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).contains("refused")
}
