//! Log output: text on a terminal, JSON elsewhere.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, ParseError, Targets, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use super::traces::Recorder;

mod json;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, Error)]
pub enum Error {
    /// Not a filter.
    #[error("{filter:?} is not a log filter; write a level such as info, or target=level pairs: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
}

/// Where the API client writes whole answers, so also Secrets, when it cannot read them.
const BODIES: &str = "kube_client::client";

/// Sets up logging to standard error for the whole process, and the recording of spans where it is wanted.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: &str, format: Format, traces: Option<Recorder>) -> Result<(), Error> {
    let parsed = parse(filter).map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let json = match format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !std::io::stderr().is_terminal(),
    };
    // Filters are per layer: what is logged does not decide what is traced.
    let lines = lines(json).with_filter(parsed);
    let traces = traces.map(|it| it.with_filter(super::traces::filter()));
    Registry::default().with(lines).with(traces).init();
    tell_panics();
    Ok(())
}

fn lines<S>(json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if json {
        json::Lines.boxed()
    } else {
        tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_writer(std::io::stderr)
            .boxed()
    }
}

/// What is asked for, without what nobody may ask for.
fn parse<S>(filter: &str) -> Result<impl Filter<S> + Send + Sync + 'static, ParseError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let asked: Targets = filter.parse()?;
    let allowed = filter_fn(|it| it.is_span() || it.target() != BODIES);
    // It limits no level. Saying so keeps what is not asked for from being looked at each time.
    Ok(asked.and(allowed.with_max_level_hint(LevelFilter::TRACE)))
}

/// A panic becomes a line like any other, with the claim whose pass it ended.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let payload = panic.payload();
        let owned = || payload.downcast_ref::<String>().map(String::as_str);
        let detail = payload.downcast_ref::<&str>().copied().or_else(owned);
        tracing::error!(location, detail, "a task panicked; this is a defect of dbclaim");
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Remembers targets.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Heard {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.lock().unwrap().push(event.metadata().target().to_owned());
        }
    }

    #[test]
    fn no_filter_brings_the_bodies_of_answers_into_the_log() {
        for filter in ["trace", "kube_client::client=trace", "kube_client=trace,info"] {
            let heard = Heard::default();
            let subscriber = Registry::default().with(heard.clone().with_filter(parse(filter).unwrap()));
            tracing::subscriber::with_default(subscriber, || {
                let _pass = tracing::error_span!("pass").entered();
                tracing::warn!(target: "kube_client::client", "a whole Secret");
                tracing::error!(target: "kube_client::client::builder", "a status");
            });
            assert_eq!(
                *heard.0.lock().unwrap(),
                ["kube_client::client::builder"],
                "{filter}"
            );
        }
        assert!(parse::<Registry>("info,dbclaim=loud").is_err());
    }
}
