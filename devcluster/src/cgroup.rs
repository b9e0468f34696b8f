//! One cgroup per node, for version 1 and 2: the kubelet puts the pods below it, and devcluster the node's own
//! programs, so that killing a node is killing what is in its cgroup.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use crate::process;

/// The child group of containerd, kubelet and kube-proxy.
const SYSTEM: &str = "system";
/// Version 1 keeps a tree per controller; these are good for finding processes, the first that exists is used.
const FINDERS: [&str; 3] = ["pids", "memory", "freezer"];

/// Makes the group `name` and its child for the node's own programs, which is returned.
pub(crate) fn create(name: &str) -> io::Result<PathBuf> {
    match Trees::mounted()? {
        Trees::One { root } => {
            let group = root.join(name);
            delegate(&root)?;
            fs::create_dir_all(&group)?;
            delegate(&group)?;
            create_in(&group.join(SYSTEM))
        }
        Trees::PerController { roots, finder } => {
            for root in &roots {
                let group = root.join(name);
                fs::create_dir_all(&group)?;
                // A new group may use no processor and no memory node until told.
                for file in ["cpuset.cpus", "cpuset.mems"]
                    .iter()
                    .filter(|file| root.join(file).exists())
                {
                    fs::write(group.join(file), fs::read(root.join(file))?)?;
                }
            }
            create_in(&finder.join(name).join(SYSTEM))
        }
    }
}

/// Sends SIGKILL to everything in the group and below, waits until it has ended, and returns how many processes
/// there were.
#[cfg(target_os = "linux")]
pub(crate) fn kill(name: &str) -> io::Result<usize> {
    let tree = match Trees::mounted()? {
        Trees::One { root } => root.join(name),
        Trees::PerController { finder, .. } => finder.join(name),
    };
    let prefix = format!(":/{name}");
    let is_inside = |pid: Pid| {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
        groups
            .lines()
            .filter_map(|line| line.split_once(&prefix))
            .any(|(_, rest)| rest.is_empty() || rest.starts_with('/'))
    };
    let mut dying = Vec::new();
    for group in deepest_first(&tree)? {
        let Ok(members) = fs::read_to_string(group.join("cgroup.procs")) else {
            continue;
        };
        for pid in members
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter_map(Pid::from_raw)
        {
            dying.extend(process::kill_if(pid, is_inside)?);
        }
    }
    for process in &dying {
        process.wait()?;
    }
    Ok(dying.len())
}

/// There are no nodes without cgroups.
#[cfg(not(target_os = "linux"))]
pub(crate) fn kill(_name: &str) -> io::Result<usize> {
    Ok(0)
}

/// Removes the group from every tree, once it is empty.
pub(crate) fn remove(name: &str) -> io::Result<()> {
    // Beside version 1 there may be a version 2 tree without controllers, and runc uses that as well.
    for (root, _) in mounted("cgroup")?.into_iter().chain(mounted("cgroup2")?) {
        for group in deepest_first(&root.join(name))? {
            match fs::remove_dir(&group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// How this machine's cgroups are mounted.
enum Trees {
    /// Version 2.
    One { root: PathBuf },
    /// Version 1.
    PerController { roots: Vec<PathBuf>, finder: PathBuf },
}

impl Trees {
    fn mounted() -> io::Result<Trees> {
        let version_1 = mounted("cgroup")?;
        let has = |controller: &str| {
            let mount = version_1
                .iter()
                .find(|(_, options)| options.split(',').any(|option| option == controller));
            mount.map(|(root, _)| root.clone())
        };
        if let Some(finder) = FINDERS.iter().find_map(|controller| has(controller)) {
            return Ok(Trees::PerController {
                finder,
                roots: version_1.into_iter().map(|(root, _)| root).collect(),
            });
        }
        let root = mounted("cgroup2")?.into_iter().map(|(root, _)| root).next();
        root.map(|root| Trees::One { root }).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "no cgroup file system is mounted below /sys/fs/cgroup",
            )
        })
    }
}

/// The mount points and super options of all mounts of this file system.
fn mounted(kind: &str) -> io::Result<Vec<(PathBuf, String)>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts
        .lines()
        .filter_map(|line| parse_mount(line, kind))
        .collect())
}

/// The mount point and the super options of a line of `mountinfo`, when it is of this file system.
fn parse_mount(line: &str, kind: &str) -> Option<(PathBuf, String)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let root = mount.split(' ').nth(4)?;
    (filesystem.next()? == kind).then(|| {
        (
            PathBuf::from(root),
            filesystem.nth(1).unwrap_or_default().to_owned(),
        )
    })
}

/// Lets the children of a version 2 group have every controller that the group has.
fn delegate(group: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(group.join("cgroup.controllers"))?;
    let all: Vec<_> = controllers
        .split_whitespace()
        .map(|controller| format!("+{controller}"))
        .collect();
    fs::write(group.join("cgroup.subtree_control"), all.join(" "))
}

fn create_in(path: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(path)?;
    Ok(path.to_owned())
}

fn deepest_first(group: &Path) -> io::Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(groups),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            groups.extend(deepest_first(&entry.path())?);
        }
    }
    groups.push(group.to_owned());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_line_gives_place_and_controllers() {
        let line =
            "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let expected = (
            PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"),
            "rw,cpu,cpuacct".to_owned(),
        );
        assert_eq!(parse_mount(line, "cgroup"), Some(expected));
        assert_eq!(parse_mount(line, "cgroup2"), None);
    }
}
