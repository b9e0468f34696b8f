//! Random walks over valid specs: a claim that has come to a spec by whatever way has the same objects as a claim that
//! was created with it. What is history by design is taken from the way that was gone: the size of the volume, which
//! engine ran last, what waits for a restart.

mod owner;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dbclaim::api::key;
use dbclaim::api::v1::{DatabaseClaim, DatabaseClaimStatus, EngineName, Phase};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use crate::cluster::Suite;
use crate::member;
use crate::normal::{Objects, difference};
use crate::scene::{DEADLINE, Scene, identities};
use crate::stage::CLASS;
use owner::{Dice, Wish};

/// Says how many changes there are, of all walks together.
const TRANSITIONS: &str = "DBCLAIM_WALK_TRANSITIONS";
/// Says from which number everything follows; without it, another one in every run that is told how many changes.
const SEED: &str = "DBCLAIM_WALK_SEED";
/// Walks side by side.
const WALKS: usize = 8;
/// Claims that are worked on at once.
const PLACES: usize = 8;

/// One step of a walk.
struct Step {
    wish: Wish,
    words: String,
    /// Whether it is asked for while the claim is paused, which is then ended.
    paused: bool,
    /// The objects of a claim that is created with this spec.
    fresh: OnceCell<Objects>,
}

/// A claim and what its owner asks of it.
struct Walk {
    seed: u64,
    steps: Vec<Step>,
}

impl Walk {
    /// The first step is the creation.
    fn new(seed: u64, engine: EngineName, transitions: usize) -> Self {
        let mut dice = Dice::new(seed);
        let first = Wish::first(&mut dice, engine);
        let words = format!("{}", first.spec());
        let mut steps = vec![Step::new(first, words, false)];
        for _ in 0..transitions {
            let (wish, words) = steps.last().expect("a first one").wish.next(&mut dice);
            let paused = dice.once_in(6);
            steps.push(Step::new(wish, words, paused));
        }
        Self { seed, steps }
    }

    /// The way to a step, in words.
    fn way(&self, end: usize) -> String {
        let words = |(number, step): (usize, &Step)| {
            let paused = if step.paused { " (while paused)" } else { "" };
            format!("  {number}. {}{paused}", step.words)
        };
        let lines: Vec<_> = self.steps.iter().enumerate().take(end + 1).map(words).collect();
        lines.join("\n")
    }
}

impl Step {
    fn new(wish: Wish, words: String, paused: bool) -> Self {
        Self {
            wish,
            words,
            paused,
            fresh: OnceCell::new(),
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
    )
}

/// Wherever it comes from, a claim ends where a fresh one with its spec begins.
pub async fn a_claim_ends_where_a_fresh_one_with_its_spec_begins(suite: &Suite) {
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |it| it.as_secs());
    // A test says the same of the same code; who asks for more wants to go where nobody was.
    let seed = setting(SEED).unwrap_or_else(|| setting(TRANSITIONS).map_or(1, |_| now()));
    let transitions = setting(TRANSITIONS).unwrap_or(40);
    let transitions = usize::try_from(transitions).expect("not that many");
    println!("{SEED}={seed} {TRANSITIONS}={transitions}");
    let engines = [EngineName::Postgres, EngineName::Mysql];
    let walks: Vec<_> = (0..WALKS.min(transitions))
        .map(|number| {
            let length = transitions / WALKS + usize::from(number < transitions % WALKS);
            Walk::new(seed + number as u64, engines[number % engines.len()], length)
        })
        .collect();
    let places = Semaphore::new(PLACES);
    let fresh = walks.iter().flat_map(|walk| walk.steps.iter().skip(1));
    let fresh = fresh.map(async |step| {
        let _place = places.acquire().await;
        let _ = step.fresh.get_or_try_init(|| begin(suite, &step.wish)).await;
    });
    let gone = walks.iter().map(|walk| go(suite, walk, &places));
    let (_, gone) = futures::join!(join_all(fresh), join_all(gone));
    let failures: Vec<_> = gone.into_iter().filter_map(Result::err).collect();
    assert!(
        failures.is_empty(),
        "{} of {} walks of {SEED}={seed} {TRANSITIONS}={transitions} failed:\n{}",
        failures.len(),
        walks.len(),
        failures.join("\n")
    );
}

/// The objects of a claim that is created with a spec.
async fn begin(suite: &Suite, wish: &Wish) -> Result<Objects, String> {
    let scene = created(suite, wish.fresh()).await?;
    if wish.hibernated {
        // Created asleep it would have no data yet.
        scene.change(json!({"spec": {"hibernated": true}})).await;
        scene.says("sleep", rests(true)).await?;
    }
    scene.rest().await?;
    Ok(kept(scene.objects().await.1, wish))
}

async fn created(suite: &Suite, mut spec: Value) -> Result<Arc<Scene>, String> {
    let scene = Scene::open(suite).await;
    spec["storageClassName"] = json!(CLASS);
    scene.create(spec).await;
    scene.says("rest", rests(false)).await?;
    Ok(scene)
}

/// Whether nothing of a claim is under way.
fn rests(hibernated: bool) -> impl Fn(&DatabaseClaim) -> bool {
    move |claim| claim.status.as_ref().is_some_and(|it| at_rest(it, hibernated))
}

fn at_rest(status: &DatabaseClaimStatus, hibernated: bool) -> bool {
    let says = |type_: &str, value: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|it| it.type_ == type_ && it.status == value)
    };
    let phase = if hibernated {
        Phase::Hibernated
    } else {
        Phase::Ready
    };
    status.phase == Some(phase) && says("Reconciling", "False")
}

/// Goes a walk to its end, or to the first step that does not end as it should.
async fn go(suite: &Suite, walk: &Walk, places: &Semaphore) -> Result<(), String> {
    let failed = |step: usize, error: &str| {
        Err(format!(
            "seed {}, step {step}: {error}\nthe way:\n{}",
            walk.seed,
            walk.way(step)
        ))
    };
    let place = places.acquire().await;
    let scene = match created(suite, walk.steps[0].wish.spec()).await {
        Ok(scene) => scene,
        Err(error) => return failed(0, &error),
    };
    drop(place);
    let data = identities(&scene.objects().await.0);
    // What the engine that runs was started with.
    let mut started = walk.steps[0].wish.clone();
    for (number, pair) in walk.steps.windows(2).enumerate() {
        let [before, step] = pair else { continue };
        let _place = places.acquire().await;
        let expected = match step.fresh.get_or_try_init(|| begin(suite, &step.wish)).await {
            Ok(expected) => expected,
            Err(error) => return failed(number + 1, &format!("the fresh claim: {error}")),
        };
        let outcome = async {
            take(&scene, &before.wish, step).await?;
            arrives(&scene, &before.wish, step, &mut started, expected).await?;
            scene.passwords(1).await?;
            let now = identities(&scene.objects().await.0);
            if now == data {
                Ok(())
            } else {
                Err(format!("what holds data was made anew: {data:?} became {now:?}"))
            }
        };
        if let Err(error) = outcome.await {
            return failed(number + 1, &error);
        }
    }
    Ok(())
}

/// Asks for the next step.
async fn take(scene: &Scene, before: &Wish, step: &Step) -> Result<(), String> {
    let mut change = change(&before.spec(), &step.wish.spec());
    let annotations = json!({key::RESTART: step.wish.restart()});
    if !step.paused {
        scene
            .change(json!({"metadata": {"annotations": annotations}, "spec": change}))
            .await;
        return Ok(());
    }
    let unchanged = async || {
        let mut objects = scene.objects().await.1;
        objects.remove("DatabaseClaim orders");
        objects
    };
    let still = unchanged().await;
    change["paused"] = json!(true);
    scene
        .change(json!({"metadata": {"annotations": annotations}, "spec": change}))
        .await;
    let paused = |claim: &DatabaseClaim| {
        let conditions = claim.status.iter().flat_map(|it| &it.conditions);
        conditions.into_iter().any(|it| it.reason == "Paused")
    };
    scene.says("Paused", paused).await?;
    scene.quiet().await?;
    let now = unchanged().await;
    if still != now {
        return Err(format!("while it was paused, {}", difference(&still, &now)));
    }
    scene.change(json!({"spec": {"paused": false}})).await;
    Ok(())
}

/// The merge patch from one object to another.
fn change(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return to.clone();
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let mut patch: serde_json::Map<_, _> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in new {
        match old.get(key) {
            Some(same) if same == value => {}
            Some(other) => _ = patch.insert(key.clone(), change(other, value)),
            None => _ = patch.insert(key.clone(), value.clone()),
        }
    }
    Value::Object(patch)
}

const POD: &str = "Pod orders-db-1-0";

/// Waits until the objects are as those of the fresh claim and stay so.
async fn arrives(
    scene: &Scene,
    before: &Wish,
    step: &Step,
    started: &mut Wish,
    expected: &Objects,
) -> Result<(), String> {
    let wish = &step.wish;
    let pod = |raw: &Objects| raw.get(POD).map(|it| it["metadata"]["uid"].clone());
    let ran = pod(&scene.objects().await.0);
    let begun = Instant::now();
    let mut looks = 0;
    if wish.hibernated || before.hibernated || wish.restarts(before) {
        started.clone_from(wish);
    }
    let pending = pending(started, wish);
    loop {
        scene.quiet().await?;
        let (raw, found) = scene.objects().await;
        let waits = waiting(&found);
        let found = kept(found, wish);
        let same = found == *expected && (wish.hibernated || waits == pending);
        looks = if same { looks + 1 } else { 0 };
        if looks > 1 {
            let restarts = wish.restarts(before) || wish.hibernated || before.hibernated;
            if !restarts && !step.paused && pod(&raw) != ran {
                return Err("nobody asked for a restart, and there was one".into());
            }
            return Ok(());
        }
        if begun.elapsed() > DEADLINE {
            return Err(format!(
                "not as the fresh claim within {DEADLINE:?}; for a restart wait {waits:?}, and should {pending:?}; {}",
                difference(expected, &found)
            ));
        }
    }
}

/// Settings that wait for a restart, by what the engine runs with and what is asked for.
fn pending(started: &Wish, now: &Wish) -> Vec<String> {
    let (engine, series) = now.of();
    member::pending((engine, series), &started.settings(), &now.settings())
}

/// Settings that wait for a restart, by what the claim says.
fn waiting(objects: &Objects) -> Vec<String> {
    let status = &objects["DatabaseClaim orders"]["status"];
    let names = status["members"][0]["pendingRestart"].as_array();
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<_> = names.map(str::to_owned).collect();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let said = conditions.filter(|it| it["type"] == "UpdatePending" && it["status"] == "True");
    // Both say it, or neither does.
    if said.count() == usize::from(!names.is_empty()) {
        names
    } else {
        vec!["UpdatePending and pendingRestart say different things".into()]
    }
}

/// The objects without what is history by design.
fn kept(mut objects: Objects, wish: &Wish) -> Objects {
    let mut without = |name: &str, parts: &[(&str, &str)]| {
        let Some(object) = objects.get_mut(name) else {
            return;
        };
        for (place, key) in parts {
            if let Some(place) = object.pointer_mut(place).and_then(Value::as_object_mut) {
                place.remove(*key);
            }
        }
    };
    let annotations = "/metadata/annotations";
    // Checked by the API server; what follows from it is what counts here.
    without(
        "DatabaseClaim orders",
        &[("", "spec"), ("/metadata", "annotations")],
    );
    // The newest request, whatever it was.
    without("DatabaseClaim orders", &[("/status", "restart")]);
    // Checked by itself.
    without("DatabaseClaim orders", &[("/status/members/0", "pendingRestart")]);
    without(
        "ConfigMap orders-db-1-report",
        &[(
            "/metadata/annotations/platform.acme.com~1report",
            "pendingRestart",
        )],
    );
    // A label that has changed is a new revision, and no reason for a restart.
    without(POD, &[("/metadata/labels", "controller-revision-hash")]);
    let counts = [("/status", "updatedReplicas"), ("/status", "currentReplicas")];
    without("StatefulSet orders-db-1", &counts);
    without(
        "PersistentVolumeClaim orders-db-1",
        &[(annotations, "volume.kubernetes.io/storage-resizer")],
    );
    if wish.hibernated {
        // What ran last.
        without("DatabaseClaim orders", &[("/status/members/0", "version")]);
        without(
            "ConfigMap orders-db-1-report",
            &[(annotations, "platform.acme.com/report")],
        );
    }
    if let Some(claim) = objects.get_mut("DatabaseClaim orders") {
        let conditions = claim["status"]["conditions"].as_array_mut();
        for condition in conditions.into_iter().flatten() {
            if condition["type"] == "UpdatePending" {
                *condition = json!({"type": "UpdatePending"});
            }
            // A volume that has more than is asked for says so; the fresh claim asks for what the volume has.
            let message = condition["message"].as_str().unwrap_or_default();
            if let Some((bound, _)) = message.split_once(" and stays at ") {
                condition["message"] = json!(bound);
            }
        }
    }
    objects
}
