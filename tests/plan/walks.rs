//! Random walks over valid specs in the pure core, with writes that get lost on the way: a claim that has come to a
//! spec by whatever way has the same objects as one that was created with it.

#[path = "../api/walks/owner.rs"]
#[expect(
    dead_code,
    reason = "shared with the walks of the API tests, which need more of it"
)]
mod owner;

use std::collections::BTreeMap;

use dbclaim::api::v1::EngineName;
use dbclaim::plan::observed::Detail;
use dbclaim::render::Slot;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use owner::{Dice, Wish};

/// Changes of one claim.
const STEPS: usize = 12;
/// Rounds in which writes get lost.
const ROUNDS: usize = 5;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_claim_ends_where_a_fresh_one_with_its_spec_begins(seed in any::<u64>(), mysql in any::<bool>()) {
        let engine = if mysql { EngineName::Mysql } else { EngineName::Postgres };
        let mut dice = Dice::new(seed);
        let mut wish = Wish::first(&mut dice, engine);
        let mut cluster = fresh(&wish);
        let mut way = Vec::new();
        for _ in 0..STEPS {
            let before = (wish.clone(), pod(&mut cluster));
            let words;
            (wish, words) = wish.next(&mut dice);
            way.push(words);
            ask(&mut cluster, &wish);
            if dice.once_in(6) {
                let still = objects(&cluster);
                cluster.spec.paused = true;
                work(&mut cluster, &mut dice);
                prop_assert_eq!(&objects(&cluster), &still, "while it was paused, after {:#?}", way);
                cluster.spec.paused = false;
            }
            work(&mut cluster, &mut dice);
            let fresh = fresh(&wish);
            prop_assert_eq!(objects(&cluster), objects(&fresh), "after {:#?}", way);
            prop_assert_eq!(cluster.has_finalizer, fresh.has_finalizer, "after {:#?}", way);
            if !wish.hibernated && !before.0.hibernated {
                let replaced = pod(&mut cluster) != before.1;
                prop_assert_eq!(replaced, wish.restarts(&before.0), "a restart, after {:#?}", way);
            }
        }
    }
}

fn ask(cluster: &mut Cluster, wish: &Wish) {
    cluster.spec = spec(wish.spec());
    cluster.restart = wish.restart();
}

fn spec(mut spec: Value) -> dbclaim::api::v1::DatabaseClaimSpec {
    spec["storageClassName"] = json!("fast");
    serde_json::from_value(spec).unwrap()
}

/// A claim that was created with a spec. One that sleeps has been awake: else it would have no data yet.
fn fresh(wish: &Wish) -> Cluster {
    let mut cluster = Cluster::new();
    ask(&mut cluster, wish);
    cluster.spec = spec(wish.fresh());
    cluster.live();
    if wish.hibernated {
        cluster.spec.hibernated = true;
        cluster.live();
    }
    cluster
}

/// The operator, of whose writes some get lost, the controllers and the agent, until nothing is left to do.
fn work(cluster: &mut Cluster, dice: &mut Dice) {
    for _ in 0..ROUNDS {
        let mut plan = cluster.pass().plan;
        plan.steps.retain(|_| !dice.once_in(3));
        cluster.carry_out(&plan);
        cluster.controllers();
        if dice.once_in(2) {
            cluster.agent();
        }
        if dice.once_in(4) {
            // Another process.
            cluster.trusted.clear();
        }
    }
    cluster.live();
}

fn pod(cluster: &mut Cluster) -> Option<String> {
    cluster.pod().map(|it| it.child.uid.clone())
}

/// What there is, without what is history by design.
fn objects(cluster: &Cluster) -> BTreeMap<String, Value> {
    let written = Slot::ALL.into_iter().filter_map(|slot| {
        let body = cluster.slot(slot)?.body.clone();
        Some((format!("{slot:?}"), body))
    });
    let runs = cluster.objects.iter().filter_map(|it| match &it.child.detail {
        Detail::Pod(pod) => {
            let pod = json!([it.child.team, pod.asked, pod.restart_hash, pod.ready]);
            Some(("Pod".to_owned(), pod))
        }
        _ => None,
    });
    let says = cluster.report().filter(|_| !cluster.spec.hibernated);
    let says = says.map(|it| ("applied".to_owned(), json!(it.applied.config)));
    written.chain(runs).chain(says).collect()
}
