//! The board: what is true of this member now. Written by the loop that runs the engine, read by all.

use tokio::sync::watch;

use super::report::{disk_bucket, same_but_numbers};
use crate::api::condition::reason;
use crate::api::protocol::{Applied, FORMAT, MemberPhase, Report, TlsReport, Trouble};

/// The newest report, and a way to wait for the next.
#[derive(Debug)]
pub(super) struct Board {
    report: watch::Sender<Report>,
}

impl Board {
    pub(super) fn new(pod_uid: &str) -> Self {
        let report = Report {
            v: FORMAT,
            agent: env!("CARGO_PKG_VERSION").into(),
            pod_uid: pod_uid.into(),
            phase: MemberPhase::Starting,
            trouble: None,
            version: None,
            initialized: None,
            applied: Applied::default(),
            pending_restart: Vec::new(),
            write_test: None,
            access: None,
            password_set_back: None,
            // Present from the first report on: it tells what this agent can do.
            tls: Some(TlsReport::default()),
            disk_percent: None,
        };
        Self {
            report: watch::Sender::new(report),
        }
    }

    pub(super) fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    /// Changes the report; whoever waits is woken only by a real difference.
    pub(super) fn update(&self, change: impl FnOnce(&mut Report)) {
        self.report.send_if_modified(|report| {
            let before = report.clone();
            change(report);
            if before.phase != report.phase || before.trouble != report.trouble {
                let trouble = report.trouble.as_ref();
                tracing::info!(
                    phase = ?report.phase,
                    reason = trouble.map(|trouble| trouble.reason.as_str()),
                    trouble = trouble.map(|trouble| trouble.message.as_str()),
                    "state"
                );
            }
            before != *report
        });
    }

    pub(super) fn phase(&self, phase: MemberPhase) {
        self.update(|report| {
            report.phase = phase;
            report.trouble = None;
        });
    }

    /// A step on the way up. A failure stays until the engine runs again, or every try would look like a cure;
    /// that it was killed for want of memory stays too, or nobody would ever learn of it.
    pub(super) fn progress(&self, phase: MemberPhase) {
        let killed = |trouble: &Trouble| trouble.reason == reason::OUT_OF_MEMORY;
        let report = self.report();
        match report.trouble {
            _ if report.phase == MemberPhase::Failed => {}
            Some(trouble) if killed(&trouble) => self.trouble(phase, trouble),
            _ => self.phase(phase),
        }
    }

    pub(super) fn trouble(&self, phase: MemberPhase, trouble: Trouble) {
        self.update(|report| {
            report.phase = phase;
            report.trouble = Some(trouble);
        });
    }

    /// The engine does not stay up. Said again only when it fails differently.
    pub(super) fn failed(&self, trouble: Trouble) {
        let again = |report: &Report| {
            let same = |before| same_but_numbers(before, &trouble);
            report.phase == MemberPhase::Failed && report.trouble.as_ref().is_some_and(same)
        };
        if !again(&self.report.borrow()) {
            self.trouble(MemberPhase::Failed, trouble);
        }
    }

    pub(super) fn disk(&self, size: u64, used: u64) {
        self.update(|report| report.disk_percent = disk_bucket(report.disk_percent, size, used));
    }
}
