//! One member: its directory, its files, its processes, and how to ask it things.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::Client;
use crate::engines::{Engine, Prerequisites};

/// The directory of one member and the container that runs there, if any.
pub(crate) struct Member {
    pub(crate) needs: Prerequisites,
    pub(crate) root: PathBuf,
    pub(crate) port: u16,
    http: u16,
    swaps: u32,
    config: Value,
    /// Whether connections over the network must be encrypted.
    pub(crate) encrypted: bool,
    /// Name that clients log in with.
    pub(crate) login: &'static str,
    /// More environment of the container.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Runs the container in a process namespace of its own, where the fencer is PID 1.
    pub(crate) isolated: bool,
    /// Isolated, with an empty volume of this size, for example `200m`.
    pub(crate) small_volume: Option<&'static str>,
    container: Option<Child>,
}

impl Member {
    /// A member with an empty volume and good files; nothing runs yet.
    pub(crate) fn new(needs: &Prerequisites) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Of one length: no member's name begins like another's, whose processes it would take for its own.
        let root = scratch().join(format!(
            "dbclaim-agent-{}-{:03}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        for directory in ["bin", "var/lib/dbclaim", "run/dbclaim"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for directory in ["config", "credentials", "pod", "api"] {
            fs::create_dir_all(root.join("etc/dbclaim").join(directory)).unwrap();
        }
        let install = Command::new(env!("CARGO_BIN_EXE_dbclaim-agent"))
            .arg("install")
            .arg(root.join("bin"))
            .output();
        let install = install.unwrap();
        assert!(
            install.status.success(),
            "install: {}",
            String::from_utf8_lossy(&install.stdout)
        );
        let (port, http) = (free_port(), free_port());
        let config = json!({
            "v": 1, "generation": "g1", "engine": needs.engine.dialect().name, "major": needs.major,
            "claim": "shop/orders", "database": "orders", "username": "shopkeeper",
            "reports": { "1": "orders-db-1-report" }, "volumes": { "1": { "volumeId": "volume-7" } },
            "stopSeconds": 30, "host": "orders-db.shop.svc.cluster.local"
        });
        let mut member = Self {
            needs: needs.clone(),
            root,
            port,
            http,
            swaps: 0,
            config,
            encrypted: false,
            login: "shopkeeper",
            environment: Vec::new(),
            isolated: false,
            small_volume: None,
            container: None,
        };
        for directory in ["var/lib/dbclaim", "run/dbclaim"] {
            chown(member.root.join(directory), Some(needs.uid), Some(needs.gid)).unwrap();
        }
        member.write_config(|_| {}, "");
        member.write_credentials(&json!({ "v": 1, "generation": 1, "password": "first p@ss" }).to_string());
        member
    }

    /// Changes `member.json` and gives the server more settings, in one swap as the kubelet does.
    pub(crate) fn write_config(&mut self, change: impl FnOnce(&mut Value), settings: &str) {
        change(&mut self.config);
        let files = self
            .needs
            .engine
            .files(self.port, settings, self.encrypted, &self.root);
        let member = self.config.to_string();
        let mut files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
        files.push(("member.json", &member));
        self.swap("config", &files);
    }

    pub(crate) fn write_credentials(&mut self, text: &str) {
        self.swap("credentials", &[("credentials.json", text)]);
    }

    /// As the Secret looks before it exists.
    pub(crate) fn remove_credentials(&mut self) {
        self.swap("credentials", &[]);
    }

    /// Replaces all files of a mounted directory.
    pub(crate) fn swap(&mut self, directory: &str, files: &[(&str, &str)]) {
        self.swaps += 1;
        let directory = self.root.join("etc/dbclaim").join(directory);
        let version = format!("..{}", self.swaps);
        fs::create_dir(directory.join(&version)).unwrap();
        for (name, text) in files {
            fs::write(directory.join(&version).join(name), text).unwrap();
            let link = directory.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        symlink(&version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    }

    /// Starts the container; unless isolated, the fencer is PID 1 only as far as that goes outside of one.
    pub(crate) fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.root.join("log"))
            .unwrap();
        self.start_logging_to(log.into());
    }

    pub(crate) fn start_logging_to(&mut self, log: std::os::fd::OwnedFd) {
        let mut command = if self.isolated || self.needs.image.is_some() {
            self.isolation()
        } else {
            let mut command = Command::new(self.root.join("bin/dbclaim-agent"));
            command.uid(self.needs.uid).gid(self.needs.gid);
            command
        };
        command
            .arg("--root")
            .arg(&self.root)
            .args(["--port", &self.http.to_string(), "--check-seconds", "1"])
            .env_clear()
            .envs([
                ("PATH", self.needs.bin.to_str().unwrap()),
                ("MEMBER", "1"),
                ("POD_UID", "pod-3"),
                ("SECRET_OF_THE_POD", "x"),
            ])
            .envs(self.environment.iter().cloned())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.container = Some(command.spawn().unwrap());
    }

    /// Mounts of its own, for a small volume and for an image that it runs in, which sees the member's directory
    /// at the same place; isolated, processes of its own too.
    fn isolation(&self) -> Command {
        let (uid, gid) = (self.needs.uid, self.needs.gid);
        let mount = self.small_volume.map_or_else(String::new, |size| {
            let options = format!("size={size},uid={uid},gid={gid}");
            format!(
                "/bin/mount -t tmpfs -o {options} none {}",
                self.volume().display()
            )
        });
        let agent = self.root.join("bin/dbclaim-agent");
        let agent = agent.display();
        let enter = match &self.needs.image {
            None => format!("exec /usr/bin/setpriv --clear-groups --reuid={uid} --regid={gid} {agent}"),
            Some(image) => {
                let image = image.display();
                format!(
                    "for shared in dev proc tmp; do /bin/mount --rbind /$shared {image}/$shared; done\n\
                     exec /usr/sbin/chroot --userspec={uid}:{gid} {image} {agent}"
                )
            }
        };
        let script = format!("set -e\n{mount}\n{enter} \"$@\"\n");
        let mut command = Command::new("/usr/bin/unshare");
        command.arg("--mount");
        if self.isolated {
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        }
        command.args(["/bin/sh", "-c", &script, "agent"]);
        command
    }

    /// Runs a program of the image in the container's mounts, as any user of the system.
    pub(crate) fn inside(&self, uid: u32, program: &[&str]) -> std::process::Output {
        let target = self.supervisor().as_raw_nonzero().to_string();
        let uid = uid.to_string();
        Command::new("/usr/bin/nsenter")
            .args([
                "--target", &target, "--mount", "--root", "--wd=/", "--setuid", &uid, "--setgid", &uid,
            ])
            .args(program)
            .env_clear()
            .output()
            .unwrap()
    }

    pub(crate) fn started(needs: &Prerequisites) -> Self {
        let mut member = Self::new(needs);
        member.start();
        member.wait_ready();
        member
    }

    /// Ends every process at once, as when a node loses power; the volume stays.
    pub(crate) fn kill_everything(&mut self) {
        let mut container = self.container.take().expect("a container");
        // PID 1 first, as the kernel does; what is left has nobody to start it again.
        container.kill().unwrap();
        container.wait().unwrap();
        self.end_processes();
        // The emptyDirs of the Pod go with it.
        fs::remove_dir_all(self.root.join("run/dbclaim")).unwrap();
        fs::create_dir_all(self.root.join("run/dbclaim")).unwrap();
        chown(
            self.root.join("run/dbclaim"),
            Some(self.needs.uid),
            Some(self.needs.gid),
        )
        .unwrap();
    }

    fn end_processes(&self) {
        wait(Duration::from_secs(20), "no process is left", || {
            let left = self.processes();
            for (pid, _) in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
    }

    /// Tells the container to stop; returns its exit code and how long it took.
    pub(crate) fn stop(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        kill_process(self.fencer(), Signal::TERM).unwrap();
        let mut container = self.container.take().expect("a container");
        let mut code = None;
        wait(Duration::from_secs(180), "the container stops", || {
            code = container.try_wait().unwrap();
            code.map(drop).ok_or_else(|| self.log())
        });
        (code.and_then(|status| status.code()), begun.elapsed())
    }

    pub(crate) fn fencer(&self) -> Pid {
        let container = Pid::from_child(self.container.as_ref().expect("a container"));
        if !self.isolated {
            return container;
        }
        let agent = self.root.join("bin/dbclaim-agent");
        self.process("the fencer", |command| {
            command.starts_with(agent.to_str().unwrap())
        })
    }

    pub(crate) fn supervisor(&self) -> Pid {
        self.process("the supervisor", |command| command.contains(" supervise "))
    }

    fn process(&self, what: &str, is_it: impl Fn(&str) -> bool) -> Pid {
        let processes = self.processes();
        let found = processes.iter().find(|(_, command)| is_it(command));
        found
            .unwrap_or_else(|| panic!("{what} is not in {processes:?}"))
            .0
    }

    /// The engine's first process.
    pub(crate) fn postmaster(&self) -> Pid {
        let file = match self.needs.engine {
            Engine::Postgres => self.data().join("postmaster.pid"),
            Engine::Mysql => self.root.join("run/dbclaim/engine.pid"),
        };
        let text = fs::read_to_string(file).expect("a pid file");
        Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
    }

    /// A process without which the engine cannot stop: of PostgreSQL the client's own, of MySQL there is only one.
    pub(crate) fn vital(&self, client: &Client) -> Pid {
        match self.needs.engine {
            Engine::Postgres => {
                let pid = client.sql("SELECT pg_backend_pid()").unwrap().parse().unwrap();
                Pid::from_raw(pid).unwrap()
            }
            Engine::Mysql => self.postmaster(),
        }
    }

    /// Whether the engine was shut down, and not ended, the last time.
    pub(crate) fn shut_down(&self) -> bool {
        match self.needs.engine {
            // State of the control file, after the identifier and two version numbers: 1.
            Engine::Postgres => {
                let control = fs::read(self.data().join("global/pg_control")).unwrap();
                control[16..20] == 1_u32.to_ne_bytes()
            }
            Engine::Mysql => {
                let log = self.log();
                let (ready, ended) = (log.rfind("ready for connections"), log.rfind("Shutdown complete"));
                ended > ready
            }
        }
    }

    pub(crate) fn database(&self) -> &str {
        self.config["database"].as_str().unwrap()
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.root.join("var/lib/dbclaim")
    }

    pub(crate) fn data(&self) -> PathBuf {
        let Prerequisites { engine, major, .. } = &self.needs;
        self.volume()
            .join(format!("{}/{major}/data", engine.dialect().name))
    }

    pub(crate) fn identity(&self) -> Value {
        serde_json::from_slice(&fs::read(self.volume().join("identity.json")).unwrap()).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// Live processes of this member with their command lines: ours name its directory, the server and its
    /// children work in it.
    pub(crate) fn processes(&self) -> Vec<(Pid, String)> {
        let root = self.root.as_os_str().as_encoded_bytes();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let names = |text: &[u8]| text.windows(root.len()).any(|window| window == root);
            let inside = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.root));
            let zombie = line.is_empty();
            if !zombie && (inside || names(&line) || names(&environment)) {
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                found.extend(Pid::from_raw(pid).map(|pid| (pid, line)));
            }
        }
        found
    }

    /// Status and body of a GET; `None` while nobody listens.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics")?;
        page.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    pub(crate) fn wait_ready(&self) {
        self.wait_readyz(200, "ready");
    }

    /// Waits until `/readyz` answers with this status and these words.
    pub(crate) fn wait_readyz(&self, status: u16, words: &str) {
        wait(
            Duration::from_secs(180),
            &format!("/readyz says {status} {words:?}"),
            || match self.get("/readyz") {
                Some((code, body)) if code == status && body.contains(words) => Ok(()),
                other => Err(format!("{other:?}\n{}", self.log())),
            },
        );
    }

    pub(crate) fn wait_log(&self, words: &str) {
        wait(
            Duration::from_secs(180),
            &format!("the log says {words:?}"),
            || {
                let log = self.log();
                if log.contains(words) { Ok(()) } else { Err(log) }
            },
        );
    }

    /// One statement as the application, over TCP with a password; rows as text joined with `|` and lines.
    pub(crate) fn sql(&self, password: &str, statement: &str) -> Result<String, String> {
        Client::connect(self, password)?.sql(statement)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut container) = self.container.take() {
            let _ = container.kill();
            let _ = container.wait();
        }
        self.end_processes();
        if std::thread::panicking() {
            println!("--- log of {}\n{}", self.root.display(), self.log());
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Waits for a state. Fails with what was seen last.
pub(crate) fn wait(patience: Duration, what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + patience;
    loop {
        match check() {
            Ok(()) => return,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "after {patience:?} not: {what}; seen: {seen}"
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

/// Where members live: in memory if there is room, because an initialisation syncs a thousand files, which takes
/// minutes on a disk that a build has just filled with its output.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let roomy = statvfs(memory).is_ok_and(|it| {
        it.f_bavail * it.f_frsize > 4 << 30 && !it.f_flag.contains(StatVfsMountFlags::NOEXEC)
    });
    if roomy {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
