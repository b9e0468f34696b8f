//! Whether a program is linked statically, read from its ELF headers. An image on scratch has no loader and
//! no libraries, and a kubelet's message for a missing loader is "no such file or directory".

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The program header that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// Whether the program runs without a loader. A 64-bit little-endian ELF file is expected.
pub(super) fn is_static(program: &Path) -> io::Result<bool> {
    let mut file = File::open(program)?;
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a 64-bit little-endian ELF file",
        ));
    }
    file.seek(SeekFrom::Start(number(&header, 32, 8)?))?;
    let entry_size = number(&header, 54, 2)?;
    let entries = number(&header, 56, 2)?;
    let mut table = Vec::new();
    file.take(entry_size * entries).read_to_end(&mut table)?;
    for index in 0..entries {
        let offset = usize::try_from(index * entry_size).map_err(io::Error::other)?;
        if number(&table, offset, 4)? == u64::from(PT_INTERP) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The little-endian number of `size` bytes at an offset.
fn number(bytes: &[u8], offset: usize, size: usize) -> io::Result<u64> {
    let field = bytes
        .get(offset..offset + size)
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        // The test program itself is linked as every Rust program on this target is by default.
        assert!(!is_static(&std::env::current_exe().unwrap()).unwrap());
    }

    #[test]
    fn a_program_without_a_loader_is_static() {
        let program = crate::image::test_folder("linkage").join("program");
        let mut elf = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        // The same program with no program headers at all.
        elf[56..58].fill(0);
        std::fs::write(&program, elf).unwrap();
        assert!(is_static(&program).unwrap());
        std::fs::remove_dir_all(program.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_script_is_not_taken_for_a_program() {
        let script = crate::image::test_folder("linkage-script").join("script");
        std::fs::write(&script, "#!/bin/sh\n".repeat(20)).unwrap();
        assert_eq!(is_static(&script).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::remove_dir_all(script.parent().unwrap()).unwrap();
    }
}
