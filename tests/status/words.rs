//! What each state is called, and what holds for all of them.

use std::fmt::Write as _;

use dbclaim::api::v1::Phase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cluster::Cluster;
use crate::states::{Row, in_trouble, on_the_way};
use crate::{GENERATION, at, condition, lasting, status_of};

/// Whether a condition says something other than that all is well.
fn is_bad(condition: &Condition) -> bool {
    let good_when_false = ["UpdatePending", "Reconciling", "Stalled"].contains(&condition.type_.as_str());
    (condition.status == "True") == good_when_false
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for (name, cluster) in rows {
        let status = lasting(cluster);
        writeln!(text, "# {name}: {:?}", status.phase.unwrap()).unwrap();
        for it in status.conditions.iter().filter(|it| is_bad(it)) {
            writeln!(
                text,
                "{}={} {}\n    {}",
                it.type_,
                it.status,
                it.reason,
                it.message.replace('\n', "\n    ")
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn the_way_to_ready_in_words() {
    insta::assert_snapshot!("on_the_way", table(&on_the_way()));
}

#[test]
fn trouble_in_words() {
    insta::assert_snapshot!("in_trouble", table(&in_trouble()));
}

#[test]
fn a_claim_that_serves_says_so() {
    let status = lasting(&Cluster::ready());
    let bad: Vec<_> = status.conditions.iter().filter(|it| is_bad(it)).collect();
    assert_eq!((status.phase, bad), (Some(Phase::Ready), vec![]));
    insta::assert_yaml_snapshot!("ready", status);
}

#[test]
fn every_message_is_a_sentence_and_says_what_to_do_where_somebody_can_act() {
    // What passes by itself; everything else names something that a human does.
    let passes = [
        "Terminating",
        "WaitingForRemoval",
        "InProgress",
        "Idle",
        "CredentialsPending",
        "Paused",
        "Restarting",
        "Resizing",
    ];
    let acts = [
        "kubectl ", " see ", "restore", "create ", "remove ", "attach ", "raise ", "correct", "let the ",
        "change ",
    ];
    for (name, cluster) in on_the_way().into_iter().chain(in_trouble()) {
        for it in lasting(&cluster).conditions {
            let message = &it.message;
            let place = format!("{name}: {}: {message:?}", it.type_);
            assert!(message.len() > 10 && message.contains(' '), "{place}");
            for slip in ["..", ": .", ":.", "()", "  ", " ;", ": ;", "None", "Some("] {
                assert!(!message.contains(slip), "{place} has {slip:?}");
            }
            assert!(!message.ends_with(['.', ':', ' ']), "{place}");
            assert!(
                it.reason.starts_with(|it: char| it.is_ascii_uppercase()),
                "{place}"
            );
            // The agent's words are the agent's; what is not there yet is explained by Ready.
            let alone = passes.contains(&it.reason.as_str())
                || ["EngineFailed", "VolumeInUse"].contains(&it.reason.as_str())
                || message.ends_with("not there yet");
            if is_bad(&it) && !alone {
                assert!(
                    acts.iter().any(|act| message.to_lowercase().contains(act)),
                    "{place} leaves the reader alone"
                );
            }
        }
    }
}

#[test]
fn a_claim_that_has_made_nothing_and_is_not_accepted_says_why_it_is_not_ready() {
    for (name, cluster) in on_the_way().into_iter().chain(in_trouble()) {
        let status = lasting(&cluster);
        assert_eq!(status.observed_generation, Some(GENERATION), "{name}");
        for it in &status.conditions {
            assert_eq!(it.observed_generation, Some(GENERATION), "{name}: {}", it.type_);
        }
        if cluster.deleting {
            continue;
        }
        let (accepted, ready) = (condition(&status, "Accepted"), condition(&status, "Ready"));
        assert!(accepted.status == "True" || ready.status == "False", "{name}");
        assert!(
            !(accepted.status == "False" && ready.reason != accepted.reason),
            "{name}"
        );
    }
}

#[test]
fn the_phase_agrees_with_the_conditions() {
    for (name, cluster) in on_the_way().into_iter().chain(in_trouble()) {
        let status = lasting(&cluster);
        let is_ready = condition(&status, "Ready").status == "True";
        // One that serves may be in the middle of a change.
        let serves = status.phase == Some(Phase::Ready) || is_ready && status.phase == Some(Phase::Updating);
        assert_eq!(serves, is_ready, "{name}");
        if !cluster.deleting && cluster.pass().resolved.is_ok() && !is_ready {
            let stalled = condition(&status, "Stalled").status == "True";
            assert_eq!(status.phase == Some(Phase::Failed), stalled, "{name}");
        }
    }
}

#[test]
fn the_same_pass_gives_the_same_status() {
    for (name, cluster) in on_the_way().into_iter().chain(in_trouble()) {
        let before = lasting(&cluster);
        assert_eq!(status_of(&cluster, Some(&before), at(61)), before, "{name}");
        assert_eq!(status_of(&cluster, Some(&before), at(300)), before, "{name}");
    }
}

#[test]
fn a_transition_time_moves_only_with_the_status_of_its_condition() {
    let healthy = lasting(&Cluster::ready());
    for (name, cluster) in on_the_way().into_iter().chain(in_trouble()) {
        let after = status_of(&cluster, Some(&healthy), at(100));
        for new in &after.conditions {
            let old = condition(&healthy, &new.type_);
            let moved = new.last_transition_time != old.last_transition_time;
            assert_eq!(moved, new.status != old.status, "{name}: {}", new.type_);
        }
    }
}
