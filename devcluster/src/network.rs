//! The network of a cluster with nodes: a bridge on the host and one network namespace per node.
//!
//! No namespace has a default route and the ranges of pods and services end in a blackhole on the host, so that
//! nothing ever leaves the machine. The host itself reaches pods and Services through routes to the nodes.

use std::{io, path::PathBuf};

use crate::{address::Addresses, command};

/// Metric of the routes that swallow what no node answers for: worse than any real route.
const LAST_RESORT: &str = "metric 4000";

/// The network could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] command::Error);

/// Whether no route of this machine points into the ranges of this cluster and its bridge is not there.
pub(crate) fn is_free(addresses: Addresses) -> Result<bool, Error> {
    for range in [addresses.node_range(), addresses.inner_range()] {
        if !command::line(&format!("ip -4 route show root {range}"))?
            .trim()
            .is_empty()
        {
            return Ok(false);
        }
    }
    Ok(!PathBuf::from(format!("/sys/class/net/{}", addresses.bridge())).exists())
}

/// Makes the bridge, the nodes' namespaces and all routes.
pub(crate) fn create(addresses: Addresses, nodes: u8) -> Result<(), Error> {
    // Best effort: it is often built in, and without it only pods that meet themselves through a Service suffer.
    let _ = command::line("modprobe -q br_netfilter");
    let bridge = addresses.bridge();
    command::line(&format!("ip link add {bridge} type bridge"))?;
    command::line(&format!("ip addr add {}/24 dev {bridge}", addresses.host()))?;
    command::line(&format!("ip link set {bridge} up"))?;
    command::line(&format!(
        "ip route add blackhole {} {LAST_RESORT}",
        addresses.inner_range()
    ))?;
    for node in 1..=nodes {
        create_node(addresses, node, nodes)?;
        let (pods, via) = (addresses.node_pod_range(node), addresses.node(node));
        command::line(&format!("ip route add {pods} via {via} dev {bridge}"))?;
    }
    route_services(addresses, 1)
}

/// Makes the host reach Services through this node, whose kube-proxy then picks the pod.
pub(crate) fn route_services(addresses: Addresses, node: u8) -> Result<(), Error> {
    let (services, via, bridge) = (
        addresses.service_range(),
        addresses.node(node),
        addresses.bridge(),
    );
    command::line(&format!("ip route replace {services} via {via} dev {bridge}"))?;
    Ok(())
}

/// Plugs a node's cable in or pulls it, which is what a network partition looks like to the cluster.
pub(crate) fn set_cable(addresses: Addresses, node: u8, state: Cable) -> Result<(), Error> {
    let state = match state {
        Cable::Plugged => "up",
        Cable::Pulled => "down",
    };
    command::line(&format!("ip link set {} {state}", addresses.cable(node)))?;
    Ok(())
}

/// State of a node's cable.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cable {
    Plugged,
    Pulled,
}

/// The file that names a namespace.
pub(crate) fn namespace_file(addresses: Addresses, node: u8) -> PathBuf {
    PathBuf::from(format!("/run/netns/{}", addresses.namespace(node)))
}

/// Removes all that [`create`] made, or the part of it that is there.
pub(crate) fn remove(addresses: Addresses, nodes: u8) -> Result<(), Error> {
    for node in 1..=nodes {
        if namespace_file(addresses, node).exists() {
            command::line(&format!("ip netns del {}", addresses.namespace(node)))?;
        }
        remove_link(&addresses.cable(node))?;
    }
    remove_link(&addresses.bridge())?;
    let blackhole = format!("blackhole {}", addresses.inner_range());
    if !command::line(&format!("ip -4 route show type {blackhole}"))?
        .trim()
        .is_empty()
    {
        command::line(&format!("ip route del {blackhole} {LAST_RESORT}"))?;
    }
    Ok(())
}

fn create_node(addresses: Addresses, node: u8, nodes: u8) -> Result<(), Error> {
    let (name, cable) = (addresses.namespace(node), addresses.cable(node));
    command::line(&format!("ip netns add {name}"))?;
    command::line(&format!(
        "ip link add {cable} type veth peer name eth0 netns {name}"
    ))?;
    command::line(&format!("ip link set {cable} master {} up", addresses.bridge()))?;
    command::line(&format!("ip -n {name} link set lo up"))?;
    command::line(&format!(
        "ip -n {name} addr add {}/24 dev eth0",
        addresses.node(node)
    ))?;
    command::line(&format!("ip -n {name} link set eth0 up"))?;
    // kube-proxy rewrites the destination only after a first look at the routes, which must not come to nothing.
    command::line(&format!(
        "ip -n {name} route add {} dev eth0",
        addresses.service_range()
    ))?;
    for other in (1..=nodes).filter(|other| *other != node) {
        let (pods, via) = (addresses.node_pod_range(other), addresses.node(other));
        command::line(&format!("ip -n {name} route add {pods} via {via}"))?;
    }
    set_kernel(addresses, node)
}

/// A node forwards for its pods, and kube-proxy must see what goes from pod to pod over the node's own bridge.
/// The second setting is there only when the kernel has bridge filtering.
fn set_kernel(addresses: Addresses, node: u8) -> Result<(), Error> {
    let script = "echo 1 > /proc/sys/net/ipv4/ip_forward; \
                  f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 1 > $f";
    let net = format!("--net={}", namespace_file(addresses, node).display());
    command::run("nsenter", [net.as_str(), "sh", "-c", script])?;
    Ok(())
}

fn remove_link(name: &str) -> Result<(), Error> {
    // Deleting a namespace deletes its cable a moment later, so that it may vanish between look and deed.
    match command::line(&format!("ip link del {name}")) {
        Err(command::Error::Failed { said, .. }) if said.contains("Cannot find device") => Ok(()),
        Err(command::Error::Run { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => Ok(outcome.map(drop)?),
    }
}
