//! The kernel settings of the whole machine that a kubelet changes when it starts (and nothing can keep it from
//! that): remembered before the first cluster with nodes, and put back after the last one.

use std::{collections::BTreeMap, fs, io, path::Path};

/// What `setupKernelTunables` of the kubelet sets, below `/proc/sys`.
const SET_BY_KUBELET: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Values by name.
pub(crate) type Tunables = BTreeMap<String, String>;

/// The values of now; a setting that this kernel does not have is left out.
pub(crate) fn read() -> Tunables {
    let value = |name: &&str| Some(((*name).to_owned(), current(name)?));
    SET_BY_KUBELET.iter().filter_map(value).collect()
}

/// Puts back what differs.
pub(crate) fn restore(tunables: &Tunables) -> io::Result<()> {
    for (name, value) in tunables {
        if current(name).is_some_and(|current| current != *value) {
            fs::write(Path::new("/proc/sys").join(name), value)?;
        }
    }
    Ok(())
}

fn current(name: &str) -> Option<String> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(value.trim().to_owned())
}
