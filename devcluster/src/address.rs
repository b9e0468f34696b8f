//! The names and addresses of one cluster with nodes, all derived from its index, so that clusters that run at
//! the same time never share any and leftovers can be found without a list.

use std::net::Ipv4Addr;

/// How many clusters with nodes one machine can run at once.
pub(crate) const CLUSTERS: u8 = 32;

/// First second octet of the pod and service ranges: cluster `i` uses `10.(160 + i).0.0/16`.
const FIRST_RANGE: u8 = 160;

/// The address plan of the cluster with this index (below [`CLUSTERS`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    index: u8,
}

impl Addresses {
    pub(crate) fn of(index: u8) -> Addresses {
        Addresses { index }
    }

    /// The bridge on the host that all nodes are plugged into.
    pub(crate) fn bridge(self) -> String {
        format!("dbc{}", self.index)
    }

    /// The host's end of the cable to a node (1, 2, …).
    pub(crate) fn cable(self, node: u8) -> String {
        format!("dbc{}v{node}", self.index)
    }

    /// Name of a node's network namespace, of its cgroup and of its pod network.
    pub(crate) fn namespace(self, node: u8) -> String {
        format!("dbc{}n{node}", self.index)
    }

    /// The host's address on the bridge.
    pub(crate) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.index, 1)
    }

    pub(crate) fn node(self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.index, 10 + node)
    }

    pub(crate) fn node_range(self) -> String {
        format!("10.89.{}.0/24", self.index)
    }

    /// Everything behind the nodes: pods and services.
    pub(crate) fn inner_range(self) -> String {
        format!("10.{}.0.0/16", self.octet())
    }

    pub(crate) fn pod_range(self) -> String {
        format!("10.{}.0.0/17", self.octet())
    }

    /// The range that the pods of one node get their addresses from.
    pub(crate) fn node_pod_range(self, node: u8) -> String {
        format!("10.{}.{node}.0/24", self.octet())
    }

    pub(crate) fn service_range(self) -> String {
        format!("10.{}.128.0/20", self.octet())
    }

    /// The Service `kubernetes`, always the first of the range.
    pub(crate) fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet(), 128, 1)
    }

    pub(crate) fn dns_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet(), 128, 10)
    }

    fn octet(self) -> u8 {
        FIRST_RANGE + self.index
    }
}
