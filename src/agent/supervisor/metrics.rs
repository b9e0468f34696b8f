//! Prometheus' text format, and the agent's own metrics.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::{Context, Counters};
use crate::agent::engine::Engine;
use crate::api::protocol::MemberPhase;

/// What a number means over time.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until a restart.
    Counter,
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(in crate::agent) struct Page(String);

impl Page {
    /// One metric with its series, as (labels without braces, value).
    pub(in crate::agent) fn metric(&mut self, name: &str, kind: Kind, help: &str, series: &[(&str, f64)]) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in series {
            let _ = match *labels {
                "" => writeln!(self.0, "{name} {value}"),
                labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
            };
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.metric(name, Kind::Gauge, help, &[("", value)]);
    }

    pub(in crate::agent) fn text(self) -> String {
        self.0
    }
}

const PHASES: [(MemberPhase, &str); 7] = [
    (MemberPhase::Starting, "phase=\"Starting\""),
    (MemberPhase::Initializing, "phase=\"Initializing\""),
    (MemberPhase::Recovering, "phase=\"Recovering\""),
    (MemberPhase::Running, "phase=\"Running\""),
    (MemberPhase::Stopping, "phase=\"Stopping\""),
    (MemberPhase::Blocked, "phase=\"Blocked\""),
    (MemberPhase::Failed, "phase=\"Failed\""),
];

/// Everything, for one scrape.
pub(super) async fn page(context: &Context) -> String {
    let mut page = Page::default();
    member(context, &mut page).await;
    counters(context, &mut page);
    if let Some((size, used)) = context.volume.usage() {
        page.gauge(
            "dbclaim_agent_volume_size_bytes",
            "Size of the volume.",
            double(size),
        );
        page.gauge(
            "dbclaim_agent_volume_used_bytes",
            "Used bytes of the volume.",
            double(used),
        );
    }
    engine(context, page).await
}

async fn member(context: &Context, page: &mut Page) {
    let report = context.board.report();
    let version = format!("version=\"{}\"", report.agent);
    page.metric(
        "dbclaim_agent_info",
        Kind::Gauge,
        "Version of the agent.",
        &[(&version, 1.0)],
    );
    let phases = PHASES.map(|(phase, label)| (label, flag(phase == report.phase)));
    page.metric(
        "dbclaim_agent_phase",
        Kind::Gauge,
        "What the member is doing.",
        &phases,
    );
    let ready = flag(super::probe::ready(context).await.is_ok());
    page.gauge("dbclaim_agent_ready", "Whether clients are sent here.", ready);
    if let Some(test) = &report.write_test {
        let help = "Whether the newest committed write was read back.";
        page.gauge("dbclaim_agent_write_test_ok", help, flag(test.ok));
    }
    let admitted = report.access.is_none();
    page.gauge(
        "dbclaim_agent_application_ok",
        "Whether nothing is known that keeps an application out which uses the Secret.",
        flag(admitted),
    );
    let pending = f64::from(u32::try_from(report.pending_restart.len()).unwrap_or(u32::MAX));
    page.gauge(
        "dbclaim_agent_pending_restart_settings",
        "Settings that wait for a restart.",
        pending,
    );
}

fn counters(context: &Context, page: &mut Page) {
    let Counters {
        engine_exits,
        report_failures,
    } = &context.counters;
    for (name, help, counter) in [
        (
            "dbclaim_agent_engine_exits_total",
            "Ends of the engine that nobody asked for.",
            engine_exits,
        ),
        (
            "dbclaim_agent_report_failures_total",
            "Reports that did not arrive.",
            report_failures,
        ),
    ] {
        page.metric(
            name,
            Kind::Counter,
            help,
            &[("", double(counter.load(Ordering::Relaxed)))],
        );
    }
}

/// The page with the engine's own, which says little while it does not serve, and nothing before there is one.
async fn engine(context: &Context, mut page: Page) -> String {
    let Some(identity) = context.volume.identity() else {
        return page.text();
    };
    let metrics = match context.running() {
        Some((engine, _)) => engine.metrics(&identity.database).await.ok(),
        None => None,
    };
    if let Some(name) = Engine::up(&identity.engine) {
        let help = "Whether the server could be asked.";
        page.gauge(name, help, flag(metrics.is_some()));
    }
    page.text() + &metrics.unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus keeps doubles")]
fn double(value: u64) -> f64 {
    value as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}
