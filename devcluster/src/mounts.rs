//! Unmounts everything below a folder.

use std::{fs, io, path::Path};

/// Unmounts what is mounted below `folder`, deepest first. What is busy is detached: its processes are dead
/// already and only their last references are pending.
#[cfg(target_os = "linux")]
pub(crate) fn unmount_below(folder: &Path) -> io::Result<()> {
    use rustix::{
        io::Errno,
        mount::{UnmountFlags, unmount},
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape);
    let mut points: Vec<_> = points
        .filter(|point| Path::new(point).starts_with(folder))
        .collect();
    points.sort();
    for point in points.into_iter().rev() {
        let outcome = unmount(point.as_str(), UnmountFlags::empty());
        let outcome = if outcome == Err(Errno::BUSY) {
            unmount(point.as_str(), UnmountFlags::DETACH)
        } else {
            outcome
        };
        match outcome {
            // Not a mount point any more: it went with its parent or its namespace.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Clusters without nodes mount nothing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unmount_below(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// `mountinfo` writes blanks and backslashes as octal numbers.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (written, meant)| {
            path.replace(written, meant)
        })
}
