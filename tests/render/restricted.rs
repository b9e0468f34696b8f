//! Pod Security `restricted`, rule by rule: the database runs where nothing else is admitted.

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use serde_json::{Value, json};

use super::{full, pull_secrets, smallest, undelete};

#[test]
fn every_container_is_what_pod_security_restricted_admits() {
    for fixture in [smallest(), full(), undelete(), pull_secrets()] {
        let pod = fixture.pod();
        assert_eq!(refused(&pod), Vec::<String>::new());
        for container in containers(&pod) {
            let context = container.security_context.clone().unwrap_or_default();
            assert_eq!(
                context.read_only_root_filesystem,
                Some(true),
                "{}",
                container.name
            );
            let resources = container.resources.clone().unwrap_or_default();
            for amounts in [resources.requests, resources.limits] {
                let named: Vec<String> = amounts.unwrap_or_default().into_keys().collect();
                assert_eq!(named, ["cpu", "memory"], "{}", container.name);
            }
        }
    }
}

#[test]
fn each_rule_of_pod_security_restricted_is_looked_at() {
    let container = |context: Value| json!({"securityContext": context});
    for (rule, change) in [
        ("host namespaces", json!({"hostNetwork": true})),
        (
            "volume kinds",
            json!({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
        ),
        ("non-root", json!({"securityContext": {"runAsNonRoot": null}})),
        ("user", json!({"securityContext": {"runAsUser": 0}})),
        ("seccomp", json!({"securityContext": {"seccompProfile": null}})),
        (
            "privilege escalation",
            container(json!({"allowPrivilegeEscalation": null})),
        ),
        ("privileged", container(json!({"privileged": true}))),
        (
            "dropped",
            container(json!({"capabilities": {"drop": ["NET_RAW"]}})),
        ),
        (
            "added",
            container(json!({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}})),
        ),
        ("container user", container(json!({"runAsUser": 0}))),
        (
            "host ports",
            json!({"ports": [{"containerPort": 5432, "hostPort": 5432}]}),
        ),
    ] {
        let mut pod = serde_json::to_value(smallest().pod()).unwrap();
        let at_pod = change.get("hostNetwork").is_some()
            || change.get("volumes").is_some()
            || ["non-root", "user", "seccomp"].contains(&rule);
        let place = if at_pod {
            &mut pod
        } else {
            &mut pod["containers"][0]
        };
        merge(place, &change);
        let pod: PodSpec = serde_json::from_value(pod).unwrap();
        assert_ne!(
            refused(&pod),
            Vec::<String>::new(),
            "{rule}: {change} was let through"
        );
    }
}

fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change.clone(),
    }
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

/// What Pod Security `restricted` refuses in a Pod
/// (<https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>).
fn refused(pod: &PodSpec) -> Vec<String> {
    let mut wrong = Vec::new();
    if [pod.host_network, pod.host_pid, pod.host_ipc].contains(&Some(true)) {
        wrong.push("a namespace of the host".to_owned());
    }
    let volumes = pod.volumes.iter().flatten().filter(|it| !is_admitted(it));
    wrong.extend(volumes.map(|volume| format!("volume {}", volume.name)));
    wrong.extend(containers(pod).flat_map(|container| refused_container(pod, container)));
    wrong
}

fn is_admitted(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some()
}

fn refused_container(pod: &PodSpec, container: &Container) -> Vec<String> {
    let context = container.security_context.clone().unwrap_or_default();
    let of_pod = pod.security_context.clone().unwrap_or_default();
    let seccomp = context.seccomp_profile.or(of_pod.seccomp_profile);
    let capabilities = context.capabilities.unwrap_or_default();
    let added = capabilities.add.unwrap_or_default();
    let ports = container.ports.iter().flatten();
    let rules = [
        ("is privileged", context.privileged == Some(true)),
        (
            "may escalate privileges",
            context.allow_privilege_escalation != Some(false),
        ),
        (
            "may run as root",
            context.run_as_non_root.or(of_pod.run_as_non_root) != Some(true),
        ),
        (
            "runs as root",
            context.run_as_user.or(of_pod.run_as_user) == Some(0),
        ),
        (
            "has no seccomp profile",
            !seccomp.is_some_and(|it| ["RuntimeDefault", "Localhost"].contains(&it.type_.as_str())),
        ),
        (
            "keeps capabilities",
            !capabilities.drop.unwrap_or_default().contains(&"ALL".to_owned()),
        ),
        (
            "adds capabilities",
            added.iter().any(|it| it != "NET_BIND_SERVICE"),
        ),
        (
            "takes a port of the host",
            ports.filter_map(|it| it.host_port).any(|it| it != 0),
        ),
        (
            "has its own view of /proc",
            context.proc_mount.is_some_and(|it| it != "Default"),
        ),
    ];
    let broken = rules.into_iter().filter(|(_, broken)| *broken);
    broken
        .map(|(what, _)| format!("container {} {what}", container.name))
        .collect()
}
