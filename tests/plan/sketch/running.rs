//! Arbitrary states of what runs: the workload, its Pod and what its agent has said.

use dbclaim::api::protocol::{Applied, Initialized, MemberPhase};
use dbclaim::plan::observed::{Ownership, Workload};
use dbclaim::render::Desired;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cluster::{Cluster, silent};

/// What an annotation says of what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    Wanted,
    Other,
    Nothing,
}

#[derive(Clone, Debug)]
pub(super) struct WorkloadSketch {
    /// Whether its Pods would be those that are wanted now.
    same_restart_hash: bool,
    asked: Said,
    taken_up: bool,
    stopped: bool,
}

#[derive(Clone, Debug)]
pub(super) struct PodSketch {
    asked: Said,
    same_revision: bool,
    ownership: Ownership,
    deleting: bool,
    team: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct ReportSketch {
    by_this_pod: bool,
    initialized: bool,
    credentials: u64,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![4 => Just(Said::Wanted), 3 => Just(Said::Other), 1 => Just(Said::Nothing)]
}

pub(super) fn workload() -> impl Strategy<Value = WorkloadSketch> {
    let flags = (any::<bool>(), said(), any::<bool>(), prop::bool::weighted(0.15));
    flags.prop_map(|(same_restart_hash, asked, taken_up, stopped)| WorkloadSketch {
        same_restart_hash,
        asked,
        taken_up,
        stopped,
    })
}

pub(super) fn pod() -> impl Strategy<Value = PodSketch> {
    let whose = select(vec![Ownership::Ours, Ownership::Ours, Ownership::Foreign]);
    let team = select(vec!["checkout", "former"]);
    let fields = (whose, any::<bool>(), team, said(), any::<bool>());
    fields.prop_map(|(ownership, deleting, team, asked, same_revision)| PodSketch {
        asked,
        same_revision,
        ownership,
        deleting,
        team,
    })
}

pub(super) fn report() -> impl Strategy<Value = ReportSketch> {
    (any::<bool>(), any::<bool>(), 0..4_u64).prop_map(|(by_this_pod, initialized, credentials)| {
        ReportSketch {
            by_this_pod,
            initialized,
            credentials,
        }
    })
}

impl Said {
    fn text(self, wanted: &str) -> Option<String> {
        match self {
            Self::Wanted => Some(wanted.to_owned()),
            Self::Other => Some("something else".to_owned()),
            Self::Nothing => None,
        }
    }
}

impl WorkloadSketch {
    pub(super) fn onto(&self, live: &mut Workload) {
        if !self.same_restart_hash {
            live.restart_hash = Some("other".into());
        }
        live.asked = self.asked.text(&live.asked.take().unwrap());
        live.taken_up = self.taken_up;
        live.stopped = self.stopped;
    }
}

impl PodSketch {
    pub(super) fn onto(&self, cluster: &mut Cluster, desired: &Desired) {
        cluster.start_pod(&Workload {
            restart_hash: Some("some-hash".into()),
            asked: self.asked.text(&desired.asked),
            revision: self.same_revision.then(|| desired.stateful_set.applied.clone()),
            ..Workload::default()
        });
        let pod = cluster.pod().unwrap();
        pod.child.ownership = self.ownership.clone();
        pod.child.deleting = self.deleting;
        pod.child.team = Some(self.team.into());
    }
}

impl ReportSketch {
    pub(super) fn onto(&self, cluster: &mut Cluster) {
        let pod = cluster
            .pod()
            .map(|it| it.child.uid.clone())
            .filter(|_| self.by_this_pod);
        let mut report = silent(&pod.unwrap_or("former-pod".into()), MemberPhase::Running, None);
        report.applied = Applied {
            config: String::new(),
            credentials: self.credentials,
            ..Applied::default()
        };
        report.initialized = self.initialized.then(|| Initialized {
            at: "2026-03-01T08:00:00Z".into(),
            system_identifier: "73".into(),
        });
        cluster.say(report);
    }
}
