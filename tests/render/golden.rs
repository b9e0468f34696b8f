//! Golden manifests: `snapshots/<fixture>/<object>.snap` is what the API server gets.
//!
//! A fixture that is a variation of another has only the objects in which it differs; that the rest is the
//! same, byte by byte, is asserted.

use std::collections::BTreeSet;

use dbclaim::render::{Object, Slot};

use super::{Fixture, full, mysql, pull_secrets, smallest, undelete};

fn golden(fixture: &str, object: &Object) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../snapshots/{fixture}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_sort_maps(true);
    settings.bind(|| insta::assert_yaml_snapshot!(format!("{:?}", object.slot), object.body));
}

/// Compares with the golden files what differs from `base`, which must be exactly `differing`.
fn golden_variation(fixture: &str, variation: &Fixture, base: &Fixture, differing: &[Slot]) {
    let base = base.objects();
    let differs = |object: &&Object| base[&object.slot] != **object;
    let objects = variation.objects();
    let changed: Vec<&Object> = objects.values().filter(differs).collect();
    let slots: BTreeSet<Slot> = changed.iter().map(|object| object.slot).collect();
    assert_eq!(slots, differing.iter().copied().collect());
    for object in changed {
        golden(fixture, object);
    }
}

#[test]
fn the_smallest_claim() {
    for object in smallest().objects().values() {
        golden("smallest", object);
    }
}

#[test]
fn a_claim_that_says_everything() {
    for object in full().objects().values() {
        golden("full", object);
    }
}

#[test]
fn an_undelete_differs_only_in_what_the_volume_is() {
    golden_variation(
        "undelete",
        &undelete(),
        &smallest(),
        &[Slot::Volume, Slot::Config],
    );
}

/// The objects in which more than a label is the engine's.
#[test]
fn mysql_in_the_same_objects() {
    let objects = mysql().objects();
    for slot in [
        Slot::Config,
        Slot::Service,
        Slot::AppSecret,
        Slot::StatefulSet,
        Slot::Volume,
    ] {
        golden("mysql", &objects[&slot]);
    }
}

#[test]
fn pull_secrets_stand_in_the_pod_and_nowhere_else() {
    golden_variation("pull-secrets", &pull_secrets(), &smallest(), &[Slot::StatefulSet]);
}
