//! What the kernel counts of this container's memory: how often it has killed a process for want of it.
//!
//! Where the kernel kills only one process of a container, nobody outside learns of it: neither exit code nor
//! Event of the Pod says so.

use std::fs;

/// Version 2 of the control groups, and version 1; the container sees its own group there.
const COUNTERS: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

/// Processes of this container that were killed for want of memory; `None` where that is not counted.
pub(super) fn kills() -> Option<u64> {
    COUNTERS
        .iter()
        .find_map(|path| count(&fs::read_to_string(path).ok()?))
}

fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn both_versions_of_control_groups_are_understood() {
        let two = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        let one = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n";
        assert_eq!((count(two), count(one)), (Some(2), Some(7)));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
