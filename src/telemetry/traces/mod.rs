//! Traces by OTLP (http/protobuf): spans are recorded by a layer, kept in a bounded queue and sent in batches.
//! Small on purpose: no SDK, no thread, no gRPC, no TLS; a collector in the cluster is the next hop.

mod encode;
mod export;
mod record;
pub mod settings;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

pub use export::Exporter;
pub use record::Recorder;
use settings::Settings;

/// Spans that wait at most; what comes on top is dropped and counted.
const CAPACITY: usize = 2048;
/// Spans that are sent at once.
const BATCH: usize = 512;

/// What records spans and what sends them.
pub fn pipeline(settings: Settings) -> (Recorder, Exporter) {
    let queue = Arc::new(Queue::default());
    (
        Recorder::new(queue.clone(), settings.ratio),
        Exporter::new(queue, settings),
    )
}

/// Which spans are recorded: ours, whatever is logged. The parts of a pass and its requests are of the level debug, so
/// that they cost nothing where nobody records them.
pub(super) fn filter() -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::DEBUG)
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Flag(bool),
    Number(i64),
    Fraction(f64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
struct Span {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: &'static str,
    client: bool,
    /// Nanoseconds since 1970.
    start: u64,
    /// Nanoseconds since 1970.
    end: u64,
    attributes: Vec<(&'static str, Value)>,
    /// What went wrong in it.
    error: Option<String>,
}

/// Spans on their way out.
#[derive(Debug, Default)]
struct Queue {
    inner: Mutex<Waiting>,
    full: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: Vec<Span>,
    dropped: u64,
}

impl Queue {
    fn push(&self, span: Span) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.spans.len() >= CAPACITY {
            inner.dropped += 1;
            return;
        }
        inner.spans.push(span);
        if inner.spans.len() == BATCH {
            self.full.notify_one();
        }
    }

    /// The oldest spans, and how many were dropped since the last time.
    fn take(&self) -> (Vec<Span>, u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inner.spans.len().min(BATCH);
        (
            inner.spans.drain(..count).collect(),
            std::mem::take(&mut inner.dropped),
        )
    }

    /// Puts back what could not be sent, as far as there is room; it stays the oldest.
    fn restore(&self, mut batch: Vec<Span>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        batch.append(&mut inner.spans);
        let excess = batch.len().saturating_sub(CAPACITY);
        inner.dropped += excess as u64;
        inner.spans = batch.split_off(excess);
    }
}
