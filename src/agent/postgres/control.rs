//! `pg_control`: the one fact that we need of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The system identifier: the first eight bytes, in the machine's byte order. `None` when they cannot be read
/// or are none: initdb never makes a zero.
pub(super) fn system_identifier(control: &Path) -> Option<String> {
    let mut bytes = [0; 8];
    File::open(control).ok()?.read_exact(&mut bytes).ok()?;
    match u64::from_ne_bytes(bytes) {
        0 => None,
        identifier => Some(identifier.to_string()),
    }
}
