//! The operator.

use std::process::ExitCode;

fn main() -> ExitCode {
    dbclaim::cli::main()
}
