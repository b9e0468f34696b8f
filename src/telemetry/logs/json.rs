//! One JSON object per line, with the fields of the spans around it beside its own, so that whoever searches for
//! a claim finds every line of its passes.

use std::fmt;
use std::io::Write as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Writes lines to standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines;

/// Fields of a span that say whose line it is; what else spans carry is for traces.
const SHOWN: [&str; 3] = ["namespace", "claim", "reconcile_id"];

/// What of a span goes into its lines.
struct Shown(Map<String, Value>);

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !attributes
            .metadata()
            .fields()
            .iter()
            .any(|it| SHOWN.contains(&it.name()))
        {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        fields.0.retain(|key, _| SHOWN.contains(&key.as_str()));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Shown(fields.0));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(shown) = span.extensions_mut().get_mut::<Shown>()
        {
            let mut fields = Fields::default();
            values.record(&mut fields);
            fields.0.retain(|key, _| SHOWN.contains(&key.as_str()));
            shown.0.extend(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        let metadata = event.metadata();
        line.insert("timestamp".into(), timestamp().into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(shown) = span.extensions().get::<Shown>() {
                line.extend(shown.0.clone());
            }
        }
        let mut fields = Fields(line);
        event.record(&mut fields);
        let mut text = Value::Object(fields.0).to_string();
        text.push('\n');
        // There is nobody to tell when the log cannot be written.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of a log line; nothing is decided by it"
)]
fn timestamp() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Collects fields.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
}
