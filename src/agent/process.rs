//! Processes: what descends from whom, and handles that cannot mean another process after a pid is reused.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A live process, ours by birth or adopted.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pid: Pid,
    fd: Arc<OwnedFd>,
}

impl Process {
    /// A handle on the process that has this pid now.
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self {
            pid,
            fd: Arc::new(pidfd_open(pid, PidfdFlags::empty())?),
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.fd.as_fd(), signal)?)
    }

    /// Waits for the end; says how the process ended where that can be known (not for an adopted one).
    pub(super) async fn exited(&self) -> io::Result<String> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an owned descriptor is what that asks for"
        )]
        let watched = AsyncFd::with_interest(self.fd.try_clone()?, Interest::READABLE)?;
        let _ready = watched.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = waitid(WaitId::PidFd(self.fd.as_fd()), options) else {
            return Ok("ended".into());
        };
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".into(),
        })
    }
}

/// Every live descendant of `ancestor`, in no order.
pub(super) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if let Some((parent, alive)) = parent_and_life(&stat) {
            children.entry(parent).or_default().push((pid, alive));
        }
    }
    let mut found = Vec::new();
    let mut open = vec![ancestor.as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        for (pid, alive) in children.remove(&parent).unwrap_or_default() {
            open.push(pid);
            if alive {
                found.extend(Pid::from_raw(pid));
            }
        }
    }
    found
}

/// Kills `victims` and waits until they are gone; returns how many were not within `patience`.
pub(super) async fn kill_all(victims: Vec<Pid>, patience: Duration) -> usize {
    let handles: Vec<Process> = victims
        .into_iter()
        .filter_map(|pid| Process::open(pid).ok())
        .collect();
    for process in &handles {
        let _ = process.signal(Signal::KILL);
    }
    let mut gone = 0;
    let total = handles.len();
    let _ = tokio::time::timeout(patience, async {
        for process in &handles {
            let _ = process.exited().await;
            gone += 1;
        }
    })
    .await;
    total - gone
}

/// Parent and whether it still runs, from `/proc/<pid>/stat`. The command in parentheses may hold anything.
fn parent_and_life(stat: &str) -> Option<(i32, bool)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((parent, !matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::parent_and_life;

    #[test]
    fn a_command_with_parentheses_does_not_hide_the_parent() {
        assert_eq!(parent_and_life("12 (a) R (b) S 7 12 12 0"), Some((7, true)));
        assert_eq!(parent_and_life("12 (postgres) Z 1 12 12 0"), Some((1, false)));
        assert_eq!(parent_and_life("garbage"), None);
    }
}
