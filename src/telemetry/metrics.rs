//! The operator's metrics: one registry, made once; every label has a bounded set of values, none names a claim.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::page::{Histogram, Kind, Page};
use super::process::Process;
use crate::api::v1::Phase;

/// Phases with their label values.
const PHASES: [(Phase, &str); 8] = [
    (Phase::Pending, "Pending"),
    (Phase::Provisioning, "Provisioning"),
    (Phase::Ready, "Ready"),
    (Phase::Updating, "Updating"),
    (Phase::Degraded, "Degraded"),
    (Phase::Hibernated, "Hibernated"),
    (Phase::Failed, "Failed"),
    (Phase::Terminating, "Terminating"),
];

/// A request to the API server, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// get, list, watch, create, apply, patch, update or delete.
    pub verb: &'static str,
    /// Kind of the object.
    pub kind: &'static str,
}

/// The registry.
#[derive(Debug, Default)]
pub struct Metrics {
    passes: Mutex<Passes>,
    requests: Mutex<Requests>,
    waiting: AtomicUsize,
    in_progress: AtomicU64,
    leader: AtomicBool,
}

#[derive(Debug, Default)]
struct Passes {
    durations: Histogram,
    errors: BTreeMap<(&'static str, &'static str), u64>,
}

#[derive(Debug, Default)]
struct Requests {
    /// 0 where there was no answer.
    counts: BTreeMap<(Request, u16), u64>,
    durations: BTreeMap<&'static str, Histogram>,
}

/// What is counted elsewhere and only shown here.
#[derive(Debug)]
pub struct Shown<I> {
    /// Phase of every claim.
    pub phases: I,
    /// Watches that have been complete once.
    pub watches_synced: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A number that a panic elsewhere left behind is still a number.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// Says whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.store(leads, Ordering::Relaxed);
    }

    /// So many claims were named, are due, and their pass has not begun.
    pub fn set_waiting(&self, claims: usize) {
        self.waiting.store(claims, Ordering::Relaxed);
    }

    /// Claims that were named, are due, and whose pass has not begun.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A pass begins; it counts as under way until the guard goes, also by a panic.
    pub fn begin(&self) -> Running<'_> {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        Running(self)
    }

    /// A pass has ended.
    pub fn passed(&self, took: Duration) {
        lock(&self.passes).durations.observe(took);
    }

    /// A pass has failed; class and label are names in our code, and so few.
    pub fn failed(&self, class: &'static str, label: &'static str) {
        *lock(&self.passes).errors.entry((class, label)).or_default() += 1;
    }

    /// A request was answered with this status, or not at all.
    pub fn requested(&self, request: Request, status: Option<u16>, took: Duration) {
        let mut requests = lock(&self.requests);
        *requests
            .counts
            .entry((request, status.unwrap_or_default()))
            .or_default() += 1;
        requests.durations.entry(request.verb).or_default().observe(took);
    }

    /// Everything, for one scrape.
    pub fn page(&self, shown: Shown<impl Iterator<Item = Phase>>) -> String {
        let mut page = Page::default();
        self.passes_page(&mut page);
        self.requests_page(&mut page);
        let name = "dbclaim_claims";
        page.metric(name, Kind::Gauge, "Claims by phase.");
        let mut counts = [0_u64; PHASES.len()];
        for phase in shown.phases {
            let place = PHASES.iter().position(|(it, _)| *it == phase);
            if let Some(count) = place.and_then(|it| counts.get_mut(it)) {
                *count += 1;
            }
        }
        for ((_, phase), count) in PHASES.iter().zip(counts) {
            page.sample(name, &[("phase", phase)], count);
        }
        page.single(
            "dbclaim_watches_synced",
            Kind::Gauge,
            "Watches that have been complete at least once.",
            shown.watches_synced,
        );
        page.single(
            "dbclaim_leader",
            Kind::Gauge,
            "Whether this replica leads.",
            u8::from(self.leader.load(Ordering::Relaxed)),
        );
        let name = "dbclaim_build_info";
        page.metric(name, Kind::Gauge, "Version of the operator.");
        page.sample(name, &[("version", &env!("CARGO_PKG_VERSION"))], 1);
        process_page(&mut page);
        page.text()
    }

    fn passes_page(&self, page: &mut Page) {
        let passes = lock(&self.passes);
        let name = "dbclaim_reconcile_duration_seconds";
        page.metric(name, Kind::Histogram, "Time of a pass over one claim.");
        page.histogram(name, &[], &passes.durations);
        let name = "dbclaim_reconcile_errors_total";
        page.metric(
            name,
            Kind::Counter,
            "Passes that failed, by how they are retried and where.",
        );
        for ((class, label), count) in &passes.errors {
            page.sample(name, &[("class", class), ("label", label)], count);
        }
        page.single(
            "dbclaim_reconcile_queue_depth",
            Kind::Gauge,
            "Claims that a change has named and whose pass has not begun.",
            self.waiting(),
        );
        page.single(
            "dbclaim_reconcile_in_progress",
            Kind::Gauge,
            "Passes under way.",
            self.in_progress.load(Ordering::Relaxed),
        );
    }

    fn requests_page(&self, page: &mut Page) {
        let requests = lock(&self.requests);
        let name = "dbclaim_api_requests_total";
        page.metric(
            name,
            Kind::Counter,
            "Requests to the API server by verb, kind and HTTP status; error means no answer.",
        );
        for ((Request { verb, kind }, code), count) in &requests.counts {
            let code: &dyn std::fmt::Display = if *code == 0 { &"error" } else { code };
            page.sample(name, &[("verb", verb), ("kind", kind), ("code", code)], count);
        }
        let name = "dbclaim_api_request_duration_seconds";
        page.metric(
            name,
            Kind::Histogram,
            "Time until the API server began to answer, by verb.",
        );
        for (verb, histogram) in &requests.durations {
            page.histogram(name, &[("verb", verb)], histogram);
        }
    }
}

fn process_page(page: &mut Page) {
    let Some(process) = Process::read() else { return };
    page.single(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory size in bytes.",
        process.resident_bytes,
    );
    page.single(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Total user and system CPU time spent in seconds.",
        process.cpu_seconds,
    );
    page.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "Start time of the process since unix epoch in seconds.",
        process.start_seconds,
    );
}

/// A pass under way.
#[derive(Debug)]
pub struct Running<'a>(&'a Metrics);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_counted() {
        let schema = schemars::schema_for!(Phase).to_value();
        let names = schema["oneOf"].as_array().unwrap().iter();
        let phases = names.map(|it| serde_json::from_value(it["const"].clone()).unwrap());
        let count = phases.len();
        let page = Metrics::default().page(Shown {
            phases,
            watches_synced: 0,
        });
        let samples = page.lines().filter(|it| it.starts_with("dbclaim_claims{"));
        assert_eq!(samples.filter(|it| it.ends_with(" 1")).count(), count, "{page}");
    }
}
