//! The layer that turns `tracing` spans into spans for OTLP.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{Queue, Span, Value};

/// Records spans.
#[derive(Debug)]
pub struct Recorder {
    queue: Arc<Queue>,
    ratio: f64,
}

impl Recorder {
    pub(super) fn new(queue: Arc<Queue>, ratio: f64) -> Self {
        Self { queue, ratio }
    }

    /// Whether a trace is kept, by the lower 56 bits of its id, so that whoever else samples at this ratio keeps
    /// the same ones.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio needs no more than a double has"
    )]
    fn keeps(&self, trace: [u8; 16]) -> bool {
        let low = u128::from_be_bytes(trace) & ((1 << 56) - 1);
        (low as f64) < self.ratio * (1_u64 << 56) as f64
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

impl<S> Layer<S> for Recorder
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let (trace, parent) = match span.parent() {
            None => match random().filter(|trace| self.keeps(*trace)) {
                Some(trace) => (trace, None),
                None => return,
            },
            Some(parent) => match parent.extensions().get::<Span>() {
                Some(parent) => (parent.trace, Some(parent.id)),
                // What belongs to a trace that is not kept is not kept.
                None => return,
            },
        };
        let Some(span_id) = random() else { return };
        let mut recorded = Span {
            trace,
            id: span_id,
            parent,
            name: attributes.metadata().name(),
            client: false,
            start: now(),
            end: 0,
            attributes: Vec::new(),
            error: None,
        };
        attributes.record(&mut recorded);
        span.extensions_mut().insert(recorded);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(recorded) = span.extensions_mut().get_mut::<Span>()
        {
            values.record(recorded);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN
            && let Some(span) = context.event_span(event)
            && let Some(recorded) = span.extensions_mut().get_mut::<Span>()
        {
            let mut said = Said::default();
            event.record(&mut said);
            recorded.error = Some(said.0);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let recorded = context
            .span(&id)
            .and_then(|span| span.extensions_mut().remove::<Span>());
        if let Some(mut recorded) = recorded {
            recorded.end = now();
            self.queue.push(recorded);
        }
    }
}

impl Span {
    fn set(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("otel.kind", value) => self.client = value == Value::Text("client".into()),
            (name, value) => self.attributes.push((name, value)),
        }
    }
}

impl Visit for Span {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Value::Fraction(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::Number(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Value::Number(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::Flag(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, Value::Text(format!("{value:?}")));
    }
}

/// Message and error of an event.
#[derive(Default)]
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if ["message", "error"].contains(&field.name()) {
            if !self.0.is_empty() {
                self.0.push_str(": ");
            }
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_keeps_its_share_of_traces() {
        for (ratio, low, high) in [(0.0, 0, 0), (0.25, 700, 1300), (1.0, 4096, 4096)] {
            let recorder = Recorder::new(Arc::default(), ratio);
            let kept = (0..4096).filter(|_| recorder.keeps(random().unwrap())).count();
            assert!((low..=high).contains(&kept), "{kept} of 4096 at {ratio}");
        }
    }
}
