//! Log output: text on a terminal, JSON elsewhere.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

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

/// Sets up logging to standard error for the whole process.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: &str, format: Format) -> Result<(), Error> {
    let parsed = EnvFilter::try_new(filter);
    let parsed = parsed.map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let json = match format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr);
    if json {
        lines.json().flatten_event(true).init();
    } else {
        lines.with_target(false).init();
    }
    Ok(())
}
