//! From an object as the API server sends it to the few bytes that are kept of it.

use k8s_openapi::api::core::v1::{
    ContainerStatus, PersistentVolumeClaim, PersistentVolumeClaimStatus, PodCondition, PodStatus,
};
use k8s_openapi::api::discovery::v1::Endpoint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::live::{PodSpec, WorkloadSpec, WorkloadStatus};
use crate::api::wire::{self, Meta};
use crate::api::{KIND, key, label};
use crate::claim::quantity::Bytes;
use crate::plan::observed::{ContainerTrouble, Detail, Growth, LastEnd, Pod, Volume, Workload};
use crate::render::{DATABASE, Kind};

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Version.
    pub resource_version: String,
    /// Claim that its label names.
    pub claim: Option<String>,
    /// Whether it has our `managed-by` label.
    pub labelled: bool,
    /// Controller, if it has one: kind, name and UID.
    pub controller: Option<(String, String, String)>,
    /// Whether it has a deletionTimestamp.
    pub deleting: bool,
    /// Value of the `applied` annotation.
    pub applied: Option<String>,
    /// Team label.
    pub team: Option<String>,
    /// Fingerprint of the fields that our manager owns.
    pub fingerprint: u64,
    /// What is particular to the kind.
    pub detail: Detail,
}

/// Reduces metadata; `None` for an object without name or UID, which no API server sends.
pub fn metadata(kind: Kind, meta: &Meta, detail: Detail) -> Option<Seen> {
    let fingerprint = meta.fingerprint;
    let meta = &meta.object;
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true));
    Some(Seen {
        kind,
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        claim: label(key::CLAIM),
        labelled: label(label::MANAGED_BY).as_deref() == Some(label::MANAGER),
        controller: controller.map(|owner| (owner.kind.clone(), owner.name.clone(), owner.uid.clone())),
        deleting: meta.deletion_timestamp.is_some(),
        applied: annotation(meta, key::APPLIED).map(str::to_owned),
        team: label(key::TEAM),
        fingerprint,
        detail,
    })
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Detail of an object of which only metadata is watched: a report or a marker.
pub fn config_map_detail(meta: &ObjectMeta) -> Detail {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    if let Some(owner) = owners.iter().find(|owner| owner.kind == Kind::Secret.name()) {
        return Detail::Marker {
            secret_uid: owner.uid.clone(),
        };
    }
    match annotation(meta, key::REPORT) {
        // A report that cannot be read is as good as none: the agent is newer than we are, or not ours.
        Some(text) => Detail::Report(serde_json::from_str(text).ok().map(Box::new)),
        None => Detail::None,
    }
}

/// Detail of a StatefulSet.
pub fn stateful_set(
    meta: &ObjectMeta,
    spec: Option<&WorkloadSpec>,
    status: Option<&WorkloadStatus>,
) -> Detail {
    let taken_up = status.and_then(|it| it.observed_generation);
    Detail::StatefulSet(Workload {
        restart_hash: annotation(meta, key::RESTART_HASH).map(str::to_owned),
        asked: annotation(meta, key::ASKED).map(str::to_owned),
        taken_up: taken_up.is_some() && taken_up == meta.generation,
        revision: status.and_then(|it| it.update_revision.clone()),
        stopped: spec.and_then(|it| it.replicas) == Some(0),
    })
}

/// Detail of a PVC.
pub fn volume(volume: &PersistentVolumeClaim) -> Detail {
    let bytes =
        |quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| Bytes::parse(&quantity.0).ok();
    let spec = volume.spec.as_ref();
    let status = volume.status.as_ref();
    Detail::Volume(Box::new(Volume {
        identity: annotation(&volume.metadata, key::IDENTITY)
            .and_then(|text| serde_json::from_str(text).ok()),
        bound: status.and_then(|it| it.phase.as_deref()) == Some("Bound"),
        requested: spec
            .and_then(|it| it.resources.as_ref()?.requests.as_ref()?.get("storage"))
            .and_then(bytes),
        capacity: status
            .and_then(|it| it.capacity.as_ref()?.get("storage"))
            .and_then(bytes),
        storage_class: spec.and_then(|it| it.storage_class_name.clone()),
        growth: status.and_then(growth),
        never_bound: status.is_some_and(|it| it.phase.as_deref() == Some("Pending") && it.capacity.is_none())
            && spec.is_some_and(|it| it.volume_name.as_deref().is_none_or(str::is_empty)),
    }))
}

/// What a volume's status says of its growth. Kubernetes before 1.34 says less of it, and calls what is infeasible
/// failed.
fn growth(status: &PersistentVolumeClaimStatus) -> Option<Box<Growth>> {
    let statuses = status.allocated_resource_statuses.as_ref();
    let state = statuses
        .and_then(|it| it.get("storage"))
        .map_or("", String::as_str);
    let condition = |type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|it| it.type_ == type_ && it.status == "True")
    };
    let failed = condition("NodeResizeError").or_else(|| condition("ControllerResizeError"));
    let infeasible = state.ends_with("Infeasible") || state.ends_with("Failed");
    let growth = Growth {
        taken_up: state.starts_with("Controller") || condition("Resizing").is_some(),
        on_node: state.starts_with("Node") || condition("FileSystemResizePending").is_some(),
        infeasible,
        failure: failed
            .map(|it| (it.type_.clone(), it.message.clone().unwrap_or_default()))
            .or_else(|| infeasible.then(|| (state.to_owned(), String::new()))),
    };
    (growth != Growth::default()).then(|| Box::new(growth))
}

/// Detail of an EndpointSlice.
pub fn endpoints(meta: &ObjectMeta, endpoints: &[Endpoint]) -> Detail {
    let service = meta
        .labels
        .as_ref()
        .and_then(|it| it.get(wire::SERVICE_NAME))
        .cloned();
    let ready = |endpoint: &Endpoint| {
        // Absent means ready, says the API.
        endpoint
            .conditions
            .as_ref()
            .and_then(|it| it.ready)
            .unwrap_or(true)
    };
    Detail::Endpoints {
        service: service.unwrap_or_default(),
        ready: endpoints.iter().any(ready),
    }
}

/// Detail of a Pod.
pub fn pod(meta: &ObjectMeta, spec: Option<&PodSpec>, status: Option<&PodStatus>) -> Detail {
    let conditions = status.and_then(|it| it.conditions.as_deref()).unwrap_or_default();
    let condition = |type_: &str| conditions.iter().find(|it| it.type_ == type_);
    let containers = || {
        status.into_iter().flat_map(|it| {
            let init = it.init_container_statuses.iter().flatten();
            init.chain(it.container_statuses.iter().flatten())
        })
    };
    let gated = spec.is_some_and(|it| it.readiness_gates.as_ref().is_some_and(|gates| !gates.is_empty()));
    let is = |type_, value: &str| condition(type_).is_some_and(|it| it.status == value);
    Detail::Pod(Box::new(Pod {
        ready: condition("Ready").is_some_and(|it| it.status == "True"),
        restart_hash: annotation(meta, key::RESTART_HASH).map(str::to_owned),
        asked: annotation(meta, key::ASKED).map(str::to_owned),
        revision: meta
            .labels
            .as_ref()
            .and_then(|it| it.get(label::REVISION))
            .cloned(),
        wanted: annotation(meta, key::WANTED).map(str::to_owned),
        requested_memory: spec.and_then(requested_memory),
        memory: status.and_then(memory),
        resize_pending: conditions.iter().find_map(not_resized),
        unschedulable: condition("PodScheduled")
            .filter(|it| it.status == "False")
            .map(|it| it.message.clone().unwrap_or_default()),
        trouble: containers().find_map(container),
        node: spec.and_then(|it| it.node_name.clone()),
        last_end: containers().find_map(last_end),
        // The kubelet sets both at once; where something else is waited for, this says nothing.
        node_silent: !gated && is("Ready", "False") && is("ContainersReady", "True"),
        gone_by: meta.deletion_timestamp.as_ref().map(|it| it.0),
        other_containers: spec.map(other_containers).unwrap_or_default(),
    }))
}

/// Why the kubelet does not resize a Pod: it has no room, now or never, or it has tried in vain.
fn not_resized(condition: &PodCondition) -> Option<String> {
    let failed = match condition.type_.as_str() {
        "PodResizePending" => true,
        "PodResizeInProgress" => condition.reason.as_deref() == Some("Error"),
        _ => false,
    };
    let words = condition.message.clone().or_else(|| condition.reason.clone());
    (failed && condition.status == "True").then(|| words.unwrap_or_default())
}

/// Memory that the database container may use, by its spec.
fn requested_memory(spec: &PodSpec) -> Option<Bytes> {
    let container = spec.containers.iter().find(|it| it.name == DATABASE)?;
    let memory = container.resources.as_ref()?.limits.as_ref()?.memory.as_ref()?;
    Bytes::parse(memory).ok()
}

/// Containers that are not ours.
fn other_containers(spec: &PodSpec) -> Vec<String> {
    let names = spec.containers.iter().map(|it| it.name.clone());
    names.filter(|it| it != DATABASE).collect()
}

/// Memory that the kubelet has given it.
fn memory(status: &PodStatus) -> Option<Bytes> {
    let mut statuses = status.container_statuses.iter().flatten();
    let container = statuses.find(|it| it.name == DATABASE)?;
    let memory = container.resources.as_ref()?.limits.as_ref()?.get("memory")?;
    Bytes::parse(&memory.0).ok()
}

/// How a container that runs now ended before.
fn last_end(status: &ContainerStatus) -> Option<LastEnd> {
    status.state.as_ref()?.running.as_ref()?;
    let ended = status.last_state.as_ref()?.terminated.as_ref()?;
    Some(LastEnd {
        container: status.name.clone(),
        reason: ended.reason.clone().unwrap_or_default(),
        at: ended.finished_at.as_ref()?.0,
    })
}

fn container(status: &ContainerStatus) -> Option<ContainerTrouble> {
    let trouble = |reason: &str, message: Option<&String>| {
        Some(ContainerTrouble {
            container: status.name.clone(),
            image: status.image.clone(),
            reason: reason.to_owned(),
            message: message.cloned().unwrap_or_default(),
        })
    };
    let state = status.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let last = status.last_state.as_ref().and_then(|it| it.terminated.as_ref());
        return match (reason, last.and_then(|it| it.reason.as_deref())) {
            ("" | "ContainerCreating" | "PodInitializing", _) => None,
            ("CrashLoopBackOff", Some("OOMKilled")) => trouble("OOMKilled", None),
            // What the container said at its end says more than that it is backed off.
            ("CrashLoopBackOff", _) => {
                let said = last.and_then(|it| it.message.as_ref());
                trouble(reason, said.or(waiting.message.as_ref()))
            }
            _ => trouble(reason, waiting.message.as_ref()),
        };
    }
    let ended = state.terminated.as_ref().filter(|it| it.exit_code != 0)?;
    trouble(ended.reason.as_deref().unwrap_or("Error"), ended.message.as_ref())
}

/// Whether a Seen is a claim's own by its controller's kind.
pub fn controlled_by_claim(seen: &Seen) -> Option<&str> {
    seen.controller
        .as_ref()
        .filter(|(kind, ..)| kind == KIND)
        .map(|(_, _, uid)| uid.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::live::{Live, Watched};
    use serde_json::{Value, json};

    fn reduced(spec: &Value, conditions: &[(&str, &str)], database: &Value) -> Pod {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(type_, status)| json!({"type": type_, "status": status}))
            .collect();
        let object = json!({"metadata": {"name": "p"}, "spec": spec, "status": {
            "conditions": conditions, "containerStatuses": [database]}});
        let live: Live<k8s_openapi::api::core::v1::Pod> = serde_json::from_value(object).unwrap();
        match Watched::detail(live) {
            Detail::Pod(pod) => *pod,
            other => panic!("{other:?}"),
        }
    }

    fn container(state: &Value, last: &Value) -> Value {
        json!({"name": "database", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last})
    }

    #[test]
    fn a_pod_that_is_not_ready_while_its_containers_are_is_on_a_silent_node() {
        let running = || container(&json!({"running": {}}), &json!({}));
        let spec = json!({"containers": [], "nodeName": "node-7"});
        let marked = [("ContainersReady", "True"), ("Ready", "False")];
        assert!(reduced(&spec, &marked, &running()).node_silent);
        let starting = [("ContainersReady", "False"), ("Ready", "False")];
        assert!(!reduced(&spec, &starting, &running()).node_silent);
        let gated = json!({"containers": [], "readinessGates": [{"conditionType": "example.com/gate"}]});
        assert!(
            !reduced(&gated, &marked, &running()).node_silent,
            "something else is waited for"
        );
    }

    #[test]
    fn how_the_growth_of_a_volume_stands_is_kept() {
        let growth = |status: Value| {
            let object = json!({"metadata": {"name": "v"}, "status": status});
            let live: Live<PersistentVolumeClaim> = serde_json::from_value(object).unwrap();
            match Watched::detail(live) {
                Detail::Volume(volume) => volume.growth.map(|it| *it),
                other => panic!("{other:?}"),
            }
        };
        let is = |type_: &str, words: &str| json!({"type": type_, "status": "True", "message": words});
        assert_eq!(growth(json!({"phase": "Bound"})), None);
        let begun = growth(
            json!({"allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"},
            "conditions": [is("Resizing", "")]}),
        );
        let taken_up = Growth {
            taken_up: true,
            ..Growth::default()
        };
        assert_eq!(begun, Some(taken_up.clone()));
        let failed =
            growth(json!({"conditions": [is("Resizing", ""), is("ControllerResizeError", "no room")]}));
        let why = Some(("ControllerResizeError".to_owned(), "no room".to_owned()));
        let expected = Growth {
            failure: why,
            ..taken_up
        };
        assert_eq!(failed, Some(expected));
        let node = growth(json!({"allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}})).unwrap();
        assert!(node.on_node && node.infeasible && !node.taken_up);
        assert_eq!(node.failure.unwrap().0, "NodeResizeInfeasible");
        assert!(
            growth(json!({"conditions": [is("FileSystemResizePending", "")]}))
                .unwrap()
                .on_node
        );
    }

    #[test]
    fn the_memory_of_the_database_is_told_as_it_is_asked_for_and_as_it_is_given() {
        let resources = |memory: &str| json!({"limits": {"cpu": "1", "memory": memory}});
        let spec = json!({"containers": [{"name": "other", "resources": resources("1Gi")},
            {"name": "database", "resources": resources("2Gi")}]});
        let mut status = container(&json!({"running": {}}), &json!({}));
        status["resources"] = resources("512Mi");
        let pod = reduced(&spec, &[], &status);
        assert_eq!(pod.other_containers, ["other"]);
        assert_eq!(pod.requested_memory, Some(Bytes(2 * Bytes::GIB)));
        assert_eq!(pod.memory, Some(Bytes(512 * Bytes::MIB)));
        let table = [
            ("PodResizePending", "Deferred", Some("no room")),
            ("PodResizeInProgress", "Error", Some("no room")),
            ("PodResizeInProgress", "", None),
            ("Ready", "Error", None),
        ];
        for (type_, reason, said) in table {
            let condition = json!({"type": type_, "status": "True", "reason": reason, "message": "no room"});
            let condition = serde_json::from_value(condition).unwrap();
            assert_eq!(not_resized(&condition).as_deref(), said, "{type_} {reason}");
        }
    }

    #[test]
    fn how_a_container_ended_is_kept_while_it_runs_again_and_while_it_is_backed_off() {
        let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}});
        let spec = json!({"containers": []});
        let again = reduced(&spec, &[], &container(&json!({"running": {}}), &ended));
        assert_eq!(again.last_end.unwrap().reason, "OOMKilled");
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
        let killed = reduced(&spec, &[], &container(&waiting, &ended));
        assert_eq!(killed.trouble.unwrap().reason, "OOMKilled");
        let failed = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "its last words"}});
        let crashed = reduced(&spec, &[], &container(&waiting, &failed));
        assert_eq!(crashed.trouble.unwrap().message, "its last words");
    }
}
