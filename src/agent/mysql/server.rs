//! The server's process: finding its program, initialising, starting, and finding a server that runs already.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, getuid};

use super::{Mysql, text};
use crate::agent::engine::{Configured, Start};
use crate::agent::process::Process;
use crate::api::protocol::Trouble;

/// The operating system's user that may administer; official images call their uid so.
const SYSTEM_USER: &str = "mysql";
/// Written by us and not by the server, which writes its own only when it is nearly up.
const PID_FILE: &str = "engine.pid";
/// What is done to a new data directory, before anybody can connect to it. Who administers it is known by
/// the uid of the process that connects over the socket: there is no password that could leak or be lost.
const INIT: &str = "\
SET sql_log_bin = 0;
UPDATE mysql.user SET plugin = 'auth_socket', authentication_string = 'mysql' WHERE user = 'root' AND host = 'localhost';
";

/// The server's program, where the image has it in the series that is asked for.
pub(super) fn program(series: &str, search_path: &str) -> Result<PathBuf, Trouble> {
    let missing = |message: String| Trouble {
        reason: "EngineMissing".into(),
        message,
    };
    let places = std::env::split_paths(search_path).chain([PathBuf::from("/usr/sbin")]);
    let program = places
        .map(|directory| directory.join("mysqld"))
        .find(|program| program.exists())
        .ok_or_else(|| {
            missing(format!(
                "this image has no MySQL {series}; use an image that has it"
            ))
        })?;
    let says = Command::new(&program).arg("--version").env_clear().output();
    let says = says
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let version = says.split_once("Ver ").map(|(_, version)| version);
    if version.and_then(text::series).as_deref() == Some(series) {
        return Ok(program);
    }
    Err(missing(format!(
        "this image has {says:?}, but MySQL {series} is asked for; use an image that has it"
    )))
}

impl Mysql {
    pub(in crate::agent) async fn initialize(&self, start: Start) -> Result<String, Trouble> {
        let failed = |message: String| Trouble {
            reason: "InitializeFailed".into(),
            message,
        };
        check_system_user().map_err(failed)?;
        let parent = self.data.parent().unwrap_or(&self.data);
        fs::create_dir_all(parent)
            .map_err(|error| failed(format!("cannot create {}: {error}", parent.display())))?;
        let script = self.run.join("init.sql");
        write_private(&script, INIT)
            .map_err(|error| failed(format!("cannot write {}: {error}", script.display())))?;
        let mut command = self
            .command()
            .map_err(|error| failed(format!("cannot prepare the server's directories: {error}")))?;
        command
            .arg(format!("--init-file={}", script.display()))
            .arg("--initialize-insecure");
        let child = spawn(&mut command, start)
            .map_err(|error| failed(format!("cannot run mysqld --initialize: {error}")))?;
        let ended = match Process::open(Pid::from_child(&child)) {
            Ok(process) => process.exited().await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(how) if how == "exited with code 0" => {}
            Ok(how) => return Err(failed(format!("mysqld --initialize {how}"))),
            Err(error) => return Err(failed(format!("cannot wait for mysqld --initialize: {error}"))),
        }
        self.sync()
            .map_err(|error| failed(format!("cannot sync the new data directory: {error}")))?;
        self.server_uuid()
            .ok_or_else(|| failed("mysqld --initialize left no readable auto.cnf".into()))
    }

    pub(in crate::agent) fn start(&self, start: Start) -> Result<Process, Trouble> {
        let failed = |message: String| Trouble {
            reason: "EngineFailed".into(),
            message,
        };
        check_system_user().map_err(failed)?;
        // Handling of fsGroup may have loosened it.
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o750))
            .map_err(|error| failed(format!("cannot set the mode of {}: {error}", self.data.display())))?;
        self.remove_stale_files();
        self.remember(Configured::default());
        let mut command = self
            .command()
            .map_err(|error| failed(format!("cannot prepare the server's directories: {error}")))?;
        command
            .current_dir(&self.data)
            .arg("--plugin-load-add=auth_socket.so");
        for (name, path) in self.stored().into_iter().flatten() {
            command.arg(format!("--{name}={}", path.display()));
        }
        let child =
            spawn(&mut command, start).map_err(|error| failed(format!("cannot run mysqld: {error}")))?;
        let process = Process::open(Pid::from_child(&child))
            .map_err(|error| failed(format!("cannot watch mysqld: {error}")))?;
        // Without it the next supervisor would start the server again instead of adopting it.
        if let Err(error) = fs::write(self.pid_file(), child.id().to_string()) {
            tracing::warn!(%error, "pid file not written");
        }
        Ok(process)
    }

    /// A server of ours that runs already. It is known by its working directory and its command line: another
    /// process may have its pid by now.
    pub(in crate::agent) fn running(&self) -> Option<Process> {
        let pid: i32 = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let process = Process::open(Pid::from_raw(pid)?).ok()?;
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let here = fs::read_link(proc.join("cwd")).ok()? == fs::canonicalize(&self.data).ok()?;
        let line = fs::read(proc.join("cmdline")).ok()?;
        let mut arguments = line.split(|byte| *byte == 0);
        let server = arguments.next()?.ends_with(b"/mysqld");
        let data = format!("--datadir={}", self.data.display());
        let ours = arguments.any(|argument| argument == data.as_bytes());
        (here && server && ours).then_some(process)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run.join("mysqld.sock")
    }

    fn pid_file(&self) -> PathBuf {
        self.run.join(PID_FILE)
    }

    /// The lock beside the socket names a pid that in a new container may be that of some other process, and
    /// the server would refuse to start. The volume's lock has proven that no server uses the data.
    fn remove_stale_files(&self) {
        for name in ["mysqld.sock", "mysqld.sock.lock", "mysqld.pid", PID_FILE] {
            let _ = fs::remove_file(self.run.join(name));
        }
    }

    /// What the server syncs itself is InnoDB's; these two files tell what the directory is.
    fn sync(&self) -> io::Result<()> {
        for name in ["auto.cnf", "mysql_upgrade_history", "."] {
            match File::open(self.data.join(name)) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        File::open(self.data.parent().unwrap_or(&self.data))?.sync_all()
    }

    /// The server with nothing of our environment, and with what is not the configuration's to decide: where
    /// its files are, and that nobody changes settings behind the configuration's back.
    fn command(&self) -> io::Result<Command> {
        let temporary = self.data.with_file_name("tmp");
        fs::create_dir_all(&temporary)?;
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // It must be the first argument.
        command.arg(format!("--defaults-file={}", self.config.display()));
        for (option, path) in [
            ("datadir", &self.data),
            ("tmpdir", &temporary),
            ("socket", &self.socket()),
            ("pid-file", &self.run.join("mysqld.pid")),
        ] {
            command.arg(format!("--{option}={}", path.display()));
        }
        command.args([
            "--secure-file-priv=NULL",
            "--loose-mysqlx=OFF",
            "--loose-innodb-numa-interleave=OFF",
            "--persisted-globals-load=OFF",
            "--auto-generate-certs=OFF",
            "--default-time-zone=+00:00",
        ]);
        Ok(command)
    }
}

/// The server asks the system for the name of the uid that connects; without it nobody could administer.
fn check_system_user() -> Result<(), String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = getuid().as_raw().to_string();
    let named = passwd.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(SYSTEM_USER) && fields.nth(1) == Some(uid.as_str())
    });
    if named {
        return Ok(());
    }
    Err(format!(
        "/etc/passwd of this image does not call uid {uid} {SYSTEM_USER:?}; use an official image, or one made like it"
    ))
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

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}
