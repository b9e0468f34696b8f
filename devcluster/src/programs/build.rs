//! Builds programs from Go modules into the cache folder.
//!
//! Each program appears there by a rename when it is complete, so that an interrupted build leaves only whole
//! programs behind and the next one goes on from there. A file lock lets a second builder wait for the first.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{
    Error,
    catalog::{Set, Source},
};
use crate::progress::{Progress, Step};

/// How often to look whether another process has finished its build.
const LOCK_POLL: Duration = Duration::from_millis(200);
/// How much of the compiler's output an error message shows.
const OUTPUT_LINES: usize = 30;

/// What is missing of one set.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) set: &'static Set,
    pub(super) programs: Vec<&'static Source>,
    /// Where the programs of this set belong.
    pub(super) folder: PathBuf,
}

/// The names of programs, for a person.
pub(super) fn names(programs: &[&Source]) -> String {
    programs
        .iter()
        .map(|program| program.name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Builds what is missing, one program after the other, and tells where each one is.
pub(super) async fn all(
    plans: Vec<Plan>,
    progress: Progress,
) -> Result<BTreeMap<&'static str, PathBuf>, Error> {
    let mut built = BTreeMap::new();
    let mut left: Vec<_> = plans.iter().flat_map(|plan| plan.programs.clone()).collect();
    if !left.is_empty() {
        progress.say(&format!(
            "The first start builds these programs from source, once (about 8 minutes on two cores): {}",
            names(&left)
        ));
    }
    for plan in &plans {
        let prepare = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Prepare { path, source }
        };
        fs::create_dir_all(&plan.folder).map_err(prepare(&plan.folder))?;
        let _lock = lock(&plan.folder.join(".lock"), plan, progress).await?;
        for program in &plan.programs {
            left.retain(|other| other.name != program.name);
            let path = plan.folder.join(program.name);
            if !path.is_file() {
                let workplace = Workplace::create(&plan.folder).map_err(prepare(&plan.folder))?;
                let step = progress.step(format!("building {}", program.name));
                compile(plan.set, program, &workplace, &step, &left).await?;
                fs::rename(workplace.output(), &path).map_err(prepare(&path))?;
                step.finish();
            }
            built.insert(program.name, path);
        }
    }
    Ok(built)
}

async fn lock(path: &Path, plan: &Plan, progress: Progress) -> Result<File, Error> {
    let prepare = |source| Error::Prepare {
        path: path.to_owned(),
        source,
    };
    let file = File::create(path).map_err(prepare)?;
    let mut waiting = None;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                waiting.get_or_insert_with(|| {
                    progress.step(format!("waiting for another build of {}", names(&plan.programs)))
                });
                tokio::time::sleep(LOCK_POLL).await;
            }
            Err(TryLockError::Error(source)) => return Err(prepare(source)),
        }
    }
    if let Some(step) = waiting {
        step.finish();
    }
    Ok(file)
}

/// The folder that one build writes into, gone afterwards. Only the holder of the lock uses it.
#[derive(Debug)]
struct Workplace(PathBuf);

impl Workplace {
    fn create(folder: &Path) -> io::Result<Workplace> {
        let path = folder.join(".building");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(path.join("tmp"))?;
        Ok(Workplace(path))
    }

    fn output(&self) -> PathBuf {
        self.0.join("out")
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build.
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn compile(
    set: &'static Set,
    program: &Source,
    workplace: &Workplace,
    step: &Step,
    left: &[&Source],
) -> Result<(), Error> {
    for (name, content) in [("go.mod", set.go_mod), ("go.sum", set.go_sum)] {
        let path = workplace.0.join(name);
        fs::write(&path, content).map_err(|source| Error::Prepare { path, source })?;
    }
    let mut command = Command::new("go");
    command
        .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(format!("-s -w {}", set.stamps));
    command
        .arg("-o")
        .arg(workplace.output())
        .arg(program.package)
        .current_dir(&workplace.0);
    command
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOTMPDIR", workplace.0.join("tmp"));
    command
        .env_remove("GOFLAGS")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut compiler = Compiler(command.spawn().map_err(Error::RunGo)?);
    let said = follow(&mut compiler.0, step, left).await.map_err(Error::RunGo)?;
    let status = compiler.0.wait().await.map_err(Error::RunGo)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Build {
        set: set.name,
        programs: program.name.to_owned(),
        output: said,
    })
}

/// Turns what the compiler says into progress, and returns its last lines.
async fn follow(child: &mut Child, step: &Step, left: &[&Source]) -> io::Result<String> {
    let Some(output) = child.stderr.take() else {
        return Ok(String::new());
    };
    let mut lines = BufReader::new(output).lines();
    let mut last = VecDeque::new();
    let (mut downloaded, mut compiled) = (0_u32, 0_u32);
    let then = if left.is_empty() {
        "the last one".to_owned()
    } else {
        format!("then {}", names(left))
    };
    while let Some(line) = lines.next_line().await? {
        let count = if line.starts_with("go: downloading") {
            &mut downloaded
        } else {
            &mut compiled
        };
        *count += 1;
        step.detail(format!(
            "{downloaded} modules fetched, {compiled} packages compiled, {then}"
        ));
        last.push_back(line);
        if last.len() > OUTPUT_LINES {
            last.pop_front();
        }
    }
    Ok(last.into_iter().collect::<Vec<_>>().join("\n"))
}

/// A running compiler with its own process group, which ends with it.
#[derive(Debug)]
struct Compiler(Child);

impl Drop for Compiler {
    fn drop(&mut self) {
        // `id` is `None` once the compiler was waited for, so that no recycled id is ever hit.
        let group = self
            .0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
