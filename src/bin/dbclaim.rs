//! The operator.

use std::process::ExitCode;

/// docs/decisions/0015-allocator.md
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    dbclaim::cli::main()
}
