//! The operator's own program as a process, and how it reaches the API server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// One process.
pub struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Program {
    /// Starts it for one namespace, with these settings besides.
    pub fn start(kubeconfig: &Path, namespace: &str, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dbclaim"))
            .env("KUBECONFIG", kubeconfig)
            .env("DBCLAIM_AGENT_IMAGE", "agent.invalid/dbclaim:1")
            .env("DBCLAIM_NAMESPACE", namespace)
            .env("DBCLAIM_LISTEN", "127.0.0.1:0")
            .env("DBCLAIM_LOG", "info,dbclaim=debug")
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the operator can be started");
        let stderr = child.stderr.take().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let kept = log.clone();
        let reading = tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self { child, log, reading }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the operator runs");
        kill(Pid::from_raw(id.cast_signed()), signal).expect("the operator can be signalled");
    }

    /// Waits until it has ended by itself; returns how, and what it wrote.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let limit = Duration::from_secs(60);
        let ended: io::Result<ExitStatus> = tokio::time::timeout(limit, self.child.wait())
            .await
            .expect("the operator ends in time");
        self.reading.await.unwrap();
        (ended.unwrap(), self.log.lock().unwrap().clone())
    }

    /// SIGTERM, and a clean end.
    pub async fn terminate(self) -> String {
        self.signal(Signal::SIGTERM);
        let (status, log) = self.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}

/// Writes a kubeconfig for whoever has this token, or for the administrator without one.
pub fn kubeconfig(name: &str, admin: &Path, server: Option<&str>, token: Option<&str>) -> PathBuf {
    let text = std::fs::read_to_string(admin).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    if let Some(server) = server {
        config["clusters"][0]["cluster"]["server"] = json!(server);
    }
    if let Some(token) = token {
        config["users"][0]["user"] = json!({"token": token});
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{}.kubeconfig", std::process::id()));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// Bytes as a Secret holds them.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes)
}
