//! What the kernel says of this process, for metrics. Missing where there is no `/proc`.

use std::fs::read_to_string;

/// Clock ticks per second in `/proc`: fixed by the kernel's interface on every platform we run on.
const TICKS: f64 = 100.0;

/// Figures of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    /// Memory in RAM, in bytes.
    pub(super) resident_bytes: u64,
    /// Processor time, in seconds.
    pub(super) cpu_seconds: f64,
    /// When it began, in seconds since 1970.
    pub(super) start_seconds: f64,
}

impl Process {
    pub(super) fn read() -> Option<Self> {
        let resident = read_to_string("/proc/self/status").ok()?;
        let (user, system, start) = times(&read_to_string("/proc/self/stat").ok()?)?;
        let boot: f64 = field(&read_to_string("/proc/stat").ok()?, "btime")?;
        Some(Self {
            resident_bytes: field::<u64>(&resident, "VmRSS:")? * 1024,
            cpu_seconds: (user + system) / TICKS,
            start_seconds: boot + start / TICKS,
        })
    }
}

/// The number behind a name at the beginning of a line.
fn field<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User time, system time and start, in ticks. The program's name comes before and may hold anything.
fn times(stat: &str) -> Option<(f64, f64, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse().ok();
    Some((field(11)?, field(12)?, field(19)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_program_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 4200 99";
        assert_eq!(times(stat), Some((250.0, 50.0, 4200.0)));
    }

    #[test]
    fn this_process_has_memory_and_began_in_the_past() {
        let process = Process::read().expect("/proc");
        assert!(process.resident_bytes > 100_000, "{process:?}");
        let since = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs_f64(seconds);
        let age = std::time::SystemTime::now().duration_since(since(process.start_seconds - 2.0));
        assert!(age.is_ok_and(|it| it.as_secs() < 3600), "{process:?}");
    }
}
