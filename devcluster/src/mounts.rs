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

/// Whether a folder is a file system of its own.
#[cfg(target_os = "linux")]
pub(crate) fn is_mounted(folder: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let parent = folder.parent().unwrap_or(folder);
    Ok(fs::metadata(folder)?.dev() != fs::metadata(parent)?.dev())
}

/// Mounts a file system in memory of this size, or gives the one that is mounted this size.
#[cfg(target_os = "linux")]
pub(crate) fn memory(folder: &Path, bytes: u64, mounted: bool) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount, mount_remount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    if mounted {
        let options = std::ffi::CString::new(format!("size={bytes}"))?;
        return Ok(mount_remount(folder, flags, options.as_c_str())?);
    }
    let options = std::ffi::CString::new(format!("size={bytes},mode=0755"))?;
    Ok(mount("devcluster", folder, "tmpfs", flags, options.as_c_str())?)
}

/// Mounts an overlay that reaches the disk when the kernel writes it: a program that waits for that does not wait.
#[cfg(target_os = "linux")]
pub(crate) fn volatile(folder: &Path, lower: &Path, upper: &Path, work: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let [lower, upper, work] = [lower, upper, work].map(Path::display);
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},volatile");
    let options = std::ffi::CString::new(options)?;
    Ok(mount("devcluster", folder, "overlay", flags, options.as_c_str())?)
}

/// Clusters without nodes mount nothing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn volatile(_folder: &Path, _lower: &Path, _upper: &Path, _work: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Clusters without nodes mount nothing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_mounted(_folder: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Clusters without nodes mount nothing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn memory(_folder: &Path, _bytes: u64, _mounted: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
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
