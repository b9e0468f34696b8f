//! The server's processes: finding binaries, initdb, start, and finding a server that runs already.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use super::{Postgres, control};
use crate::agent::engine::Start;
use crate::agent::process::Process;
use crate::api::protocol::Trouble;

/// Where the server says who it is: pid, data directory, start, port, socket directory, …
#[derive(Debug)]
pub(super) struct PidFile {
    pid: Pid,
    /// Absent in the first moments of a start.
    pub(super) listening: Option<(u16, PathBuf)>,
}

/// Directory of the binaries of this major version: Debian's place, or the search path (official images for
/// Alpine), where the version must be asked.
pub(super) fn binaries(major: u32, search_path: &str) -> Result<PathBuf, Trouble> {
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    if debian.join("postgres").exists() {
        return Ok(debian);
    }
    let Some(bin) = std::env::split_paths(search_path).find(|directory| directory.join("postgres").exists())
    else {
        let message = format!("this image has no PostgreSQL {major}; use an image that has it");
        return Err(Trouble {
            reason: "EngineMissing".into(),
            message,
        });
    };
    let says = Command::new(bin.join("postgres"))
        .arg("--version")
        .env_clear()
        .output();
    let says = says
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    if says
        .strip_prefix("postgres (PostgreSQL) ")
        .and_then(leading_number)
        == Some(major)
    {
        return Ok(bin);
    }
    let message =
        format!("this image has {says:?}, but PostgreSQL {major} is asked for; use an image that has it");
    Err(Trouble {
        reason: "EngineMissing".into(),
        message,
    })
}

fn leading_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl Postgres {
    pub(in crate::agent) async fn initialize(&self, start: Start) -> Result<String, Trouble> {
        let failed = |message: String| Trouble {
            reason: "InitializeFailed".into(),
            message,
        };
        let parent = self.data.parent().unwrap_or(&self.data);
        fs::create_dir_all(parent)
            .map_err(|error| failed(format!("cannot create {}: {error}", parent.display())))?;
        let mut command = self.command("initdb");
        command.arg("-D").arg(&self.data).args(self.initdb_options());
        let child =
            spawn(&mut command, start).map_err(|error| failed(format!("cannot run initdb: {error}")))?;
        let ended = Process::open(Pid::from_child(&child));
        let ended = match ended {
            Ok(process) => process.exited().await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(how) if how == "exited with code 0" => {}
            Ok(how) => return Err(failed(format!("initdb {how}"))),
            Err(error) => return Err(failed(format!("cannot wait for initdb: {error}"))),
        }
        let identifier = control::system_identifier(&self.data.join("global/pg_control"));
        identifier.ok_or_else(|| failed("initdb left no readable global/pg_control".into()))
    }

    pub(in crate::agent) fn start(&self, start: Start) -> Result<Process, Trouble> {
        let failed = |message: String| Trouble {
            reason: "EngineFailed".into(),
            message,
        };
        // fsGroup handling may have loosened it, and the server refuses anything wider.
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o700))
            .map_err(|error| failed(format!("cannot set the mode of {}: {error}", self.data.display())))?;
        self.remove_stale_locks();
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data);
        for (name, path) in [
            ("config_file", self.config.join("postgresql.conf")),
            ("hba_file", self.config.join("pg_hba.conf")),
            ("unix_socket_directories", self.run.clone()),
        ] {
            command.arg("-c").arg(format!("{name}={}", path.display()));
        }
        // What it logs goes where it is copied to the container's log.
        command.args(["-c", "log_destination=stderr", "-c", "logging_collector=off"]);
        let child =
            spawn(&mut command, start).map_err(|error| failed(format!("cannot run postgres: {error}")))?;
        Process::open(Pid::from_child(&child))
            .map_err(|error| failed(format!("cannot watch postgres: {error}")))
    }

    /// A server of ours that runs already. It is known by its working directory and its command line: other
    /// processes may have its pid by now, its own children rewrite theirs, and start times move with the
    /// clock.
    pub(in crate::agent) fn running(&self) -> Option<Process> {
        let process = Process::open(self.pid_file()?.pid).ok()?;
        let proc = PathBuf::from(format!("/proc/{}", process.pid().as_raw_nonzero()));
        let here = fs::read_link(proc.join("cwd")).ok()? == fs::canonicalize(&self.data).ok()?;
        let line = fs::read(proc.join("cmdline")).ok()?;
        let mut arguments = line.split(|byte| *byte == 0);
        let server = arguments.next()?.ends_with(b"/postgres");
        let ours = arguments.any(|argument| argument == self.data.as_os_str().as_encoded_bytes());
        (here && server && ours).then_some(process)
    }

    pub(super) fn pid_file(&self) -> Option<PidFile> {
        parse_pid_file(&fs::read_to_string(self.data.join("postmaster.pid")).ok()?)
    }

    /// In a new container the pid in a left-over lock file may be that of some other process, and the server
    /// would refuse to start. The volume's lock has proven that no server of any container uses the data.
    fn remove_stale_locks(&self) {
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        let Ok(entries) = fs::read_dir(&self.run) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn initdb_options(&self) -> Vec<&'static str> {
        let mut options = vec![
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
            "--auth-local=peer",
            "--auth-host=scram-sha-256",
            "--no-instructions",
        ];
        if self.major >= 17 {
            options.extend(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        }
        options
    }

    /// A program of this installation with nothing of our environment: neither the address of the API
    /// server nor anything else is the engine's business.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/local/bin:/usr/bin:/bin", self.bin.display()),
            )
            .env("LANG", "C.UTF-8")
            // Rather one backend than the postmaster when memory runs out; ignored where it is not allowed.
            .env("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj")
            .env("PG_OOM_ADJUST_VALUE", "0");
        command
    }
}

/// In a process group of its own, so that signals to ours do not reach it.
fn spawn(command: &mut Command, start: Start) -> io::Result<Child> {
    let Start { lock, log } = start;
    command
        .stdin(Stdio::from(lock))
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

fn parse_pid_file(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid = Pid::from_raw(lines.next()?.trim().parse().ok()?)?;
    let mut rest = lines.skip(2);
    let port = rest.next().and_then(|line| line.trim().parse().ok());
    let socket = rest
        .next()
        .map(str::trim)
        .filter(|directory| !directory.is_empty());
    let listening = port.zip(socket.map(|directory| Path::new(directory).to_owned()));
    Some(PidFile { pid, listening })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_understood_at_every_stage_of_a_start() {
        let early = parse_pid_file("4711\n/data\n1700000000\n").unwrap();
        assert_eq!((early.pid.as_raw_nonzero().get(), early.listening), (4711, None));
        let late =
            parse_pid_file("4711\n/data\n1700000000\n5433\n/run/x\nlocalhost\n  1 2\nready   \n").unwrap();
        assert_eq!(late.listening, Some((5433, PathBuf::from("/run/x"))));
        assert!(parse_pid_file("").is_none());
        assert!(parse_pid_file("-4\n").is_none());
    }

    #[test]
    fn the_major_version_is_the_leading_number() {
        assert_eq!(leading_number("17.5 (Debian 17.5-1)"), Some(17));
        assert_eq!(leading_number("18beta1"), Some(18));
        assert_eq!(leading_number("devel"), None);
    }
}
