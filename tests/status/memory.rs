//! What a status takes from the one before it, and what it must not.

use dbclaim::api::protocol::{Applied, Initialized, MemberPhase};
use dbclaim::api::v1::{DatabaseClaimStatus, Phase};
use dbclaim::plan::observed::Ownership;
use dbclaim::render::Slot;
use dbclaim::status;

use crate::cluster::Cluster;
use crate::states::{say, started, trouble};
use crate::{at, condition, lasting, status_of};

#[test]
fn what_only_a_human_resolves_is_said_at_once() {
    let mut cluster = Cluster::new();
    cluster.foreign(Slot::Service);
    let first = status_of(&cluster, None, at(0));
    assert_eq!(condition(&first, "Ready").reason, "NameTaken");
    assert_eq!(condition(&first, "Stalled").status, "True");
}

#[test]
fn a_claim_that_was_never_ready_is_not_called_degraded() {
    let mut cluster = Cluster::new();
    cluster.foreign(Slot::Service);
    let blocked = lasting(&cluster);
    assert_eq!(blocked.phase, Some(Phase::Failed));
    let freed = status_of(&started(), Some(&blocked), at(120));
    assert_eq!(freed.phase, Some(Phase::Provisioning));
    let failed = DatabaseClaimStatus {
        phase: Some(Phase::Failed),
        ..lasting(&Cluster::ready())
    };
    assert_eq!(
        status_of(&started(), Some(&failed), at(120)).phase,
        Some(Phase::Degraded)
    );
}

#[test]
fn a_restart_of_the_pod_touches_neither_storage_nor_credentials() {
    let mut cluster = Cluster::ready();
    cluster.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
    let healthy = lasting(&cluster);
    cluster.objects.retain(|it| it.child.name != "orders-db-1-0");
    for second in [61, 90] {
        let status = status_of(&cluster, Some(&healthy), at(second));
        assert_eq!(
            (status.phase, condition(&status, "Ready").status.as_str()),
            (Some(Phase::Degraded), "False")
        );
        for kind in ["Accepted", "StorageReady", "CredentialsReady", "UpdatePending"] {
            assert_eq!(
                condition(&status, kind),
                condition(&healthy, kind),
                "after {second} s"
            );
        }
    }
}

#[test]
fn a_foreign_pod_of_our_name_is_not_taken_for_ours() {
    let mut cluster = Cluster::ready();
    cluster.pod().unwrap().child.ownership = Ownership::Foreign;
    let status = lasting(&cluster);
    assert_eq!(
        (status.phase, condition(&status, "Ready").reason.as_str()),
        (Some(Phase::Provisioning), "PodMissing")
    );
}

#[test]
fn a_report_of_a_former_pod_is_history() {
    let mut cluster = Cluster::ready();
    cluster.pod().unwrap().child.uid = "a-new-pod".into();
    assert_eq!(condition(&lasting(&cluster), "Ready").reason, "AgentSilent");
}

#[test]
fn what_a_claim_resolved_to_stands_in_its_status() {
    let mut cluster = Cluster::ready();
    say(&mut cluster, MemberPhase::Running, None, |report| {
        report.version = Some("17.5".into());
        report.applied = Applied {
            config: "c".into(),
            credentials: 100,
            ..Applied::default()
        };
        report.initialized = Some(Initialized {
            at: "x".into(),
            system_identifier: "y".into(),
        });
    });
    let status = lasting(&cluster);
    assert_eq!(status.binding.unwrap().name, "orders-db-app");
    assert_eq!(
        status.endpoints.unwrap().read_write,
        "orders-db.shop.svc.cluster.local:5432"
    );
    let resolved = status.resolved.unwrap();
    assert_eq!(
        (resolved.storage.as_str(), resolved.storage_class_name.as_deref()),
        ("5Gi", Some("standard"))
    );
    assert_eq!(status.members[0].version.as_deref(), Some("17.5"));
    assert_eq!(
        status.initialized_at.as_deref(),
        Some("2026-03-01T08:00:00Z"),
        "the volume's record counts"
    );
}

#[test]
fn a_container_that_is_tried_again_and_again_is_one_status() {
    let error = "failed to pull and unpack image \"postgres:17\": not found";
    let backing_off = format!("Back-off pulling image \"postgres:17\": ErrImagePull: {error}");
    let back_off = |seconds| format!("back-off {seconds}s restarting failed container=database");
    for tries in [
        [
            ("ErrImagePull", error.to_owned()),
            ("ImagePullBackOff", backing_off),
        ],
        [
            ("CrashLoopBackOff", back_off(10)),
            ("CrashLoopBackOff", back_off(20)),
        ],
    ] {
        let [first, second] = tries.map(|(reason, message)| {
            let mut cluster = started();
            trouble(&mut cluster, reason, &message);
            lasting(&cluster)
        });
        assert_eq!(first, second);
    }
}

/// What is deleted with a claim is decided by this.
#[test]
fn a_claim_has_taken_over_nothing_until_nothing_stands_in_its_way_and_everything_from_then_on() {
    let hold_up: [fn(&mut Cluster); 4] = [
        |cluster| cluster.foreign(Slot::Service),
        |cluster| cluster.spec.paused = true,
        |cluster| cluster.spec.username = "bob".to_owned(),
        |cluster| cluster.spec.storage_class_name = Some("another".to_owned()),
    ];
    for hold_up in hold_up {
        let mut cluster = Cluster::ready();
        hold_up(&mut cluster);
        let status = status_of(&cluster, None, at(0));
        assert!(!status::has_taken_over(&status), "{status:#?}");
        let served = status_of(&Cluster::ready(), Some(&status), at(1));
        assert!(status::has_taken_over(&served));
        assert!(status::has_taken_over(&status_of(&cluster, Some(&served), at(2))));
    }
    assert!(status::has_taken_over(&status_of(&Cluster::new(), None, at(0))));
}
