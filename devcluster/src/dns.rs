//! CoreDNS on the host, for pods and for whoever asks from the host, and a small resolver that asks it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::net::UdpSocket;

use crate::{
    address::Addresses,
    component,
    control_plane::{self, Site},
    pki::{Names, Subject},
    process::marked,
};

/// The name that is there in every cluster.
const ALWAYS_THERE: &str = "kubernetes.default.svc.cluster.local";
const LIMIT: Duration = Duration::from_secs(30);
/// How long one answer may take; this is a socket on the same machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// DNS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No port is free, or a kubeconfig could not be written.
    #[error(transparent)]
    Prepare(#[from] control_plane::Error),
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] crate::pki::Error),
    /// The configuration could not be written.
    #[error("writing the configuration of CoreDNS failed: {0}")]
    Write(#[source] std::io::Error),
    /// It did not come up.
    #[error(transparent)]
    Component(#[from] component::Error),
}

/// Starts CoreDNS on the bridge. Only names of the cluster are known, all others do not exist.
pub(crate) fn start(site: &Site, addresses: Addresses) -> Result<SocketAddr, Error> {
    let reader = Subject {
        common_name: "coredns",
        organization: Some("system:masters"),
    };
    site.authority.issue("coredns", reader, Names::default())?;
    let kubeconfig = site.kubeconfig("coredns")?;
    let port = control_plane::free_port(addresses.host(), 53)?;
    let (host, kubeconfig) = (addresses.host(), kubeconfig.display());
    let content = format!(
        "cluster.local:{port} in-addr.arpa:{port} {{\n\
         bind {host}\nerrors\n\
         kubernetes cluster.local in-addr.arpa {{\nkubeconfig {kubeconfig}\nttl 1\n}}\n}}\n\
         .:{port} {{\nbind {host}\nerrors\ntemplate ANY ANY {{\nrcode NXDOMAIN\n}}\n}}\n"
    );
    let file = site.folder.join("Corefile");
    fs::write(&file, content).map_err(Error::Write)?;
    let mut command = marked(site.programs.path("coredns"), &site.folder);
    command.arg("-conf").arg(file);
    site.components.spawn("coredns", command)?;
    Ok(SocketAddr::from((addresses.host(), port)))
}

/// Makes the Service through which pods reach CoreDNS, and waits until names resolve.
pub(crate) async fn ready(
    site: &Site,
    client: &Client,
    addresses: Addresses,
    dns: SocketAddr,
) -> Result<(), Error> {
    let probe = || async {
        publish(client, addresses, dns)
            .await
            .map_err(|error| error.to_string())?;
        resolve(dns, ALWAYS_THERE)
            .await
            .map_err(|error| error.to_string())
    };
    site.components.until("DNS to answer", LIMIT, probe).await?;
    Ok(())
}

async fn publish(client: &Client, addresses: Addresses, dns: SocketAddr) -> Result<(), kube::Error> {
    let ours = PatchParams::apply("devcluster").force();
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    let ports = |target: &str| {
        ["UDP", "TCP"].map(
            |protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, target: dns.port()}),
        )
    };
    let service_ports = ["UDP", "TCP"]
        .map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": 53}));
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns"},
        "spec": {"clusterIP": addresses.dns_service(), "ports": service_ports},
    });
    services.patch("kube-dns", &ours, &Patch::Apply(service)).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4", "ports": ports("port"), "endpoints": [{"addresses": [addresses.host()]}],
    });
    slices
        .patch("kube-dns", &ours, &Patch::Apply(slice))
        .await
        .map(drop)
}

/// A name could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The server could not be asked.
    #[error("asking {server} for {name:?} failed: {source}")]
    Ask {
        /// The DNS server.
        server: SocketAddr,
        /// What was asked for.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server did not answer within a second.
    #[error("{server} did not answer when asked for {name:?}")]
    NoAnswer {
        /// The DNS server.
        server: SocketAddr,
        /// What was asked for.
        name: String,
    },
    /// There is no IPv4 address of this name.
    #[error("{name:?} has no address in the cluster")]
    NoAddress {
        /// What was asked for.
        name: String,
    },
}

/// Asks a DNS server for the first IPv4 address of a full name.
pub(crate) async fn resolve(server: SocketAddr, name: &str) -> Result<IpAddr, ResolveError> {
    let failed = |source| ResolveError::Ask {
        server,
        name: name.to_owned(),
        source,
    };
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    socket.connect(server).await.map_err(failed)?;
    socket.send(&question(name)).await.map_err(failed)?;
    let mut answer = [0; 512];
    let received = tokio::time::timeout(ANSWER_LIMIT, socket.recv(&mut answer)).await;
    let length = received
        .map_err(|_| ResolveError::NoAnswer {
            server,
            name: name.to_owned(),
        })?
        .map_err(failed)?;
    let answer = answer.get(..length).unwrap_or_default();
    first_address(answer)
        .map(IpAddr::V4)
        .ok_or_else(|| ResolveError::NoAddress {
            name: name.to_owned(),
        })
}

/// A query (RFC 1035, section 4.1) for the A records of `name`.
fn question(name: &str) -> Vec<u8> {
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// The first A record of an answer to [`question`].
fn first_address(answer: &[u8]) -> Option<Ipv4Addr> {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let mut at = skip_name(answer, 12)? + 4;
    for _ in 0..number(6)? {
        at = skip_name(answer, at)?;
        let (kind, length) = (number(at)?, number(at + 8)?);
        at += 10;
        if let (1, Ok(octets)) = (
            kind,
            <[u8; 4]>::try_from(answer.get(at..at + usize::from(length))?),
        ) {
            return Some(octets.into());
        }
        at += usize::from(length);
    }
    None
}

/// The position behind a name, which ends with an empty label or a pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_behind_an_alias_is_found() {
        let mut answer = question("a.b");
        answer[7] = 2;
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 160, 128, 1]);
        assert_eq!(first_address(&answer), Some(Ipv4Addr::new(10, 160, 128, 1)));
    }

    #[test]
    fn a_truncated_or_empty_answer_has_no_address() {
        let answer = question("a.b");
        assert_eq!(first_address(&answer), None);
        assert_eq!(first_address(&answer[..9]), None);
    }
}
