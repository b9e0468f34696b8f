//! The agent: PID 1 of every database container.

fn main() -> std::process::ExitCode {
    dbclaim::agent::main()
}
