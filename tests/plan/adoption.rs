//! What is found decides what is done: the table of the API's section on deletion, row by row, and the states
//! beside it in which data could be lost.

use dbclaim::api::protocol::Initialized;
use dbclaim::api::v1::EngineName;
use dbclaim::plan::observed::{Detail, Ownership, SecretState};
use dbclaim::render::{Kind, Slot};
use insta::{allow_duplicates, assert_snapshot};
use serde_json::Value;

use crate::cluster::{Cluster, Reads, password};

/// Every row for every engine.
macro_rules! rows {
    ($($row:ident),* $(,)?) => {
        rows!(postgres, EngineName::Postgres: $($row),*);
        rows!(mysql, EngineName::Mysql: $($row),*);
    };
    ($module:ident, $engine:path: $($row:ident),*) => {
        mod $module {
            use super::*;

            $(#[test]
            fn $row() {
                allow_duplicates! { super::$row($engine) }
            })*
        }
    };
}

rows![
    nothing_there_makes_a_new_database,
    the_record_of_a_new_volume_learns_what_the_agent_initialised,
    no_volume_and_secrets_of_ours_make_a_new_database_with_that_password,
    no_volume_and_only_the_binding_secret_of_ours_make_a_new_database_with_that_password,
    a_foreign_secret_is_a_name_that_is_taken,
    our_volume_and_our_secrets_are_served_again,
    an_undelete_that_reads_the_secrets_changes_neither,
    our_volume_without_secrets_is_served_with_new_passwords,
    our_volume_found_empty_is_never_initialised_again,
    our_volume_that_was_never_initialised_is,
    a_volume_that_was_never_initialised_binds_no_version_and_no_names,
    a_volume_that_was_never_bound_makes_way_for_another_class_or_size,
    a_volume_that_was_bound_or_may_hold_data_makes_way_for_nothing,
    another_engine_or_major_version_is_refused,
    a_volume_in_another_class_is_blocked_instead_of_refused_by_the_api_server,
    any_foreign_object_is_a_name_that_is_taken_and_nothing_is_made,
    what_a_foreign_volume_says_of_itself_resolves_nothing,
    a_former_claims_objects_are_waited_for,
    a_volume_that_is_gone_after_initialisation_is_never_made_anew,
    a_volume_that_is_gone_before_the_status_tells_of_its_data_is_never_made_anew,
    a_volume_that_is_gone_before_it_was_initialised_is_made_anew,
    a_report_that_a_former_claim_has_left_holds_nothing_up,
    a_volume_of_ours_without_the_record_of_its_data_is_not_taken_for_a_new_one,
    a_record_that_is_lost_while_the_agent_runs_is_written_again,
    a_volume_that_is_being_deleted_is_never_used,
    a_former_claims_volume_on_its_way_out_is_waited_for,
    a_claim_that_is_gone_gets_nothing_that_would_outlive_it,
];

const TAKEN: &str = "blocked Accepted: NameTaken\nagain in 30s";
const MISSING: &str = "blocked StorageReady: DataMissing\nagain in 30s";

/// A claim that serves.
fn ready(engine: EngineName) -> Cluster {
    let mut cluster = Cluster::of(engine);
    cluster.live();
    cluster
}

/// A claim that was deleted under Retain and is created again, after everything that had an owner is gone.
fn undelete(engine: EngineName) -> Cluster {
    let mut cluster = ready(engine);
    cluster.recreate();
    cluster.collect_former();
    cluster
}

fn nothing_there_makes_a_new_database(engine: EngineName) {
    let mut cluster = Cluster::of(engine);
    let first = cluster.pass();
    assert_snapshot!(first.text(), @r"
    create Volume Service MembersService Config Report ServiceAccount Role AdminSecret AppSecret
    again at once
    ");
    cluster.carry_out(&first.plan);
    let second = cluster.pass();
    assert_snapshot!(second.text(), @"create RoleBinding StatefulSet AdminMarker AppMarker");
    cluster.carry_out(&second.plan);
    assert_snapshot!(cluster.pass().text(), @"nothing");
    assert_eq!(password(&cluster.admin), password(&cluster.app));
}

fn the_record_of_a_new_volume_learns_what_the_agent_initialised(engine: EngineName) {
    let mut cluster = Cluster::of(engine);
    cluster.settle();
    cluster.controllers();
    assert_eq!(
        cluster.member_config().unwrap().volumes[&1].system_identifier,
        None
    );
    cluster.agent();
    assert_snapshot!(cluster.pass().text(), @"apply Volume Config");
    cluster.settle();
    let system = cluster
        .record()
        .unwrap()
        .initialized
        .clone()
        .unwrap()
        .system_identifier;
    let expected = cluster.member_config().unwrap().volumes[&1]
        .system_identifier
        .clone();
    assert_eq!(
        expected,
        Some(system),
        "from now on an empty volume is not taken for a new one"
    );
}

fn no_volume_and_secrets_of_ours_make_a_new_database_with_that_password(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.remove(Slot::Volume);
    let before = password(&cluster.admin).map(str::to_owned);
    assert_snapshot!(cluster.pass().text(), @r"
    create Volume Service MembersService Config Report ServiceAccount Role
    again at once
    ");
    cluster.live();
    assert_eq!(password(&cluster.admin), before.as_deref());
    assert_eq!(password(&cluster.app), before.as_deref());
}

fn no_volume_and_only_the_binding_secret_of_ours_make_a_new_database_with_that_password(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.remove(Slot::Volume);
    cluster.remove(Slot::AdminSecret);
    cluster.controllers();
    let before = password(&cluster.app).map(str::to_owned);
    cluster.live();
    assert_eq!(password(&cluster.admin), before.as_deref());
    assert_eq!(password(&cluster.app), before.as_deref());
}

fn a_foreign_secret_is_a_name_that_is_taken(engine: EngineName) {
    for slot in [Slot::AdminSecret, Slot::AppSecret] {
        let mut cluster = Cluster::of(engine);
        *cluster.secret(slot).unwrap() = SecretState::Present {
            uid: "theirs".into(),
            ownership: Ownership::Foreign,
            credentials: None,
            deleting: false,
            applied: None,
            keys: Box::default(),
        };
        assert_eq!(cluster.pass().text(), TAKEN, "{slot:?}");
    }
}

fn our_volume_and_our_secrets_are_served_again(engine: EngineName) {
    let mut cluster = undelete(engine);
    let before = (password(&cluster.app).map(str::to_owned), cluster.data.clone());
    assert_snapshot!(cluster.pass().text(), @r"
    create Service MembersService Config Report ServiceAccount Role StatefulSet
    again at once
    ");
    let expected = cluster
        .record()
        .unwrap()
        .initialized
        .clone()
        .unwrap()
        .system_identifier;
    cluster.live();
    assert_eq!(
        cluster.member_config().unwrap().volumes[&1].system_identifier,
        Some(expected)
    );
    assert_eq!((password(&cluster.app).map(str::to_owned), cluster.data), before);
}

fn an_undelete_that_reads_the_secrets_changes_neither(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.reads = Reads::Always;
    assert_snapshot!(cluster.pass().text(), @r"
    create Service MembersService Config Report ServiceAccount Role StatefulSet
    again at once
    ");
}

fn our_volume_without_secrets_is_served_with_new_passwords(engine: EngineName) {
    let mut cluster = undelete(engine);
    let before = password(&cluster.app).map(str::to_owned);
    cluster.remove(Slot::AdminSecret);
    cluster.remove(Slot::AppSecret);
    cluster.controllers();
    assert_snapshot!(cluster.pass().text(), @r"
    create Service MembersService Config Report ServiceAccount Role StatefulSet AdminSecret
    blocked CredentialsReady: CredentialsPending
    again at once
    again in 5s
    ");
    cluster.settle();
    assert_eq!(
        cluster.app,
        SecretState::Absent,
        "the database does not know a password yet"
    );
    cluster.live();
    assert_eq!(password(&cluster.app), password(&cluster.admin));
    assert_ne!(password(&cluster.app), before.as_deref());
}

fn our_volume_found_empty_is_never_initialised_again(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.data.clear();
    cluster.live();
    let report = cluster.report().unwrap().clone();
    assert_eq!(report.trouble.unwrap().reason, "DataMissing");
    assert!(cluster.data.is_empty(), "{:?}", cluster.data);
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

fn our_volume_that_was_never_initialised_is(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.data.clear();
    cluster.record().unwrap().initialized = None;
    cluster.live();
    assert_eq!(cluster.data.len(), 1);
}

fn a_volume_that_was_never_initialised_binds_no_version_and_no_names(engine: EngineName) {
    let other = match engine {
        EngineName::Postgres => "18",
        EngineName::Mysql => "8.4",
    };
    let mut cluster = undelete(engine);
    cluster.data.clear();
    let volume = cluster.record().unwrap().volume_id.clone();
    cluster.record().unwrap().initialized = None;
    cluster.spec.version = Some(other.into());
    (cluster.spec.database, cluster.spec.username) = ("shop".into(), "clerk".into());
    cluster.live();
    let record = cluster.record().unwrap().clone();
    assert_eq!(
        [
            &record.volume_id,
            &record.major,
            &record.database,
            &record.username
        ],
        [&volume, other, "shop", "clerk"]
    );
    assert_eq!(cluster.data.len(), 1);
    // From now on it binds.
    cluster.spec.username = "app".into();
    assert!(cluster.pass().resolved.is_err());
    // While a Pod may be at it, it binds as well.
    let mut cluster = Cluster::of(engine);
    cluster.settle();
    cluster.controllers();
    cluster.spec.username = "clerk".into();
    assert!(cluster.pass().resolved.is_err());
}

fn a_volume_that_was_never_bound_makes_way_for_another_class_or_size(engine: EngineName) {
    let changes: [fn(&mut Cluster); 4] = [
        |it| it.spec.storage_class_name = Some("fast".into()),
        |it| it.spec.storage_class_name = None,
        |it| it.spec.storage = Some("2Gi".into()),
        |it| it.spec.storage = Some("200Gi".into()),
    ];
    for again in [false, true] {
        for change in changes {
            let mut cluster = Cluster::of(engine);
            cluster.spec.storage_class_name = Some("slwo".into());
            cluster.settle();
            if again {
                // The claim was deleted and created again, which leaves the volume.
                cluster.recreate();
                cluster.collect_former();
            }
            change(&mut cluster);
            let text = cluster.pass().text();
            let deletes = "delete, by NeverBound: PersistentVolumeClaim/orders-db-1";
            assert!(text.contains(deletes), "{text}");
            cluster.settle();
            cluster.live();
            assert_eq!(cluster.data.len(), 1);
            let class = cluster.spec.storage_class_name.clone();
            let Detail::Volume(volume) = &cluster.volume().unwrap().child.detail else {
                panic!("a volume")
            };
            assert_eq!(volume.storage_class, class.or(Some("standard".into())));
        }
    }
}

fn a_volume_that_was_bound_or_may_hold_data_makes_way_for_nothing(engine: EngineName) {
    let cases: [fn(&mut Cluster); 5] = [
        |it| it.controllers(),
        |it| it.said_initialized = true,
        |it| it.record().unwrap().initialized = Some(initialized()),
        |it| it.record().unwrap().claim = "shop/bills".into(),
        |it| {
            let Detail::Volume(volume) = &mut it.volume().unwrap().child.detail else {
                panic!("a volume")
            };
            volume.identity = None;
        },
    ];
    for case in cases {
        let mut cluster = Cluster::of(engine);
        cluster.spec.storage_class_name = Some("slow".into());
        cluster.settle();
        case(&mut cluster);
        cluster.spec.storage_class_name = Some("fast".into());
        let text = cluster.pass().text();
        assert!(!text.contains("delete"), "{text}");
    }
}

fn initialized() -> Initialized {
    Initialized {
        at: "2026-03-01T08:00:00Z".into(),
        system_identifier: "73".into(),
    }
}

fn another_engine_or_major_version_is_refused(engine: EngineName) {
    let (name, series, other_series, other) = match engine {
        EngineName::Postgres => ("postgres", "17", "18", "mysql"),
        EngineName::Mysql => ("mysql", "9.7", "8.4", "postgres"),
    };
    let refused = |holds: &str| {
        format!(
            "refused: the volume orders-db-1 holds {holds} of shop/orders, and {name} {series} is asked for; create the claim with what the volume holds, or under another name"
        )
    };
    let mut cluster = undelete(engine);
    cluster.record().unwrap().major = other_series.into();
    cluster.spec.version = Some(series.into());
    assert_eq!(cluster.pass().text(), refused(&format!("{name} {other_series}")));
    let mut cluster = undelete(engine);
    cluster.record().unwrap().engine = other.into();
    assert_eq!(cluster.pass().text(), refused(&format!("{other} {series}")));
    assert_eq!(cluster.known().unwrap().id, cluster.id);
}

fn a_volume_in_another_class_is_blocked_instead_of_refused_by_the_api_server(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.spec.storage_class_name = Some("fast".into());
    assert_snapshot!(cluster.pass().text(), @r"
    blocked StorageReady: DataMismatch
    again in 30s
    ");
}

fn any_foreign_object_is_a_name_that_is_taken_and_nothing_is_made(engine: EngineName) {
    for slot in Slot::ALL {
        if slot.kind() == Kind::Secret {
            continue;
        }
        let mut cluster = Cluster::of(engine);
        cluster.foreign(slot);
        assert_eq!(cluster.pass().text(), TAKEN, "{slot:?}");
        let mut cluster = ready(engine);
        cluster.foreign(slot);
        assert_eq!(cluster.pass().text(), TAKEN, "{slot:?}");
    }
}

fn what_a_foreign_volume_says_of_itself_resolves_nothing(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.record().unwrap().major = "12".into();
    cluster.volume().unwrap().child.ownership = Ownership::Foreign;
    assert_eq!(cluster.pass().text(), TAKEN);
}

fn a_former_claims_objects_are_waited_for(engine: EngineName) {
    let mut cluster = ready(engine);
    cluster.recreate();
    let pass = cluster.pass();
    assert!(pass.plan.steps.is_empty(), "{}", pass.text());
    let reasons: Vec<_> = pass.plan.blocked.iter().map(|it| it.reason).collect();
    assert_eq!(
        reasons, ["WaitingForRemoval"; 8],
        "all but volume, Secrets and their markers"
    );
    cluster.collect_former();
    cluster.live();
    assert_eq!(cluster.data.len(), 1);
}

fn a_volume_that_is_gone_after_initialisation_is_never_made_anew(engine: EngineName) {
    let mut cluster = ready(engine);
    cluster.remove(Slot::Volume);
    assert_eq!(cluster.pass().text(), MISSING);
    cluster.remove(Slot::StatefulSet);
    cluster.controllers();
    assert_eq!(cluster.pass().text(), MISSING);
}

fn a_volume_that_is_gone_before_the_status_tells_of_its_data_is_never_made_anew(engine: EngineName) {
    let mut cluster = ready(engine);
    cluster.said_initialized = false;
    cluster.remove(Slot::Volume);
    assert_eq!(cluster.pass().text(), MISSING);
}

fn a_volume_that_is_gone_before_it_was_initialised_is_made_anew(engine: EngineName) {
    let mut cluster = Cluster::of(engine);
    cluster.settle();
    cluster.remove(Slot::Volume);
    assert_snapshot!(cluster.pass().text(), @r"
    create Volume
    again at once
    ");
}

fn a_report_that_a_former_claim_has_left_holds_nothing_up(engine: EngineName) {
    // Deleted with `--cascade=orphan` under Delete: what has no owner any more is taken over, the volume is gone.
    let mut cluster = ready(engine);
    cluster.objects.retain(|it| it.child.kind != Kind::Pod);
    cluster.remove(Slot::StatefulSet);
    cluster.remove(Slot::Volume);
    (cluster.said_initialized, cluster.taken_over) = (false, false);
    let text = cluster.pass().text();
    assert!(text.contains("create Volume"), "{text}");
    cluster.live();
    assert_eq!(cluster.data.len(), 1);
}

fn a_volume_of_ours_without_the_record_of_its_data_is_not_taken_for_a_new_one(engine: EngineName) {
    // Somebody restored an empty volume under the name, or removed the annotation while nothing ran.
    for lost in [
        |it: &mut Cluster| it.record().unwrap().initialized = None,
        |it: &mut Cluster| {
            let Detail::Volume(volume) = &mut it.volume().unwrap().child.detail else {
                panic!()
            };
            volume.identity = None;
        },
    ] {
        let mut cluster = ready(engine);
        cluster.remove(Slot::StatefulSet);
        cluster.controllers();
        lost(&mut cluster);
        assert_eq!(cluster.pass().text(), MISSING);
    }
}

fn a_record_that_is_lost_while_the_agent_runs_is_written_again(engine: EngineName) {
    let mut cluster = ready(engine);
    let before = cluster.record().unwrap().clone();
    cluster.edit(Slot::Volume, |it| {
        it["metadata"]["annotations"]["platform.acme.com/identity"] = Value::Null;
    });
    let Detail::Volume(volume) = &mut cluster.volume().unwrap().child.detail else {
        panic!()
    };
    volume.identity = None;
    assert_snapshot!(cluster.pass().text(), @"apply Volume");
    cluster.settle();
    assert_eq!(*cluster.record().unwrap(), before);
}

fn a_volume_that_is_being_deleted_is_never_used(engine: EngineName) {
    let mut cluster = ready(engine);
    cluster.volume().unwrap().child.deleting = true;
    assert_snapshot!(cluster.pass().text(), @r"
    blocked StorageReady: VolumeTerminating
    again in 30s
    ");
    cluster.remove(Slot::StatefulSet);
    assert_snapshot!(cluster.pass().text(), @r"
    blocked StorageReady: VolumeTerminating
    again in 30s
    ");
}

fn a_former_claims_volume_on_its_way_out_is_waited_for(engine: EngineName) {
    let mut cluster = undelete(engine);
    cluster.volume().unwrap().child.deleting = true;
    assert_snapshot!(cluster.pass().text(), @r"
    blocked StorageReady: WaitingForRemoval
    again in 30s
    ");
    cluster.controllers();
    cluster.live();
    assert_eq!(cluster.data.len(), 1);
}

fn a_claim_that_is_gone_gets_nothing_that_would_outlive_it(engine: EngineName) {
    let mut cluster = Cluster::of(engine);
    cluster.claim_gone = true;
    assert_snapshot!(cluster.pass().text(), @"nothing");
}
