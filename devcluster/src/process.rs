//! Finds and kills the processes of a cluster.
//!
//! Every program that a cluster starts carries the cluster's folder in its environment, and so do its own
//! children. That mark is there from the first instruction on, needs no list that could be incomplete, and can
//! never be found in a process that merely got the same id later.

use std::{ffi::OsStr, fs, io, os::unix::ffi::OsStrExt, path::Path, process::Command};

use rustix::process::{Pid, Signal};

/// The variable that marks the processes of a cluster.
pub(crate) const MARK: &str = "DEVCLUSTER_FOLDER";

/// A command whose process, and whose children, can be found by the folder of the cluster.
pub(crate) fn marked(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env(MARK, folder);
    command
}

/// Sends SIGKILL to all processes of a cluster and returns how many there were.
#[cfg(target_os = "linux")]
pub(crate) fn kill_marked(folder: &Path) -> io::Result<usize> {
    let mark = [MARK.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat();
    let is_marked = |pid: Pid| {
        // Unreadable means another user's or gone, a dead one's environment is empty.
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark)
    };
    let mut killed = 0;
    for entry in fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| is_marked(*pid)) else {
            continue;
        };
        killed += usize::from(kill_if(pid, is_marked)?.is_some());
    }
    Ok(killed)
}

/// Sends SIGKILL to all processes of a cluster and returns how many there were.
#[cfg(not(target_os = "linux"))]
pub(crate) fn kill_marked(folder: &Path) -> io::Result<usize> {
    let output = Command::new("ps")
        .args(["-axEww", "-o", "pid=,command="])
        .output()?;
    let mark = format!(" {MARK}={} ", folder.display());
    let mut killed = 0;
    for line in String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| format!("{line} ").contains(&mark))
    {
        let pid = line
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .and_then(Pid::from_raw);
        killed +=
            usize::from(pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok()));
    }
    Ok(killed)
}

/// Sends SIGKILL to a process if it still is what it was taken for, and returns it if it was there.
#[cfg(target_os = "linux")]
pub(crate) fn kill_if(pid: Pid, is_it: impl FnOnce(Pid) -> bool) -> io::Result<Option<Dying>> {
    use rustix::{
        io::Errno,
        process::{PidfdFlags, pidfd_open, pidfd_send_signal},
    };
    // The descriptor holds on to this very process; the check after opening it rules out a recycled id.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !is_it(pid) {
        return Ok(None);
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) => Ok(Some(Dying(process))),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A process that was sent SIGKILL.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Dying(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Dying {
    /// Waits until it has given back what it held, its sockets for example. One that the kernel cannot end is not
    /// waited for longer than some seconds.
    pub(crate) fn wait(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let patience = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let wait = || poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience));
        Ok(rustix::io::retry_on_intr(wait).map(drop)?)
    }
}
