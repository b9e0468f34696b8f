//! The processes of a Pod, seen from the node, which is this machine.

use std::fs;

/// One process.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub command: String,
}

impl Process {
    /// SIGKILL.
    pub fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    /// Any signal; one that has ended takes none.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Whether it is still there.
    pub fn is_alive(&self) -> bool {
        rustix::process::Pid::from_raw(self.pid)
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    /// Anonymous memory that is resident, in bytes.
    pub fn rss_anon(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap_or_default();
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .unwrap_or_default()
            * 1024
    }
}

/// All processes of a Pod but the pause container's.
pub fn of_pod(uid: &str) -> Vec<Process> {
    let mark = format!("pod{uid}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command)
            .replace('\0', " ")
            .trim()
            .to_owned();
        if cgroup.contains(&mark) && !command.is_empty() && !command.contains("pause") {
            found.push(Process { pid, command });
        }
    }
    found.sort_by_key(|it| it.pid);
    found
}
