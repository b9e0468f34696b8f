//! What a Pod's own status says against it. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::diagnosis::Verdict;
use super::refusal::because;
use crate::api::condition::reason;
use crate::claim::{Claim, FIRST_MEMBER};
use crate::engine::Engine;
use crate::plan::observed::{ContainerTrouble, Pod};

/// Name of the engine's container.
const DATABASE: &str = "database";
/// How long after its grace period a Pod may still be there before its node counts as lost.
const OVERDUE: Duration = Duration::from_secs(20);
/// How long a kill is the reason why a container is not ready again.
const AFTERMATH: Duration = Duration::from_secs(300);

/// The Pod cannot be scheduled, or one of its containers does not run.
pub(super) fn trouble(claim: &Claim, name: &str, pod: &Pod) -> Option<Verdict> {
    if let Some(message) = &pod.unschedulable {
        return Some(unschedulable(claim, name, message));
    }
    let ContainerTrouble {
        container,
        image,
        reason: why,
        message,
    } = pod.trouble.as_ref()?;
    let place = format!("container {container} of Pod {name}");
    let verdict = match why.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            // While it is backed off, the kubelet puts that before the same cause.
            let words = message.rsplit("ErrImagePull: ").next().unwrap_or(message);
            Verdict::bad(
                reason::IMAGE_PULL_FAILED,
                format!(
                    "image {image} for {place} cannot be pulled{}. Check that it exists and that node {} may pull it: kubectl describe pod {name}{}",
                    because(words),
                    node(pod),
                    set_back(claim, container),
                ),
            )
        }
        "OOMKilled" => out_of_memory(claim, container, &place),
        // The kubelet's words say how long it waits, which changes at every try and helps nobody.
        "CrashLoopBackOff" => Verdict::bad(
            reason::CRASH_LOOP,
            format!("{place} ends again and again. See: kubectl logs {name} -c {container} --previous"),
        ),
        "Error" | "RunContainerError" | "StartError" | "ContainerCannotRun" => Verdict::bad(
            reason::CRASH_LOOP,
            format!(
                "{place} ended ({why}){}. See: kubectl logs {name} -c {container} --previous",
                because(message)
            ),
        ),
        _ => Verdict::bad(
            reason::CONTAINER_CONFIG,
            format!(
                "{place} cannot start ({why}){}. See: kubectl describe pod {name}",
                because(message)
            ),
        ),
    };
    Some(verdict)
}

/// What helps where there is no image of the requested version.
fn set_back(claim: &Claim, container: &str) -> &'static str {
    if container == DATABASE && claim.version.minor.is_some() {
        ". If there is no such version, set spec.version back, or remove it: the Pod is then replaced at once"
    } else {
        ""
    }
}

fn unschedulable(claim: &Claim, name: &str, message: &str) -> Verdict {
    let lower = message.to_lowercase();
    let act = if lower.contains("volume") {
        format!("See: kubectl describe pvc {}", claim.id.member(FIRST_MEMBER))
    } else {
        format!("Add a node with room, or free some: kubectl describe pod {name}")
    };
    Verdict::bad(
        reason::UNSCHEDULABLE,
        format!("Pod {name} cannot be scheduled{}. {act}", because(message)),
    )
}

/// A container that runs again and was killed for want of memory a short while ago.
pub(super) fn killed(claim: &Claim, name: &str, pod: &Pod, now: Timestamp) -> Option<Verdict> {
    let last = pod.last_end.as_ref().filter(|it| it.reason == "OOMKilled")?;
    let recent = now.duration_since(last.at).unsigned_abs() < AFTERMATH;
    let place = format!("container {} of Pod {name}", last.container);
    recent.then(|| out_of_memory(claim, &last.container, &place))
}

/// The engine was killed for want of memory, and its container was not.
pub(super) fn engine_killed(claim: &Claim, name: &str) -> Verdict {
    out_of_memory(
        claim,
        DATABASE,
        &format!("the engine in container {DATABASE} of Pod {name}"),
    )
}

fn out_of_memory(claim: &Claim, container: &str, place: &str) -> Verdict {
    // The other container only copies a file; its limit is not the user's to choose.
    let (limit, lower) = if container == DATABASE {
        let limit = format!(" of {} (size {})", claim.size.memory, claim.size.name);
        (limit, lower(claim))
    } else {
        (String::new(), String::new())
    };
    Verdict::bad(
        reason::OUT_OF_MEMORY,
        format!(
            "{place} was killed because it used more memory than its limit{limit}; committed data is safe and it is started again. If it happens again, {lower}let the application ask for less at once, or change spec.size to a larger one"
        ),
    )
}

/// Which parameters of the claim the engine's use of memory grows with: they are what its owner can lower.
fn lower(claim: &Claim) -> String {
    let engine = Engine::from(claim.engine);
    let set: Vec<_> = claim
        .parameters
        .iter()
        .filter(|(name, _)| engine.takes_memory(name))
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    match set.as_slice() {
        [] => String::new(),
        set => format!("lower what spec.parameters sets ({}), ", set.join(", ")),
    }
}

/// The Pod is being terminated. The database stops within seconds; other containers may take the whole grace period.
pub(super) fn stopping(name: &str, pod: &Pod) -> Verdict {
    let until = pod.gone_by.map(|by| format!(" and has until {by}"));
    let until = until.unwrap_or_default();
    let message = match pod.other_containers.as_slice() {
        [] => format!("Pod {name} is stopping{until}; if this lasts, see: kubectl describe pod {name}"),
        others => format!(
            "Pod {name} is stopping{until}. It ends when all of its containers have ended: the database, which stops within seconds, and {}. If one of these is slow, make it end at SIGTERM, or change it to a native sidecar, which is stopped after the database",
            others.join(", ")
        ),
    };
    Verdict::bad(reason::STOPPING, message)
}

/// The node does not answer: its controller has said so, or the Pod should long be gone.
pub(super) fn lost(claim: &Claim, name: &str, pod: &Pod, now: Timestamp) -> Option<Verdict> {
    let overdue = pod.gone_by.is_some_and(|by| {
        let late = now.duration_since(by);
        late.is_positive() && late.unsigned_abs() > OVERDUE
    });
    if pod.node.is_none() || !(pod.node_silent || overdue) {
        return None;
    }
    let (node, volume) = (node(pod), claim.id.member(FIRST_MEMBER));
    let sign = if overdue {
        format!("Pod {name} should have ended and has not")
    } else {
        format!("Pod {name} is marked as not ready by the control plane while its containers were running")
    };
    Some(Verdict::bad(
        reason::NODE_LOST,
        format!(
            "node {node} does not answer: {sign}; PersistentVolumeClaim {volume} may still be in use there, so nothing is forced. Bring the node back; or, only once it is surely powered off: kubectl taint nodes {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        ),
    ))
}

fn node(pod: &Pod) -> &str {
    pod.node.as_deref().unwrap_or("(none)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::observed::LastEnd;
    use crate::status::tests::claim;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn on_a_node() -> Pod {
        Pod {
            node: Some("node-7".into()),
            ..Pod::default()
        }
    }

    #[test]
    fn a_lost_node_is_named_with_its_volume_and_both_remedies() {
        let now = at("2026-01-01T00:10:00Z");
        let silent = Pod {
            node_silent: true,
            ..on_a_node()
        };
        let overdue = Pod {
            gone_by: Some(at("2026-01-01T00:09:00Z")),
            ..on_a_node()
        };
        for pod in [silent, overdue] {
            let verdict = lost(&claim(), "orders-db-1-0", &pod, now).unwrap();
            assert_eq!(verdict.reason, "NodeLost");
            for part in [
                "node-7",
                "orders-db-1-0",
                "PersistentVolumeClaim orders-db-1 ",
                "Bring the node back",
                "out-of-service",
            ] {
                assert!(verdict.message.contains(part), "{part} in {}", verdict.message);
            }
        }
    }

    #[test]
    fn a_pod_within_its_grace_period_or_without_a_node_is_not_lost() {
        let now = at("2026-01-01T00:10:00Z");
        let stopping = Pod {
            gone_by: Some(at("2026-01-01T00:14:00Z")),
            ..on_a_node()
        };
        let just_late = Pod {
            gone_by: Some(at("2026-01-01T00:09:50Z")),
            ..on_a_node()
        };
        let nowhere = Pod {
            gone_by: Some(at("2026-01-01T00:00:00Z")),
            ..Pod::default()
        };
        for pod in [on_a_node(), stopping, just_late, nowhere] {
            assert_eq!(lost(&claim(), "orders-db-1-0", &pod, now), None);
        }
    }

    #[test]
    fn a_pod_that_stops_says_for_whom_it_waits_and_until_when() {
        let alone = Pod {
            gone_by: Some(at("2026-01-01T00:14:00Z")),
            ..on_a_node()
        };
        let message = stopping("orders-db-1-0", &alone).message;
        assert!(message.contains("until 2026-01-01T00:14:00Z"), "{message}");
        let meshed = Pod {
            other_containers: vec!["istio-proxy".into()],
            ..alone
        };
        let message = stopping("orders-db-1-0", &meshed).message;
        assert!(
            message.contains("istio-proxy") && message.contains("native sidecar"),
            "{message}"
        );
    }

    #[test]
    fn an_image_of_a_version_that_there_is_not_is_helped_by_setting_the_version_back() {
        let pulled = |minor, container: &str| {
            let mut claim = claim();
            claim.version.minor = minor;
            let pod = Pod {
                trouble: Some(ContainerTrouble {
                    container: container.into(),
                    image: "postgres:17.99".into(),
                    reason: "ErrImagePull".into(),
                    message: "not found".into(),
                }),
                ..on_a_node()
            };
            trouble(&claim, "orders-db-1-0", &pod).unwrap().message
        };
        let helps = "set spec.version back";
        assert!(pulled(Some(99), "database").contains(helps));
        assert!(!pulled(None, "database").contains(helps));
        assert!(!pulled(Some(99), "install-agent").contains(helps));
    }

    #[test]
    fn an_out_of_memory_kill_names_the_limit_and_is_forgotten_after_a_while() {
        let pod = Pod {
            last_end: Some(LastEnd {
                container: "database".into(),
                reason: "OOMKilled".into(),
                at: at("2026-01-01T00:00:00Z"),
            }),
            ..on_a_node()
        };
        let verdict = killed(&claim(), "orders-db-1-0", &pod, at("2026-01-01T00:00:20Z")).unwrap();
        assert_eq!(verdict.reason, "OutOfMemory");
        assert!(
            verdict.message.contains("512Mi (size small)"),
            "{}",
            verdict.message
        );
        assert_eq!(
            killed(&claim(), "orders-db-1-0", &pod, at("2026-01-02T00:00:20Z")),
            None
        );
    }

    #[test]
    fn an_out_of_memory_kill_names_the_parameters_that_take_memory() {
        let set = [
            ("jit", "off"),
            ("max_connections", "2000"),
            ("max_locks_per_transaction", "4096"),
        ];
        let mut claim = claim();
        claim.parameters = set.map(|(name, value)| (name.into(), value.into())).into();
        let message = engine_killed(&claim, "orders-db-1-0").message;
        let named = r#"(max_connections: "2000", max_locks_per_transaction: "4096")"#;
        assert!(message.contains(named), "{message}");
    }

    #[test]
    fn an_image_is_named_in_the_same_words_whether_it_is_pulled_or_backed_off() {
        let named = |reason: &str, message: &str| {
            let pod = Pod {
                trouble: Some(ContainerTrouble {
                    container: "database".into(),
                    image: "postgres:17.99".into(),
                    reason: reason.into(),
                    message: message.into(),
                }),
                ..on_a_node()
            };
            trouble(&claim(), "orders-db-1-0", &pod).unwrap()
        };
        let pulling = named("ErrImagePull", "not found");
        let backed_off = named(
            "ImagePullBackOff",
            "Back-off pulling image \"postgres:17.99\": ErrImagePull: not found",
        );
        assert_eq!(pulling, backed_off);
        assert_eq!(pulling.reason, "ImagePullFailed");
    }
}
