//! The images that devcluster builds hold programs that really run, under the official images' uid.
//!
//! Needs root (for `chroot`); the first run builds the images.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use devcluster::prerequisites::{self, Task};
use devcluster::{Progress, image};
use rustix::process::{Pid, Signal, kill_process};

/// The official images' `postgres` and `mysql`.
const UID: u32 = 999;

/// Removes its folder when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("devcluster-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("could not remove {}: {error}", self.0.display());
        }
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(
            std::env::var_os("CI").is_none(),
            "in CI this test must run, and it needs root for chroot"
        );
        eprintln!("skipped: needs root for chroot");
    }
    root
}

/// The image's archive. Before the first is built, everything is installed that they are built with.
fn archive(reference: &str) -> Result<PathBuf> {
    let tasks = [Task::EngineImages, Task::OlderEngineImages];
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(prerequisites::ensure(&tasks, Progress::Stderr))?;
    let archive = image::engine_archive(reference, &mut |step| eprintln!("{reference}: {step}"));
    Ok(archive?)
}

/// Unpacks an archive's only layer, and returns the image's configuration.
fn unpack(archive: &Path, root: &Path) -> Result<serde_json::Value> {
    let mut blobs = tar::Archive::new(File::open(archive)?);
    let mut config = None;
    for blob in blobs.entries()? {
        let mut blob = blob?;
        if !blob.path()?.starts_with("blobs") {
            continue;
        }
        if blob.size() < 1 << 16 {
            let value: serde_json::Value = serde_json::from_reader(&mut blob)?;
            config = config.or_else(|| {
                value
                    .get("config")
                    .filter(|config| config.get("Env").is_some())
                    .cloned()
            });
        } else {
            let mut layer = tempfile(root)?;
            io::copy(&mut blob, &mut layer)?;
            io::Seek::rewind(&mut layer)?;
            // tar(1) makes device nodes, and the crate does not.
            let status = Command::new("tar")
                .args(["-x", "--numeric-owner", "-p", "-C"])
                .arg(root)
                .stdin(layer)
                .status()?;
            ensure!(status.success(), "tar ended with {status}");
        }
    }
    config.context("the archive has no configuration with an environment")
}

/// The contents of an archive's blobs, without the names.
fn blobs(archive: &Path) -> Result<Vec<Vec<u8>>> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    let mut blobs = Vec::new();
    for entry in archive.entries()? {
        let mut contents = Vec::new();
        io::Read::read_to_end(&mut entry?, &mut contents)?;
        blobs.push(contents);
    }
    Ok(blobs)
}

fn tempfile(folder: &Path) -> Result<File> {
    let path = folder.join("layer");
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Runs a shell command inside the image as its database user, with the image's environment.
fn run_inside(root: &Path, config: &serde_json::Value, script: &str) -> Result<Output> {
    let env = config["Env"]
        .as_array()
        .context("no environment")?
        .iter()
        .filter_map(|pair| pair.as_str()?.split_once('='));
    let output = Command::new("/usr/sbin/chroot")
        .arg(format!("--userspec={UID}:{UID}"))
        .arg(root)
        .args(["/bin/sh", "-c", script])
        .env_clear()
        .envs(env)
        .output()?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{script:?} ended with {}:\n{said}\n{complained}",
        output.status
    );
    Ok(output)
}

/// A server on a socket, without TCP, as long as one query takes.
const QUERY: &str = r#"set -e
initdb --pgdata=/volume/data --username=postgres --auth=scram-sha-256 --pwfile=/volume/password --encoding=UTF8 \
    --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C.UTF-8 --data-checksums >/volume/initdb.log
pg_ctl start --wait --silent --pgdata=/volume/data --log=/volume/log -o "-c listen_addresses='' -c unix_socket_directories=/volume"
trap 'pg_ctl stop --silent --mode=fast --pgdata=/volume/data' EXIT
export PGPASSWORD="$(cat /volume/password)"
psql --no-psqlrc --host=/volume --username=postgres --tuples-only --no-align \
    --command="select current_setting('server_version_num')::int / 10000, upper('grün'), now() at time zone 'Europe/Berlin' is not null"
"#;

fn postgres_answers(major: &str) -> Result<()> {
    let reference = format!("docker.io/library/postgres:{major}");
    let archive = archive(&reference)?;
    let folder = Folder::new(&format!("postgres-{major}"))?;
    let config = unpack(&archive, &folder.0)?;
    let passwd = fs::read_to_string(folder.0.join("etc/passwd"))?;
    ensure!(
        passwd.lines().any(|line| line.starts_with("postgres:x:999:999:")),
        "no postgres with 999 in {passwd}"
    );
    let volume = folder.0.join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("password"), "p@ss\n")?;
    chown(&volume, Some(UID), Some(UID))?;
    let output = run_inside(&folder.0, &config, QUERY)?;
    let answer = String::from_utf8(output.stdout)?;
    ensure!(
        answer.trim() == format!("{major}|GRÜN|t"),
        "the server answered {answer:?}"
    );
    Ok(())
}

#[test]
fn postgres_17_initialises_and_answers_as_uid_999() -> Result<()> {
    if is_root() { postgres_answers("17") } else { Ok(()) }
}

#[test]
fn postgres_18_initialises_and_answers_as_uid_999() -> Result<()> {
    if is_root() { postgres_answers("18") } else { Ok(()) }
}

/// The older one has no client: its own single-user mode answers. Its programs find their libraries by `/proc`, which
/// there is none of here.
const OLDER_QUERY: &str = r#"set -e
export LD_LIBRARY_PATH=/usr/lib/postgresql/17/lib
initdb --pgdata=/volume/data --username=postgres --encoding=UTF8 \
    --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C.UTF-8 --data-checksums >/volume/initdb.log
echo "select current_setting('server_version') || upper('grün') || (now() at time zone 'Europe/Berlin' is not null)" |
    postgres --single -D /volume/data postgres
"#;

#[test]
fn postgres_17_5_initialises_and_answers_as_uid_999() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let reference = "docker.io/library/postgres:17.5";
    let archive = archive(reference)?;
    ensure!(image::references(&archive)? == [reference]);
    let folder = Folder::new("postgres-17.5")?;
    let config = unpack(&archive, &folder.0)?;
    let volume = folder.0.join("volume");
    fs::create_dir(&volume)?;
    chown(&volume, Some(UID), Some(UID))?;
    let output = run_inside(&folder.0, &config, OLDER_QUERY)?;
    let answer = String::from_utf8(output.stdout)?;
    ensure!(answer.contains("17.5GRÜNtrue"), "the server answered {answer:?}");
    Ok(())
}

/// As the official images have them: the same image by its series and by its exact version.
#[test]
fn an_image_has_the_name_of_its_exact_version_too() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    for reference in ["docker.io/library/postgres:17", "docker.io/library/mysql:9.7"] {
        let archive = archive(reference)?;
        let names = image::references(&archive)?;
        let [series, exact] = names.as_slice() else {
            anyhow::bail!("{names:?}")
        };
        let minor = exact
            .strip_prefix(&format!("{series}."))
            .context(names.join(" "))?;
        ensure!(series == reference && minor.parse::<u32>().is_ok(), "{names:?}");
    }
    Ok(())
}

/// As above, administered by whom the system says is connected; without a password.
const MYSQL_QUERY: &str = r#"set -e
options="--no-defaults --datadir=/volume/data --tmpdir=/volume --secure-file-priv=NULL --mysqlx=OFF \
    --innodb-numa-interleave=OFF --socket=/volume/s.sock --pid-file=/volume/pid --skip-networking"
echo "UPDATE mysql.user SET plugin = 'auth_socket', authentication_string = 'mysql' WHERE user = 'root';" >/volume/init.sql
mysqld $options --init-file=/volume/init.sql --initialize-insecure 2>/volume/init.log || { cat /volume/init.log; exit 1; }
mysqld $options --plugin-load-add=auth_socket.so 2>/volume/log &
trap 'mysqladmin --no-defaults --socket=/volume/s.sock --user=root shutdown; wait' EXIT
mysqladmin --no-defaults --socket=/volume/s.sock --user=root --wait=60 ping >/dev/null 2>&1 || { cat /volume/log; exit 1; }
mysql --no-defaults --default-character-set=utf8mb4 --socket=/volume/s.sock --user=root --batch --skip-column-names \
    --execute="select substring_index(version(), '.', 2), upper('grün'), current_user()"
"#;

#[test]
fn mysql_9_7_initialises_and_answers_as_uid_999() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let reference = "docker.io/library/mysql:9.7";
    let archive = archive(reference)?;
    let folder = Folder::new("mysql-9.7")?;
    let config = unpack(&archive, &folder.0)?;
    let volume = folder.0.join("volume");
    fs::create_dir(&volume)?;
    chown(&volume, Some(UID), Some(UID))?;
    let output = run_inside(&folder.0, &config, MYSQL_QUERY)?;
    let answer = String::from_utf8(output.stdout)?;
    ensure!(
        answer.trim() == "9.7\tGRÜN\troot@localhost",
        "the server answered {answer:?}"
    );
    Ok(())
}

#[test]
fn an_unknown_image_is_refused_with_the_known_ones() {
    let error = image::engine_archive("docker.io/library/postgres:9", &mut |_| ()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("postgres:9") && said.contains("docker.io/library/postgres:17"),
        "{said}"
    );
}

#[test]
fn the_pause_program_runs_without_any_library_and_ends_on_sigterm() -> Result<()> {
    let archive = image::pause_archive(&mut |step| eprintln!("{step}"))?;
    let folder = Folder::new("pause")?;
    let layer = blobs(&archive)?
        .into_iter()
        .max_by_key(Vec::len)
        .context("the archive is empty")?;
    tar::Archive::new(layer.as_slice()).unpack(&folder.0)?;
    let program = folder.0.join("pause");
    // The child is an orphan's stand-in: only the pause program can reap it.
    let mut pause = Command::new("sh")
        .args(["-c", "sleep 60 & echo $!; exec \"$0\""])
        .arg(&program)
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_child(&pause);
    let ended = reaps_then_stops(&mut pause, pid);
    if ended.is_err() {
        pause.kill()?;
    }
    let status = pause.wait()?;
    ended?;
    ensure!(status.success(), "pause ended with {status}");
    let elf = fs::read(program)?;
    ensure!(
        !elf.windows(7).any(|bytes| bytes == b"ld-linu"),
        "the pause program wants a dynamic loader"
    );
    Ok(())
}

/// Ends the child whose number the process writes, waits until it is reaped, and asks the process to stop.
fn reaps_then_stops(pause: &mut Child, pid: Pid) -> Result<()> {
    let mut line = String::new();
    BufReader::new(pause.stdout.take().context("no pipe")?).read_line(&mut line)?;
    let child = Pid::from_raw(line.trim().parse()?).context("the child has no number")?;
    let comm = format!("/proc/{}/comm", pid.as_raw_nonzero());
    wait_until("the pause program runs", || {
        fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "pause")
    })?;
    kill_process(child, Signal::KILL)?;
    let child = format!("/proc/{}", child.as_raw_nonzero());
    wait_until("the child is reaped", || !Path::new(&child).exists())?;
    kill_process(pid, Signal::TERM)?;
    Ok(())
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        ensure!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::yield_now();
    }
    Ok(())
}
