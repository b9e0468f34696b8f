//! Runs short system commands (`ip`, `apt-get` …) to their end.
//!
//! Synchronous on purpose: a start that is cancelled is dropped between two commands, never in the middle of
//! one, so that cleaning up afterwards sees all that was made.

use std::{
    ffi::OsStr,
    io,
    process::{Command, Stdio},
};

/// A system command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("running `{command}` failed: {source}")]
    Run {
        /// The whole command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// The whole command line.
        command: String,
        /// What it printed.
        said: String,
    },
}

/// Runs a command and returns what it printed.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    output(&mut command)
}

/// Runs a prepared command and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let output = command.output().map_err(|source| Error::Run {
        command: shown(command),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stderr, output.stdout].concat();
    Err(Error::Failed {
        command: shown(command),
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Runs a command given as one line of words without spaces in them.
pub(crate) fn line(words: &str) -> Result<String, Error> {
    let mut words = words.split_whitespace();
    run(words.next().unwrap_or_default(), words)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
