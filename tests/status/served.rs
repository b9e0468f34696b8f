//! Whatever keeps the operator from changing a claim whose database serves: Ready says what applications see, and the
//! other conditions say the rest.

use dbclaim::api::v1::{DatabaseClaimStatus, Phase};
use dbclaim::plan::observed::{Ownership, SecretState};
use dbclaim::render::Slot;

use crate::cluster::{Cluster, Reads};
use crate::states::pod;
use crate::{at, condition, lasting, status_of};

type Change = fn(&mut Cluster);

/// What can happen to a claim that serves, and the condition that says so with its reason.
const TABLE: [(&str, Change, &str, &str); 13] = [
    (
        "a parameter that may not be set",
        |it| parameter(it, "max_connectoins", "5"),
        "Accepted",
        "Invalid",
    ),
    (
        "a parameter with a wrong value",
        |it| parameter(it, "work_mem", "lots"),
        "Accepted",
        "Invalid",
    ),
    (
        "an extension that there is not",
        |it| it.spec.extensions = vec!["oracle".into()],
        "Accepted",
        "Invalid",
    ),
    (
        "a storage that is none",
        |it| it.spec.storage = Some("lots".into()),
        "Accepted",
        "Invalid",
    ),
    (
        "another series than the data's",
        |it| it.spec.version = Some("18".into()),
        "Accepted",
        "Invalid",
    ),
    (
        "another user than the data's",
        |it| it.spec.username = "bob".into(),
        "Accepted",
        "Invalid",
    ),
    (
        "hibernation, and a typo beside it",
        |it| {
            it.spec.hibernated = true;
            parameter(it, "x", "1");
        },
        "Accepted",
        "Invalid",
    ),
    ("paused", |it| it.spec.paused = true, "Reconciling", "Paused"),
    (
        "hibernation that is paused",
        |it| (it.spec.paused, it.spec.hibernated) = (true, true),
        "Reconciling",
        "Paused",
    ),
    (
        "the Role is somebody else's",
        |it| it.foreign(Slot::Role),
        "Accepted",
        "NameTaken",
    ),
    (
        "the configuration is somebody else's",
        |it| it.foreign(Slot::Config),
        "Accepted",
        "NameTaken",
    ),
    (
        "the volume is being deleted",
        |it| it.volume().unwrap().child.deleting = true,
        "StorageReady",
        "VolumeTerminating",
    ),
    (
        "another class than the volume's",
        |it| it.spec.storage_class_name = Some("fast".into()),
        "StorageReady",
        "DataMismatch",
    ),
];

fn parameter(cluster: &mut Cluster, name: &str, value: &str) {
    cluster.spec.parameters.insert(name.into(), value.into());
}

fn served(change: impl FnOnce(&mut Cluster)) -> (Cluster, DatabaseClaimStatus) {
    let mut cluster = Cluster::ready();
    let healthy = lasting(&cluster);
    change(&mut cluster);
    let status = status_of(&cluster, Some(&healthy), at(100));
    (cluster, status)
}

#[test]
fn what_keeps_a_claim_from_being_changed_does_not_make_a_database_that_serves_not_ready() {
    for (what, change, kind, reason) in TABLE {
        let (cluster, status) = served(change);
        let ready = condition(&status, "Ready");
        assert_eq!(
            (ready.status.as_str(), status.phase),
            ("True", Some(Phase::Ready)),
            "{what}: {ready:?}"
        );
        assert_eq!(condition(&status, kind).reason, reason, "{what}");
        assert_eq!(condition(&status, "Reconciling").status, "False", "{what}");
        assert!(status.members[0].ready, "{what}");
        assert_eq!(
            status_of(&cluster, Some(&status), at(200)),
            status,
            "{what}: the same again"
        );
        // What is true then is said then.
        let mut down = cluster;
        pod(&mut down).ready = false;
        down.serve(false);
        let status = status_of(&down, Some(&status), at(300));
        assert_eq!(condition(&status, "Ready").status, "False", "{what}");
    }
}

#[test]
fn a_claim_without_its_applications_secret_is_not_ready() {
    let (_, status) = served(|it| {
        it.reads = Reads::Always;
        it.app = SecretState::Present {
            uid: "theirs".into(),
            ownership: Ownership::Foreign,
            credentials: None,
            deleting: false,
            applied: None,
            keys: Box::default(),
        };
    });
    assert_eq!(condition(&status, "Ready").reason, "NameTaken");
}

#[test]
fn a_claim_that_was_refused_from_the_first_is_not_ready_and_says_why() {
    let mut cluster = Cluster::ready();
    parameter(&mut cluster, "max_connectoins", "5");
    // A former claim of this name serves still.
    let status = lasting(&cluster);
    assert_eq!(condition(&status, "Ready").reason, "Invalid");
    assert_eq!(status.phase, Some(Phase::Pending));
}

#[test]
fn a_former_claims_volume_on_its_way_out_is_not_this_claims_data() {
    let mut cluster = Cluster::ready();
    cluster.recreate();
    cluster.volume().unwrap().child.deleting = true;
    let first = status_of(&cluster, None, at(0));
    assert_eq!(condition(&first, "Ready").reason, "WaitingForRemoval");
    assert_eq!(first.initialized_at, None);
    let later = status_of(&cluster, Some(&first), at(60));
    assert_eq!(later.initialized_at, None);
}

#[test]
fn a_new_configuration_is_under_way_until_the_database_has_it() {
    let (mut cluster, asked) = served(|it| {
        parameter(it, "work_mem", "8MB");
        it.settle();
    });
    let reconciling = condition(&asked, "Reconciling");
    assert_eq!(reconciling.status, "True", "{reconciling:?}");
    assert_eq!(condition(&asked, "Ready").status, "True");
    cluster.agent();
    let done = status_of(&cluster, Some(&asked), at(101));
    assert_eq!(condition(&done, "Reconciling").status, "False");
}

#[test]
fn a_claim_that_asks_for_less_than_its_volume_has_says_so_and_serves() {
    let (_, status) = served(|it| it.spec.storage = Some("1Gi".into()));
    let storage = condition(&status, "StorageReady");
    assert_eq!(storage.status, "True");
    assert!(
        storage.message.contains("stays at 5Gi") && storage.message.contains("1Gi"),
        "{}",
        storage.message
    );
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(status.resolved.unwrap().storage, "5Gi");
}

#[test]
fn a_restart_that_was_asked_for_is_known_when_its_annotation_is_gone() {
    let (_, status) = served(|it| it.restart = Some("1".into()));
    assert_eq!(status.restart.unwrap().asked, "1");
    let (_, status) = served(|it| it.restart = Some("x".repeat(65)));
    assert_eq!(status.restart, None, "too long to be repeated");
}
