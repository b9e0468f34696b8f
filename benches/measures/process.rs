//! What the kernel says about a process.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

use crate::table::megabytes;

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Its own: heap, stacks, changed data.
    pub anon: u64,
    /// Pages of files, above all its program; the kernel can drop them.
    pub file: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

/// Memory of a process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim_end_matches("kB").trim().parse::<u64>().ok());
        number
            .map(|kilobytes| kilobytes * 1024)
            .with_context(|| format!("/proc/{pid}/status has no {name}"))
    };
    Ok(Memory {
        anon: field("RssAnon:")?,
        file: field("RssFile:")?,
        peak: field("VmHWM:")?,
    })
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (all, anon, file) = (self.anon + self.file, self.anon, self.file);
        write!(
            f,
            "{} (anon {}, file {})",
            megabytes(all),
            megabytes(anon),
            megabytes(file)
        )
    }
}

/// CPU time that a process has used, in steps of 10 ms.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u32 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|it| it.parse::<u32>().ok())
        .sum();
    Ok(TICK * ticks)
}

/// Processes in a Pod's containers, but for the one that holds the sandbox: id and command line.
pub fn of_pod(uid: &str) -> Vec<(u32, String)> {
    let mark = format!("pod{uid}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command)
            .replace('\0', " ")
            .trim()
            .to_owned();
        let counts = cgroup.contains(&mark) && !command.is_empty() && !command.contains("pause");
        counts.then_some((pid, command))
    })
    .collect()
}
