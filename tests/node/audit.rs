//! Requests, counted at the API server.

use std::fs;

use serde_json::Value;

use crate::world::World;

/// User name of the operator.
pub const OPERATOR: &str = "system:serviceaccount:dbclaim-system:dbclaim";

/// One answered request.
#[derive(Debug)]
pub struct Request {
    pub verb: String,
    pub resource: String,
    pub name: String,
    pub namespace: String,
    /// The Pod whose token was shown.
    pub pod: String,
    /// Status of the answer.
    pub code: u64,
}

/// Requests of a user about objects in a namespace, beginning at a byte of the log.
pub fn requests(world: &World, user: &str, namespace: &str, from: u64) -> Vec<Request> {
    let mut all = all(world, user, from);
    all.retain(|it| it.namespace == namespace);
    all
}

/// Requests of a user, beginning at a byte of the log.
pub fn all(world: &World, user: &str, from: u64) -> Vec<Request> {
    let log = fs::read(world.stage.cluster.audit_log()).unwrap();
    let from = usize::try_from(from).unwrap();
    let text = String::from_utf8_lossy(log.get(from..).unwrap_or_default());
    let events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["stage"] == "ResponseComplete" && event["user"]["username"] == user)
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let sub = object["subresource"]
                .as_str()
                .map(|it| format!("/{it}"))
                .unwrap_or_default();
            Request {
                verb: text(&event["verb"]),
                resource: text(&object["resource"]) + &sub,
                name: text(&object["name"]),
                namespace: text(&object["namespace"]),
                code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
                pod: text(&event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]),
            }
        })
        .collect()
}

/// Where the log ends now.
pub fn end(world: &World) -> u64 {
    fs::metadata(world.stage.cluster.audit_log()).unwrap().len()
}

impl Request {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str())
    }
}
