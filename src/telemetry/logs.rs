//! Log output: text on a terminal, JSON elsewhere.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

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
        source: tracing_subscriber::filter::ParseError,
    },
}

/// The API client writes whole answers, so also Secrets, to the log when it cannot read them. Nobody's filter
/// may ask for that.
const SILENCED: &str = "kube_client::client=error";

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

fn parse(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    // Also what names a module below, which would count for more than its parent.
    let directives = filter.split(',').map(str::trim).filter(|it| !it.is_empty());
    let allowed: Vec<&str> = directives.filter(|it| !it.starts_with("kube_client")).collect();
    let parsed = EnvFilter::builder().parse(allowed.join(","))?;
    Ok(parsed.add_directive(SILENCED.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_brings_the_bodies_of_answers_into_the_log() {
        for filter in [
            "trace",
            "info,kube_client=trace",
            "kube_client::client=trace,debug",
        ] {
            let parsed = parse(filter).unwrap().to_string();
            assert!(parsed.contains(SILENCED), "{parsed}");
            assert_eq!(parsed.matches("kube_client").count(), 1, "{parsed}");
        }
        assert!(parse("info,dbclaim=loud").is_err());
    }
}
