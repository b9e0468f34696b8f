//! Log lines on standard output: one per event, JSON unless a terminal reads them, never a secret.

use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::Level;

/// Starts logging for this process.
pub(super) fn start() {
    let builder = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_target(false);
    // A second call, in tests, keeps the first subscriber.
    if io::stdout().is_terminal() {
        let _ = tracing::subscriber::set_global_default(builder.with_writer(|| Lossy).finish());
    } else {
        let json = builder.json().flatten_event(true).with_writer(|| Lossy);
        let _ = tracing::subscriber::set_global_default(json.finish());
    }
}

/// Whether standard output takes at least a page without blocking.
pub(super) fn writable() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut fds = [PollFd::from_borrowed_fd(stdout, PollFlags::OUT)];
    matches!(
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0
            })
        ),
        Ok(1..)
    )
}

/// Standard output that drops a line rather than wait: a runtime that stops reading the container's log must
/// stop neither PID 1 nor the supervisor.
struct Lossy;

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if writable() {
            // A page always fits then; longer lines are cut so that they fit too.
            let (page, _) = line.split_at(line.len().min(4096));
            let _ = io::stdout().lock().write_all(page);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if writable() {
            io::stdout().lock().flush()
        } else {
            Ok(())
        }
    }
}
