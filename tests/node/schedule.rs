//! Which scenarios run, and when: a group of scenarios starts when a place is free and nothing is running that it
//! excludes, so that a group that has to wait holds no place. It knows nothing of what the scenarios do.

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, mpsc};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::task::JoinSet;

use crate::durations::Durations;
use crate::engines::Engine;
use crate::world::{Scene, World};

/// One scenario.
pub struct Scenario {
    /// Module and function.
    pub name: &'static str,
    pub test: fn(Scene) -> BoxFuture<'static, ()>,
    pub engines: Engines,
    pub needs: &'static [Need],
}

/// Which engines a scenario runs on. `--include-ignored` runs all scenarios on all engines.
pub enum Engines {
    /// On each: what it shows is the work of an engine, or of the agent with an engine.
    Each,
    /// On one of them, which follows from the name: what it shows cannot differ by engine, since the modules that do it
    /// never name one (`tests/architecture.rs`).
    Once,
    /// On this one: on others it would show less.
    On(Engine),
    /// On none: it takes long, and a shorter scenario shows the same.
    Nightly,
}

/// What a scenario needs of what all scenarios share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The operator, which is neither stopped nor replaced meanwhile: an Event is sent by the process that saw the
    /// change.
    Undisturbed,
    /// The operator, to stop or replace it.
    Operator,
    /// The second node, where its databases run: to break it, or for one of a larger size.
    SpareNode,
    /// The whole cluster, when all other scenarios are over.
    Last,
}

impl Need {
    fn excludes(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Operator, Self::Operator | Self::Undisturbed)
                | (Self::Undisturbed, Self::Operator)
                | (Self::SpareNode, Self::SpareNode)
                | (Self::Last, _)
                | (_, Self::Last)
        )
    }
}

impl Scenario {
    fn runs_on(&self, engine: Engine) -> bool {
        match self.engines {
            Engines::Each => true,
            Engines::Nightly => false,
            Engines::On(only) => only == engine,
            Engines::Once => {
                // By the name alone, so that a new scenario moves no other.
                let sum: usize = self.name.bytes().map(usize::from).sum();
                Engine::ALL.get(sum % Engine::ALL.len()) == Some(&engine)
            }
        }
    }
}

type Outcome = Result<(), Box<dyn Any + Send>>;

/// Scenarios of one group on one engine: they run one after the other in one namespace.
struct Unit {
    engine: Engine,
    scenarios: Vec<(&'static Scenario, mpsc::Sender<Outcome>)>,
}

impl Unit {
    fn needs(&self) -> Vec<Need> {
        let scenarios = self.scenarios.iter();
        scenarios
            .flat_map(|(scenario, _)| scenario.needs)
            .copied()
            .collect()
    }
}

/// The scenarios that were asked for.
pub struct Schedule {
    units: Vec<Unit>,
}

/// A test per scenario and engine, for the harness, and what they wait for. A group is a list of scenarios that use
/// one claim, each of which leaves it as it was.
pub fn plan(table: &'static [&'static [Scenario]], arguments: &Arguments) -> (Vec<Trial>, Schedule) {
    let (mut trials, mut units) = (Vec::new(), Vec::new());
    for group in table {
        for engine in Engine::ALL {
            let mut unit = Unit {
                engine,
                scenarios: Vec::new(),
            };
            for scenario in *group {
                let (sender, receiver) = mpsc::channel();
                let trial = Trial::test(full_name(engine, scenario), move || wait(&receiver))
                    .with_ignored_flag(!scenario.runs_on(engine));
                if !arguments.is_filtered_out(&trial) && !arguments.is_ignored(&trial) {
                    unit.scenarios.push((scenario, sender));
                }
                trials.push(trial);
            }
            if !unit.scenarios.is_empty() {
                units.push(unit);
            }
        }
    }
    (trials, Schedule { units })
}

fn full_name(engine: Engine, scenario: &Scenario) -> String {
    format!("{}::{}", engine.name(), scenario.name)
}

/// Waits until a scenario is over.
fn wait(receiver: &mpsc::Receiver<Outcome>) -> Result<(), Failed> {
    match receiver.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(mpsc::RecvError) => Err("interrupted".into()),
    }
}

impl Schedule {
    /// Runs everything, at most so many groups side by side.
    pub async fn run(self, world: &Arc<World>, places: usize, durations: &Durations) {
        let mut waiting = self.units;
        let (mut tasks, mut running) = (JoinSet::new(), Vec::<(tokio::task::Id, Vec<Need>)>::new());
        loop {
            while running.len() < places {
                let held: Vec<Need> = running.iter().flat_map(|(_, needs)| needs).copied().collect();
                let Some(index) = next(&waiting, &held, running.is_empty()) else {
                    break;
                };
                let unit = waiting.remove(index);
                let needs = unit.needs();
                let task = tasks.spawn(play(world.clone(), unit, durations.clone()));
                running.push((task.id(), needs));
            }
            let Some(over) = tasks.join_next_with_id().await else {
                assert!(waiting.is_empty(), "nothing runs, and nothing can start");
                return;
            };
            let id = over.map_or_else(|error| error.id(), |(id, ())| id);
            running.retain(|(task, _)| *task != id);
        }
    }
}

/// The first unit that may start beside what holds these.
fn next(waiting: &[Unit], held: &[Need], idle: bool) -> Option<usize> {
    let others_wait = waiting.iter().any(|it| !it.needs().contains(&Need::Last));
    waiting.iter().position(|unit| {
        let needs = unit.needs();
        let is_last = needs.contains(&Need::Last);
        (!is_last || (idle && !others_wait))
            && needs.iter().all(|need| held.iter().all(|it| !need.excludes(*it)))
    })
}

/// Runs the scenarios of a unit one after the other. Where one fails, those after it have nothing to begin with.
async fn play(world: Arc<World>, unit: Unit, durations: Durations) {
    let first = unit.scenarios.first().map_or("", |(scenario, _)| scenario.name);
    let name = first.rsplit("::").next().unwrap_or(first);
    let scene = Scene::new(world.clone(), unit.engine, name, unit.needs()).await;
    let mut failed = None;
    for (scenario, outcome) in unit.scenarios {
        let played = match failed {
            None => {
                let _timer = durations.start(&full_name(unit.engine, scenario));
                let test = (scenario.test)(scene.clone());
                AssertUnwindSafe(test).catch_unwind().await
            }
            Some(before) => {
                let why = format!("not run: {before} failed, and left its claim to this one");
                Err(Box::new(why) as Box<dyn Any + Send>)
            }
        };
        if played.is_err() {
            failed.get_or_insert(scenario.name);
        }
        // Nobody waits after an interrupt.
        let _ = outcome.send(played);
    }
    // The node is small: what is over makes room.
    world.remove(&scene.namespace).await;
}
