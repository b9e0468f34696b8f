//! The operator's line against a real API server and its controllers, with every fault at every write of every
//! scenario. The writes are found by a run without faults; the table is made from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use dbclaim::api::key;
use dbclaim::api::v1::DatabaseClaimStatus;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};

use crate::cluster::Suite;
use crate::faults::{Fault, Plan, Point};
use crate::normal::{Objects, difference};
use crate::scenarios::{End, Restart, Scenario};
use crate::scene::{DEADLINE, Scene, identities, is_ready, until};

/// Runs side by side, of all scenarios together.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(14));
/// What a controller does on its own account may spare the operator a write, now and then.
const TRIES: usize = 4;
/// Runs without faults that are looked at for a write that did not come.
const RECORDS: usize = 4;
/// How long a write is waited for before a run that is where it should be counts as one without it.
const PATIENCE: Duration = Duration::from_secs(4);

/// Claims that are ready for a scenario, for the next run, each with the UIDs of what it has.
type Pool = Mutex<Vec<(Arc<Scene>, Identities)>>;
/// UIDs of what must not be made anew: what holds data, and the Pod.
type Identities = BTreeMap<String, String>;

/// How one run has ended.
enum Outcome {
    /// As the run without faults.
    Same,
    /// The same, but the write to break did not come.
    Missed,
    Failed(String),
}

/// How all runs of a fault at a write have ended.
type Cell = Result<Seen, String>;

enum Seen {
    /// The fault has struck, and the run ended as the one without faults.
    Same,
    /// The write did not come, nor does it in every run without faults.
    Seldom,
}

/// At every write of a scenario, every fault: each run ends in the same objects.
pub async fn every_fault_at_every_write(suite: &Suite, scenario: &Scenario) {
    let pool = Pool::default();
    let (expected, points) = record(suite, scenario, &pool)
        .await
        .unwrap_or_else(|error| panic!("{}, without faults: {error}", scenario.name));
    let cells = points
        .iter()
        .flat_map(|point| Fault::ALL.map(|fault| (point.clone(), fault)));
    let cell = async |(point, fault): (Point, Fault)| {
        let outcome = tries(suite, scenario, &pool, &expected, (&point, fault)).await;
        ((point, fault), outcome)
    };
    let cells = cells.map(cell);
    let done: BTreeMap<(Point, Fault), Cell> = futures::future::join_all(cells).await.into_iter().collect();
    println!("{}", table(scenario, &points, &done));
    let failures: Vec<_> = done
        .iter()
        .filter_map(|((point, fault), outcome)| {
            let error = outcome.as_ref().err()?;
            Some(format!("{fault} at {point}: {error}"))
        })
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} runs failed:\n{}",
        failures.len(),
        done.len(),
        failures.join("\n")
    );
}

/// One row per write, one column per fault.
fn table(scenario: &Scenario, points: &[Point], done: &BTreeMap<(Point, Fault), Cell>) -> String {
    let mut text = format!("\n{:<58}", format!("{}: {} writes", scenario.name, points.len()));
    for fault in Fault::ALL {
        let _ = write!(text, " {:>13}", fault.to_string());
    }
    for (number, point) in points.iter().enumerate() {
        let _ = write!(text, "\n{:>3}. {point:<53}", number + 1);
        for fault in Fault::ALL {
            let cell = match done[&(point.clone(), fault)] {
                Ok(Seen::Same) => "same",
                Ok(Seen::Seldom) => "seldom comes",
                Err(_) => "DIFFERENT",
            };
            let _ = write!(text, " {cell:>13}");
        }
    }
    text
}

/// The run without faults: where it ends, and what it writes.
async fn record(suite: &Suite, scenario: &Scenario, pool: &Pool) -> Result<(Objects, Vec<Point>), String> {
    let _place = PLACES.acquire().await;
    let (scene, uids) = ready(suite, scenario, pool).await?;
    let (_, before) = scene.objects().await;
    scene.plan.arm(None);
    (scenario.act)(scene.clone()).await;
    until("the end", async || ended(scenario, &scene, &before).await).await?;
    let objects = scene.rest().await?;
    ended(scenario, &scene, &before).await?;
    let (raw, _) = scene.objects().await;
    sound(scenario, &scene, &raw, &uids)?;
    let points = scene.plan.points();
    give_back(scenario, pool, scene, &raw).await;
    Ok((objects, points))
}

/// Breaks one write, until it has come.
async fn tries(
    suite: &Suite,
    scenario: &Scenario,
    pool: &Pool,
    expected: &Objects,
    (point, fault): (&Point, Fault),
) -> Cell {
    for _ in 0..TRIES {
        match run(suite, scenario, pool, expected, (point, fault)).await {
            Outcome::Same => return Ok(Seen::Same),
            Outcome::Failed(error) => return Err(error),
            Outcome::Missed => {}
        }
    }
    // Two changes that one pass has seen are one write of the status.
    for _ in 0..RECORDS {
        let (_, points) = record(suite, scenario, pool).await?;
        if !points.contains(point) {
            return Ok(Seen::Seldom);
        }
    }
    Err(format!(
        "the write did not come in {TRIES} runs, and it came in {RECORDS} without faults"
    ))
}

async fn run(
    suite: &Suite,
    scenario: &Scenario,
    pool: &Pool,
    expected: &Objects,
    (point, fault): (&Point, Fault),
) -> Outcome {
    let _place = PLACES.acquire().await;
    let (scene, uids) = match ready(suite, scenario, pool).await {
        Ok(ready) => ready,
        Err(error) => return Outcome::Failed(format!("before the act: {error}")),
    };
    scene.plan.arm(Some((point.clone(), fault)));
    (scenario.act)(scene.clone()).await;
    let (raw, struck) = match arrives(&scene, expected).await {
        Ok(arrived) => arrived,
        Err(error) => return Outcome::Failed(error),
    };
    if let Err(error) = sound(scenario, &scene, &raw, &uids) {
        return Outcome::Failed(error);
    }
    give_back(scenario, pool, scene, &raw).await;
    if struck { Outcome::Same } else { Outcome::Missed }
}

/// Waits until the objects are as expected, and the operator leaves them so. Returns the objects, and whether the write
/// to break has come. To look at all objects costs more than all else in a run, so it is done when nothing else is left.
async fn arrives(scene: &Scene, expected: &Objects) -> Result<(Objects, bool), String> {
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        // Before that, looking would only cost.
        while !scene.plan.has_struck() && started.elapsed() < PATIENCE {
            pace.tick().await;
        }
        scene.quiet().await?;
        let (struck, asked) = (scene.plan.has_struck(), scene.requests());
        let (raw, found) = scene.objects().await;
        if found == *expected {
            scene.quiet().await?;
            if scene.requests() == asked {
                return Ok((raw, struck));
            }
        } else if started.elapsed() > DEADLINE {
            return Err(format!(
                "not the same objects within {DEADLINE:?}; {}",
                difference(expected, &found)
            ));
        }
    }
}

/// A claim that is Ready and at rest, or an empty namespace where the act creates it.
async fn ready(suite: &Suite, scenario: &Scenario, pool: &Pool) -> Result<(Arc<Scene>, Identities), String> {
    if let Some(ready) = pool.lock().await.pop() {
        return Ok(ready);
    }
    let scene = Scene::open(suite).await;
    let Some(spec) = scenario.spec else {
        return Ok((scene, Identities::new()));
    };
    scene.create(spec()).await;
    scene.ready().await?;
    // What comes late would count as a write of the act.
    scene.quiet().await?;
    scene.quiet().await?;
    let uids = kept(&scene.objects().await.0);
    Ok((scene, uids))
}

/// For the next run, once it is where this one began. `raw` are the objects at its end.
async fn give_back(scenario: &Scenario, pool: &Pool, scene: Arc<Scene>, raw: &Objects) {
    if !scenario.again {
        return;
    }
    let mut uids = kept(raw);
    if let Some(back) = scenario.back {
        scene.plan.arm(None);
        scene.change(json!({"spec": back()})).await;
        let back = async || {
            scene
                .says("back", |it| it.status.as_ref().is_some_and(is_quiet))
                .await?;
            scene.rest().await
        };
        if back().await.is_err() {
            // The next run begins with another one.
            return;
        }
        uids = kept(&scene.objects().await.0);
    }
    pool.lock().await.push((scene, uids));
}

/// Whether a claim is Ready and nothing of it is under way.
fn is_quiet(status: &DatabaseClaimStatus) -> bool {
    let says = |type_: &str, value: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|it| it.type_ == type_ && it.status == value)
    };
    says("Ready", "True") && says("Reconciling", "False")
}

fn kept(raw: &Objects) -> Identities {
    let mut uids = identities(raw);
    uids.extend(pod(raw));
    uids
}

const POD: &str = "Pod orders-db-1-0";

/// The Pod and its UID.
fn pod(raw: &Objects) -> Option<(String, String)> {
    Some((POD.into(), raw.get(POD)?["metadata"]["uid"].to_string()))
}

/// Whether the scenario without faults is over, and ended well.
async fn ended(scenario: &Scenario, scene: &Scene, before: &Objects) -> Result<(), String> {
    let (raw, normal) = scene.objects().await;
    let kinds = |kinds: &[&str]| {
        raw.keys()
            .all(|name| kinds.iter().any(|kind| name.starts_with(kind)))
    };
    let claim = raw.get("DatabaseClaim orders");
    let whole = raw.len() == 15 && claim.is_some_and(is_ready) && raw.contains_key("Pod orders-db-1-0");
    let well = match scenario.end {
        End::Serves(holds) => whole && holds(&normal),
        End::Rotated => whole && rotated(&normal),
        End::Heals => whole && normal == *before && !scene.plan.writes.lock().unwrap().is_empty(),
        End::Retains => {
            identities(&raw).len() == 3
                && kinds(&["PersistentVolumeClaim", "Secret", "ConfigMap orders-db-a"])
        }
        End::Gone => raw.is_empty(),
    };
    well.then_some(()).ok_or_else(|| format!("{normal:#?}"))
}

/// Whether what was asked for is done, and the agent knows when the credentials before end.
fn rotated(objects: &Objects) -> bool {
    let report = &objects["ConfigMap orders-db-1-report"]["metadata"]["annotations"][key::REPORT];
    objects["DatabaseClaim orders"]["status"]["rotation"]["done"] == "ROTATION"
        && report["applied"]["previousUntil"].is_string()
}

/// What must hold of every run: nothing that holds data was lost or made anew, there was one password, and no
/// request was one that may never be.
fn sound(scenario: &Scenario, scene: &Scene, raw: &Objects, before: &Identities) -> Result<(), String> {
    let may_delete = matches!(scenario.end, End::Gone);
    rules(&scene.plan, may_delete, scenario.restart)?;
    if may_delete {
        return Ok(());
    }
    let passwords = if matches!(scenario.end, End::Rotated) {
        2
    } else {
        1
    };
    scene.passwords_in(raw, passwords)?;
    let now = kept(raw);
    let restarts = matches!(scenario.restart, Restart::Once | Restart::Stopped);
    if restarts && now.get(POD) == before.get(POD) {
        return Err("the Pod was not replaced".into());
    }
    replaced(scenario, scene, before)?;
    let stays =
        |name: &str| !scenario.loses.contains(&name) && (name != POD || scenario.restart == Restart::None);
    for (name, uid) in before.iter().filter(|(name, _)| stays(name)) {
        if now.get(name) != Some(uid) {
            return Err(format!("{name} is not the one that was there before"));
        }
    }
    Ok(())
}

/// One restart is one Pod: the operator has deleted the one that was there before, and no other.
fn replaced(scenario: &Scenario, scene: &Scene, before: &Identities) -> Result<(), String> {
    let accepted = scene.plan.accepted.lock().unwrap();
    let of_pods = accepted
        .iter()
        .filter(|(what, _)| what.starts_with("DELETE pods/"));
    let deleted: BTreeSet<_> = of_pods
        .map(|(_, body)| body["preconditions"]["uid"].to_string())
        .collect();
    let due = before.get(POD).filter(|_| scenario.restart == Restart::Once);
    // What a process that died had sent may have been carried out without its answer being seen.
    if deleted.iter().all(|it| Some(it) == due) {
        return Ok(());
    }
    Err(format!(
        "the operator deleted the Pods {deleted:?}, and should have {due:?}"
    ))
}

/// What no request may ever be.
fn rules(plan: &Plan, may_delete: bool, restart: Restart) -> Result<(), String> {
    for read in plan.reads.lock().unwrap().iter() {
        let path = read.split('?').next().unwrap_or_default();
        if path.ends_with("/secrets") {
            return Err(format!("Secrets were listed or watched: {read}"));
        }
    }
    for write in plan.writes.lock().unwrap().iter() {
        let names_uid = match write.method.as_str() {
            "PATCH" => write.body["metadata"]["uid"].is_string() || write.path.contains("/events/"),
            "DELETE" => write.body["preconditions"]["uid"].is_string(),
            _ => true,
        };
        if !names_uid {
            return Err(format!(
                "a write does not name the UID that was observed: {} {}",
                write.method, write.path
            ));
        }
        let restarts = restart == Restart::Once && write.path.contains("/pods/");
        if write.method == "DELETE" && !may_delete && !restarts {
            return Err(format!("the operator deleted {}", write.path));
        }
    }
    Ok(())
}
