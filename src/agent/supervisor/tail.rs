//! The engine's log on its way to the container's log.
//!
//! The engine writes to a file, not to a pipe of ours: a pipe would break, or fill up and stop the engine,
//! when the supervisor dies, and the container's own pipe would stop it when the runtime does not read. The
//! file lives in an emptyDir; what has been copied is cut out of it, so that it does not grow.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, ftruncate};

use super::Context;
use crate::agent::engine::Engine;
use crate::agent::log;

/// How often new lines are looked for.
const PERIOD: Duration = Duration::from_secs(1);
/// Lines that are kept for the report.
const LINES: usize = 20;
/// Characters of a line that are kept for the report.
const WIDTH: usize = 300;
/// Copied bytes after which their space is given back.
const CUT: u64 = 1 << 20;

/// The engine's log file.
#[derive(Debug)]
pub(super) struct EngineLog {
    path: PathBuf,
    /// Where the next supervisor goes on.
    position_file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    position: u64,
    cut: u64,
    last: VecDeque<String>,
}

/// Copies new lines as they come.
pub(super) async fn follow(context: Arc<Context>) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        context.log.copy();
    }
}

impl EngineLog {
    pub(super) fn new(path: PathBuf) -> Self {
        let position_file = path.with_extension("position");
        let position = fs::read_to_string(&position_file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let state = State {
            position: position.min(length),
            cut: 0,
            last: VecDeque::new(),
        };
        Self {
            path,
            position_file,
            state: Mutex::new(state),
        }
    }

    /// The file for a new engine process to append to.
    pub(super) fn writer(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.path)
    }

    /// Forgets the last lines: what comes next is of another process.
    pub(super) fn forget_lines(&self) {
        self.copy();
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last
            .clear();
    }

    /// Copies what is new to standard output, as long as that takes it.
    pub(super) fn copy(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&self.path) else {
            return;
        };
        let before = state.position;
        let mut page = [0; 4096];
        while log::writable() {
            let Ok(count @ 1..) = file.read_at(&mut page, state.position) else {
                break;
            };
            let Some(lines) = page.get(..count).and_then(whole_lines) else {
                break;
            };
            if io::stdout().lock().write_all(lines).is_err() {
                break;
            }
            state.position += lines.len() as u64;
            state.remember(&String::from_utf8_lossy(lines));
        }
        if state.position != before {
            let _ = fs::write(&self.position_file, state.position.to_string());
            state.cut_out(&file);
        }
    }

    /// The last lines that were copied, for a human.
    pub(super) fn last_lines(&self) -> String {
        self.copy();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .last
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl State {
    fn remember(&mut self, text: &str) {
        let sent = Engine::SENT;
        let of_the_engine = |line: &&str| !sent.iter().copied().flatten().any(|mark| line.contains(mark));
        for line in text.lines().filter(of_the_engine) {
            self.last.push_back(line.chars().take(WIDTH).collect());
        }
        while self.last.len() > LINES {
            self.last.pop_front();
        }
    }

    /// Gives back the space of what was copied. Cut out rather than truncated: the engine may be writing the
    /// next line just now.
    fn cut_out(&mut self, file: &File) {
        if self.position < self.cut + CUT {
            return;
        }
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if fallocate(file, mode, 0, self.position).is_err() && ftruncate(file, 0).is_ok() {
            self.position = 0;
        }
        self.cut = self.position;
    }
}

/// Up to the last newline; all of a page that has none.
fn whole_lines(page: &[u8]) -> Option<&[u8]> {
    let end = page.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1);
    match end {
        Some(end) => page.get(..end),
        None if page.len() == 4096 => Some(page),
        None => None,
    }
}
