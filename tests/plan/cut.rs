//! Walks over rotations and deleted Secrets in which the agent's reports are cut off, its files are old, and time
//! passes: a client that reads the binding Secret at any time is let in.

use std::collections::BTreeMap;

use dbclaim::api::protocol::{Credentials, second_login};
use dbclaim::api::v1::EngineName;
use dbclaim::plan::observed::SecretState;
use dbclaim::render::Slot;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::cluster::{Cluster, OVERLAP, Reads, password};

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A pass of the operator.
    Operator,
    /// The kubelet delivers the admin Secret, and the agent does what it says.
    Agent,
    /// The agent's newest report arrives.
    Report,
    /// Somebody deletes a Secret.
    DeleteAdmin,
    DeleteApp,
    Rotate,
    EndPrevious,
    /// A quarter of the overlap.
    Time,
}

/// The database's logins, as the agent is to bring them about.
#[derive(Default)]
struct Database {
    in_force: u64,
    passwords: BTreeMap<String, Vec<String>>,
}

impl Database {
    fn apply(&mut self, engine: EngineName, given: &Credentials, now: Timestamp) {
        if given.generation < self.in_force {
            return;
        }
        self.in_force = given.generation;
        let login = given.login("app");
        let other = match engine {
            EngineName::Postgres if login == "app" => second_login("app"),
            _ => "app".to_owned(),
        };
        let previous = given.previous.as_ref().filter(|_| given.previous_is_valid(now));
        let kept = previous.and_then(|it| it.password.clone());
        let mut passwords = BTreeMap::from([(login.to_owned(), vec![given.password.clone()])]);
        passwords.entry(other).or_insert_with(Vec::new).extend(kept);
        self.passwords = passwords;
    }

    fn accepts(&self, login: &str, password: &str) -> bool {
        let known = self.passwords.get(login);
        known.is_some_and(|it| it.iter().any(|it| it == password))
    }
}

fn given(cluster: &Cluster) -> Option<Credentials> {
    match &cluster.admin {
        SecretState::Present { credentials, .. } => credentials.clone(),
        _ => None,
    }
}

fn binding(cluster: &Cluster) -> Option<(String, String)> {
    match &cluster.app {
        SecretState::Present {
            credentials: Some(it),
            ..
        } => Some((it.login("app").to_owned(), it.password.clone())),
        _ => None,
    }
}

fn happen(cluster: &mut Cluster, database: &mut Database, engine: EngineName, event: Event, count: usize) {
    match event {
        Event::Operator => {
            let plan = cluster.pass().plan;
            cluster.carry_out(&plan);
        }
        Event::Agent => {
            if let Some(given) = given(cluster) {
                database.apply(engine, &given, cluster.now);
            }
        }
        Event::Report => {
            // What the agent says is what it has, not what the Secret says by now.
            let mut report = cluster.report().unwrap().clone();
            report.applied.credentials = database.in_force;
            cluster.say(report);
        }
        Event::DeleteAdmin => cluster.remove(Slot::AdminSecret),
        Event::DeleteApp => cluster.remove(Slot::AppSecret),
        Event::Rotate => cluster.rotation = Some(format!("request {count}")),
        Event::EndPrevious => cluster.end_previous = Some(format!("request {count}")),
        Event::Time => cluster.now += SignedDuration::try_from(OVERLAP / 4).unwrap(),
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Operator),
        3 => Just(Event::Agent),
        2 => Just(Event::Report),
        2 => Just(Event::DeleteAdmin),
        1 => Just(Event::DeleteApp),
        2 => Just(Event::Rotate),
        1 => Just(Event::EndPrevious),
        1 => Just(Event::Time),
    ];
    proptest::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_reads_the_binding_secret_is_let_in_whatever_is_cut(events in events(), mysql in any::<bool>()) {
        let engine = if mysql { EngineName::Mysql } else { EngineName::Postgres };
        let mut cluster = Cluster::of(engine);
        cluster.live();
        cluster.reads = Reads::Always;
        let mut database = Database::default();
        database.apply(engine, &given(&cluster).unwrap(), cluster.now);
        for (count, event) in events.iter().enumerate() {
            happen(&mut cluster, &mut database, engine, *event, count);
            if let Some((login, password)) = binding(&cluster) {
                prop_assert!(
                    database.accepts(&login, &password),
                    "after {:?}: {login} with {password}; the database has {:?}", &events[..=count], database.passwords
                );
            }
        }
        // With nothing cut, it comes to rest with the newest password.
        for _ in 0..4 {
            cluster.settle();
            for event in [Event::Agent, Event::Report] {
                happen(&mut cluster, &mut database, engine, event, 0);
            }
        }
        prop_assert_eq!(password(&cluster.app), password(&cluster.admin));
        prop_assert!(!given(&cluster).unwrap().previous_is_open());
    }
}
