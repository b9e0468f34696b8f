//! Arbitrary states of what runs: the workload, its Pod and what its agent has said.

use dbclaim::api::protocol::{Applied, Initialized, MemberPhase};
use dbclaim::class;
use dbclaim::plan::observed::{Detail, Ownership, Workload};
use dbclaim::render::Desired;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cluster::{Cluster, silent};

/// What an annotation says of what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    Wanted,
    /// What would be said in another size.
    OtherSize,
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
    ready: bool,
    /// Memory that it asks for and that it has: that of which size, if any.
    memory: [Option<usize>; 2],
    resize_pending: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct ReportSketch {
    by_this_pod: bool,
    initialized: bool,
    credentials: u64,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        4 => Just(Said::Wanted), 3 => Just(Said::OtherSize), 3 => Just(Said::Other), 1 => Just(Said::Nothing)
    ]
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
    let fields = (whose, prop::bool::weighted(0.2), team, said(), any::<bool>());
    let memory = || prop::option::of(0..class::SIZES.len());
    let size = (
        any::<bool>(),
        [memory(), memory()],
        prop::option::weighted(0.2, Just("no room")),
    );
    (fields, size).prop_map(
        |((ownership, deleting, team, asked, same_revision), (ready, memory, resize_pending))| PodSketch {
            asked,
            same_revision,
            ownership,
            deleting,
            team,
            ready,
            memory,
            resize_pending,
        },
    )
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
    /// What was asked for, and the hash of what that starts.
    fn text(self, desired: &Desired) -> Option<(String, String)> {
        let smaller = desired
            .in_place
            .iter()
            .flat_map(|it| it.smaller().chain(it.larger()));
        let smaller = smaller.map(|it| (it.asked, it.restart_hash)).next();
        let other = || ("something else".to_owned(), "other".to_owned());
        match self {
            Self::Wanted => Some((desired.asked.clone(), desired.restart_hash.clone())),
            Self::OtherSize => Some(smaller.unwrap_or_else(other)),
            Self::Other => Some(other()),
            Self::Nothing => None,
        }
    }
}

impl WorkloadSketch {
    pub(super) fn onto(&self, live: &mut Workload, desired: &Desired) {
        (live.asked, live.restart_hash) = self.asked.text(desired).unzip();
        if !self.same_restart_hash {
            live.restart_hash = Some("other".into());
        }
        live.taken_up = self.taken_up;
        live.stopped = self.stopped;
    }
}

impl PodSketch {
    pub(super) fn onto(&self, cluster: &mut Cluster, desired: &Desired) {
        let (asked, restart_hash) = self.asked.text(desired).unzip();
        cluster.start_pod(&Workload {
            restart_hash,
            asked,
            revision: self.same_revision.then(|| desired.stateful_set.applied.clone()),
            ..Workload::default()
        });
        let pod = cluster.pod().unwrap();
        pod.child.ownership = self.ownership.clone();
        pod.child.deleting = self.deleting;
        pod.child.team = Some(self.team.into());
        let memory = |size: Option<usize>| size.map(|it| class::size(class::SIZES[it]).memory);
        if let Detail::Pod(pod) = &mut pod.child.detail {
            pod.ready = self.ready;
            (pod.requested_memory, pod.memory) = (memory(self.memory[0]), memory(self.memory[1]));
            pod.resize_pending = self.resize_pending.map(str::to_owned);
        }
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
