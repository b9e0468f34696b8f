//! The owner of a claim, who changes his mind: valid specs, and changes from one to the next. Everything follows from
//! a seed. It knows nothing of a cluster.

use std::collections::BTreeMap;

use dbclaim::api::v1::{EngineName, SizeName};
use dbclaim::class;
use dbclaim::engine::Engine;
use dbclaim::engine::setting::{Parameter, Takes};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

const SIZES: [SizeName; 3] = [SizeName::Small, SizeName::Medium, SizeName::Large];
const GIB: u64 = 1 << 30;

/// Where chance comes from.
pub struct Dice(TestRunner);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self(TestRunner::new_with_rng(Config::default(), rng))
    }

    /// A number below `end`.
    fn roll(&mut self, end: usize) -> usize {
        (0..end).new_tree(&mut self.0).unwrap().current()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }
}

/// What a claim asks for.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "choices that do not depend on each other"
)]
pub struct Wish {
    engine: EngineName,
    series: &'static str,
    /// The exact version; a whole series without.
    minor: Option<u32>,
    /// Whether the series is written in the spec where no exact version is.
    series_written: bool,
    size: SizeName,
    /// In GiB; that of the size without.
    storage: Option<u64>,
    /// What the volume has come to, in GiB. It never shrinks.
    volume: u64,
    parameters: BTreeMap<String, String>,
    extensions: Vec<&'static str>,
    pub hibernated: bool,
    delete: bool,
    /// Whether connections without TLS are let in.
    plaintext: bool,
    team: usize,
    restart: usize,
}

impl Wish {
    /// How a claim begins.
    pub fn first(dice: &mut Dice, engine: EngineName) -> Self {
        let mut first = Self {
            engine,
            series: dice.pick(class::majors(engine).0),
            minor: (!dice.once_in(4)).then_some(10),
            series_written: true,
            size: dice.pick(&SIZES),
            storage: None,
            volume: 0,
            parameters: BTreeMap::new(),
            extensions: Vec::new(),
            hibernated: false,
            delete: dice.once_in(2),
            plaintext: dice.once_in(3),
            team: 0,
            restart: 0,
        };
        first.grow();
        first
    }

    /// One to three changes at once.
    pub fn next(&self, dice: &mut Dice) -> (Self, String) {
        let mut next = self.clone();
        let words: Vec<_> = (0..=dice.roll(3)).map(|_| next.change(dice)).collect();
        next.grow();
        (next, words.join(", "))
    }

    fn change(&mut self, dice: &mut Dice) -> String {
        match dice.roll(12) {
            0 | 1 => {
                self.size = dice.pick(&SIZES);
                format!("size {:?}", self.size)
            }
            2 => self.change_version(dice),
            3 => {
                let more = self.volume + 1 + dice.roll(9) as u64;
                self.storage = (!dice.once_in(4)).then_some(more);
                format!("storage {:?}", self.storage)
            }
            4 | 5 => self.change_parameters(dice),
            6 => self.change_extensions(dice),
            7 => {
                self.hibernated = !self.hibernated;
                format!("hibernated {}", self.hibernated)
            }
            8 => {
                self.delete = !self.delete;
                format!("policy {}", self.policy())
            }
            9 => {
                self.plaintext = !self.plaintext;
                format!("tls required {}", !self.plaintext)
            }
            10 => {
                self.team += 1;
                format!("team {}", self.team)
            }
            _ => {
                self.restart += 1;
                format!("restart {}", self.restart)
            }
        }
    }

    /// Up within the series, until it is at its newest.
    fn change_version(&mut self, dice: &mut Dice) -> String {
        match self.minor {
            Some(minor) if !dice.once_in(4) => self.minor = Some(minor + 1 + u32::from(dice.once_in(2))),
            Some(_) => (self.minor, self.series_written) = (None, dice.once_in(2)),
            None => self.series_written = !self.series_written,
        }
        format!("version {:?}", self.version())
    }

    fn change_parameters(&mut self, dice: &mut Dice) -> String {
        let names: Vec<_> = self.parameters.keys().cloned().collect();
        if !names.is_empty() && dice.once_in(2) {
            let name = dice.pick(&names);
            self.parameters.remove(&name);
            return format!("no {name}");
        }
        let engine = Engine::from(self.engine);
        loop {
            // Those that decide what a server needs to start, more often than the rest.
            let parameter = if dice.once_in(3) {
                let known = |it: &&Parameter| it.name == "max_connections";
                *engine.parameters().iter().find(known).unwrap()
            } else {
                dice.pick(engine.parameters())
            };
            let Some(value) = value(&parameter, dice) else {
                continue;
            };
            // It must stay valid in the smallest size.
            let least = class::size(SizeName::Small).engine_memory();
            if engine.refuses(parameter.name, &value, least).is_none() {
                let words = format!("{} {value:?}", parameter.name);
                self.parameters.insert(parameter.name.to_owned(), value);
                return words;
            }
        }
    }

    fn change_extensions(&mut self, dice: &mut Dice) -> String {
        let available = Engine::from(self.engine).extensions();
        if available.is_empty() {
            return self.change_parameters(dice);
        }
        // This one is loaded when the server starts, so it is more interesting than the others.
        let name = if dice.once_in(3) {
            "pg_stat_statements"
        } else {
            dice.pick(available)
        };
        if self.extensions.contains(&name) {
            self.extensions.retain(|it| *it != name);
            return format!("no {name}");
        }
        self.extensions.push(name);
        name.to_owned()
    }

    fn grow(&mut self) {
        let asked = self.storage.unwrap_or(class::size(self.size).storage.0 / GIB);
        self.volume = self.volume.max(asked);
    }

    fn policy(&self) -> &'static str {
        if self.delete { "Delete" } else { "Retain" }
    }

    fn version(&self) -> Option<String> {
        match self.minor {
            Some(minor) => Some(format!("{}.{minor}", self.series)),
            None => self.series_written.then(|| self.series.to_owned()),
        }
    }

    /// The spec that says so.
    pub fn spec(&self) -> Value {
        let mut spec = json!({"engine": self.engine, "size": self.size, "team": format!("team-{}", self.team),
            "deletionPolicy": self.policy(), "hibernated": self.hibernated, "parameters": self.parameters,
            "extensions": self.extensions, "tls": {"required": !self.plaintext}});
        if let Some(version) = self.version() {
            spec["version"] = json!(version);
        }
        if let Some(storage) = self.storage {
            spec["storage"] = json!(format!("{storage}Gi"));
        }
        spec
    }

    /// The spec of a new claim that is to be like this one: what is history here, its volume, said in so many words.
    pub fn fresh(&self) -> Value {
        let mut spec = self.spec();
        spec["version"] = json!(self.version().unwrap_or(self.series.to_owned()));
        spec["storage"] = json!(format!("{}Gi", self.volume));
        spec["hibernated"] = json!(false);
        spec
    }

    /// The value of the annotation that asks for restarts.
    pub fn restart(&self) -> Option<String> {
        (self.restart > 0).then(|| self.restart.to_string())
    }

    /// Whether a claim that asked for `before` and runs has to be restarted for this one.
    pub fn restarts(&self, before: &Self) -> bool {
        let asked = |it: &Self| (it.minor, it.restart);
        let memory = |it: &Self| class::size(it.size).memory;
        let in_place = Engine::from(self.engine).grows_live() && memory(self) > memory(before);
        asked(self) != asked(before) || self.size != before.size && !in_place
    }

    /// Engine and series.
    pub fn of(&self) -> (&'static str, &'static str) {
        (Engine::from(self.engine).name(), self.series)
    }

    /// Settings of the engine, by name.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let memory = class::size(self.size).engine_memory();
        let mut extensions: Vec<_> = self.extensions.iter().map(|it| (*it).to_owned()).collect();
        extensions.sort();
        let files =
            Engine::from(self.engine).config_files(memory, &self.parameters, &extensions, self.plaintext);
        let lines = files.values().flat_map(|file| file.lines());
        let setting = |line: &str| {
            let (name, value) = line.split_once(" = ")?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        };
        lines.filter_map(setting).collect()
    }
}

/// A value that a parameter takes.
fn value(parameter: &Parameter, dice: &mut Dice) -> Option<String> {
    let value = match parameter.takes {
        Takes::Switch => dice.pick(&["on", "off"]).to_owned(),
        Takes::Word(words) => dice.pick(words).to_owned(),
        Takes::Number { whole, least, .. } => {
            let step = if whole { 1.0 } else { 0.25 };
            let steps = u32::try_from(dice.roll(200)).unwrap();
            (least.ceil() + step * f64::from(steps)).to_string()
        }
        Takes::Amount { units, .. } => format!("{}{}", 1 + dice.roll(900), dice.pick(units).0),
    };
    parameter.takes.accepts(&value).then_some(value)
}
