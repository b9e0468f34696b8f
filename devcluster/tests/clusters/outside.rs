//! A cluster owned by another process, and what can be seen of a cluster from outside.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a state that is about to come may take.
const SOON: Duration = Duration::from_secs(20);

/// `devcluster up` in a process of its own, which is asked to end when a test fails.
pub(crate) struct Owner {
    child: Child,
    pub(crate) folder: PathBuf,
}

impl Owner {
    /// Starts it without waiting for the cluster.
    pub(crate) fn spawn(name: &str, arguments: &[&str]) -> Owner {
        let mut command = devcluster(&["up", "--name", name]);
        let child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let user = rustix::process::getuid().as_raw();
        Owner {
            child,
            folder: PathBuf::from(format!("/var/tmp/dbclaim-devcluster-{user}/{name}")),
        }
    }

    /// Waits until it says how the cluster is used.
    pub(crate) fn wait_until_up(&mut self) {
        let lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let up = lines
            .map_while(Result::ok)
            .any(|line| line.contains("export KUBECONFIG="));
        assert!(up, "`devcluster up` ended before the cluster was up");
    }

    /// Waits until the cluster is this one's and its programs have been started.
    pub(crate) fn wait_until_starting(&self) {
        let owner = format!("\"owner\": {},", self.child.id());
        let record = self.folder.join("cluster.json");
        wait_for("the cluster to be taken", || {
            fs::read_to_string(&record).is_ok_and(|record| record.contains(&owner))
        });
        wait_for("the API server's log", || {
            self.folder.join("log/kube-apiserver.log").exists()
        });
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap()
    }

    /// Waits until somebody else has made it end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// The command line with these arguments.
pub(crate) fn devcluster(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devcluster"));
    command.args(arguments);
    command
}

/// Runs the command line to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    devcluster(arguments).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// How many processes the cluster in this folder has.
pub(crate) fn processes(folder: &Path) -> usize {
    let mark = format!("DEVCLUSTER_FOLDER={}", folder.display());
    let is_marked = |process: &fs::DirEntry| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().filter(is_marked).count()
}

/// How many file systems are mounted below this folder.
pub(crate) fn mounts(folder: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .filter(|line| line.contains(&format!(" {}/", folder.display())))
        .count()
}

/// Fails unless nothing of a cluster without nodes is there any more.
pub(crate) fn assert_gone(folder: &Path) {
    let shown = folder.display();
    assert_eq!(processes(folder), 0, "processes of {shown} are left");
    assert_eq!(mounts(folder), 0, "mounts of {shown} are left");
    assert!(!folder.exists(), "{shown} is left");
}

/// Waits for a state that nothing announces.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process was killed by this signal.
pub(crate) fn was_killed_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw())
}
