//! Which keys and certificates are to be made. What serves is kept, so that a pass makes none because it has
//! looked anew; and a server's certificate changes only to one that applications can verify already. Pure.

use jiff::Timestamp;

use super::observed::{Observed, SecretState};
use crate::certificate::{self, Keys, Work};
use crate::claim::ClaimId;

/// What is to be made. Each holds what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Keep(Keys),
    /// An authority beside those there are, and if there is none, a certificate of the server by it.
    Authority(Keys),
    /// A certificate of the server, by the newest authority.
    Server(Keys),
    /// Nothing; all authorities but the newest are dropped.
    Forget(Keys),
}

/// What is to be made for a claim; `None` where its Secrets were not read. `initialized`: there may be clients.
pub fn certificates(observed: &Observed, id: &ClaimId, initialized: bool, now: Timestamp) -> Option<Order> {
    let in_binding = match &observed.app {
        SecretState::Present { keys, .. } => keys.ca.as_str(),
        _ => "",
    };
    let keys = match &observed.admin {
        SecretState::Unread | SecretState::Made { .. } => return None,
        SecretState::Untried => return Some(Order::Authority(Keys::default())),
        // The key of the authority went with its Secret; what applications trust is trusted beside the new one
        // until they know that.
        SecretState::Absent => {
            let ca = if initialized { in_binding } else { "" };
            return Some(Order::Authority(Keys {
                ca: ca.to_owned(),
                ..Keys::default()
            }));
        }
        SecretState::Present { keys, .. } => (**keys).clone(),
    };
    if certificate::belong(&keys.ca, &keys.ca_key).is_err() {
        return Some(Order::Authority(keys));
    }
    // Applications must have had the authority before anything is shown that it has signed.
    let known = certificate::authorities(&keys.ca) == 1 || certificate::knows(in_binding, &keys.ca);
    if !serves(&keys, id, now) {
        return Some(if known {
            Order::Server(keys)
        } else {
            Order::Keep(keys)
        });
    }
    let due = certificate::next(&keys.ca, &keys.certificate);
    Some(match due.work {
        _ if due.at > now => Order::Keep(keys),
        Work::Authority => Order::Authority(keys),
        Work::Server if known => Order::Server(keys),
        Work::Forget if in_force(observed, id, &keys) => Order::Forget(keys),
        Work::Server | Work::Forget => Order::Keep(keys),
    })
}

/// Whether the server's certificate can be used, by every name.
fn serves(keys: &Keys, id: &ClaimId, now: Timestamp) -> bool {
    let hosts = id.hosts();
    let names = hosts.iter().map(String::as_str);
    certificate::belong(&keys.certificate, &keys.key).is_ok()
        && certificate::first(&keys.certificate)
            .and_then(|leaf| certificate::accepted(&leaf, &keys.ca, names, now))
            .is_ok()
}

/// Whether clients get to see the newest certificate, and no former one.
fn in_force(observed: &Observed, id: &ClaimId, keys: &Keys) -> bool {
    let shown = observed.current_report(id).and_then(|it| it.tls.as_ref());
    match (shown, fingerprints(keys)) {
        (Some(shown), Some([newest, _])) => shown.certificate == newest,
        _ => false,
    }
}

/// Fingerprints of the server's certificate and of `ca.crt`, as the agent reports them.
pub(super) fn fingerprints(keys: &Keys) -> Option<[String; 2]> {
    let leaf = certificate::first(&keys.certificate).ok()?;
    Some([
        certificate::fingerprint(&leaf),
        certificate::fingerprint(keys.ca.as_bytes()),
    ])
}
