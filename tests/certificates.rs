//! Certificates over years, without a cluster: what is made when, and that a client which reads its Secret now
//! and then never meets one that it cannot verify.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; the linter does not see that fixtures are part of tests"
)]

use dbclaim::api::protocol::{Applied, FORMAT, MemberPhase, Report, TlsReport};
use dbclaim::certificate::{Flaw, Keys, Work, accepted, authorities, belong, fingerprint, first, next};
use dbclaim::claim::ClaimId;
use dbclaim::issue::{Lifetimes, carry_out};
use dbclaim::plan::observed::{Child, Detail, Integrity, Observed, Ownership, Pod, SecretState};
use dbclaim::plan::{Order, certificates};
use dbclaim::render::{Kind, Slot};
use jiff::{SignedDuration, Timestamp};

const DAY: i64 = 24 * 3600;

fn id() -> ClaimId {
    ClaimId {
        namespace: "shop".into(),
        name: "orders".into(),
        uid: "claim-1".into(),
    }
}

fn day(days: i64) -> Timestamp {
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    begin + SignedDuration::from_secs(days * DAY)
}

fn made(order: &Order, now: Timestamp) -> Keys {
    carry_out(order, &id(), Lifetimes::default(), now).unwrap()
}

/// What a new claim gets.
fn fresh(now: Timestamp) -> Keys {
    made(&Order::Authority(Keys::default()), now)
}

/// Whether a client that trusts `ca` accepts a certificate.
fn client(certificate: &str, ca: &str, name: &str, now: Timestamp) -> Result<(), Flaw> {
    accepted(&first(certificate)?, ca, [name], now)
}

fn secret(keys: &Keys) -> SecretState {
    SecretState::Present {
        uid: "secret-1".into(),
        ownership: Ownership::Ours,
        credentials: None,
        keys: Box::new(keys.clone()),
        deleting: false,
        applied: None,
    }
}

fn child(kind: Kind, name: String, detail: Detail) -> Child {
    Child {
        kind,
        name,
        uid: "pod-1".into(),
        resource_version: "1".into(),
        ownership: Ownership::Ours,
        deleting: false,
        applied: None,
        integrity: Integrity::Known(0),
        team: None,
        detail,
    }
}

/// Both Secrets, and what clients get to see.
fn observed(admin: &Keys, binding: &str, shown: &str) -> Observed {
    let report = Report {
        v: FORMAT,
        agent: "0.1.0".into(),
        pod_uid: "pod-1".into(),
        phase: MemberPhase::Running,
        trouble: None,
        version: None,
        initialized: None,
        applied: Applied::default(),
        pending_restart: vec![],
        write_test: None,
        access: None,
        password_set_back: None,
        disk_percent: None,
        tls: Some(TlsReport {
            certificate: first(shown).map(|it| fingerprint(&it)).unwrap_or_default(),
            ..TlsReport::default()
        }),
    };
    let pod = child(Kind::Pod, id().pod(1), Detail::Pod(Box::<Pod>::default()));
    let report = Detail::Report(Some(Box::new(report)));
    let report = child(Kind::ConfigMap, Slot::Report.name(&id()), report);
    Observed {
        children: vec![pod, report],
        admin: secret(admin),
        app: secret(&Keys {
            ca: binding.into(),
            ..Keys::default()
        }),
        ..Observed::default()
    }
}

fn name(order: Option<&Order>) -> &'static str {
    match order {
        None => "nothing known",
        Some(Order::Keep(_)) => "keep",
        Some(Order::Authority(_)) => "authority",
        Some(Order::Server(_)) => "server",
        Some(Order::Forget(_)) => "forget",
    }
}

#[test]
fn a_new_claim_gets_a_certificate_for_every_name_of_its_services() {
    let keys = fresh(day(0));
    assert_eq!(belong(&keys.certificate, &keys.key), Ok(()));
    assert_eq!(belong(&keys.ca, &keys.ca_key), Ok(()));
    assert_eq!(authorities(&keys.ca), 1);
    for name in [
        "orders-db",
        "orders-db.shop",
        "orders-db.shop.svc",
        "orders-db.shop.svc.cluster.local",
        "orders-db-1-0.orders-db-members.shop.svc",
        "orders-db-1-0.orders-db-members.shop.svc.cluster.local",
    ] {
        assert_eq!(
            client(&keys.certificate, &keys.ca, name, day(1)),
            Ok(()),
            "{name}"
        );
    }
    for name in ["bills-db.shop.svc", "orders-db.other.svc", "localhost"] {
        let refused = client(&keys.certificate, &keys.ca, name, day(1));
        assert_eq!(refused, Err(Flaw::OtherName(name.into())));
    }
}

#[test]
fn the_longest_names_fit() {
    let id = ClaimId {
        namespace: "n".repeat(63),
        name: "o".repeat(46),
        uid: "u".into(),
    };
    let order = Order::Authority(Keys::default());
    let keys = carry_out(&order, &id, Lifetimes::default(), day(0)).unwrap();
    assert_eq!(client(&keys.certificate, &keys.ca, &id.host(), day(1)), Ok(()));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_apart() {
    let (keys, other) = (fresh(day(0)), fresh(day(0)));
    let host = id().host();
    for (what, found, expected) in [
        (
            "in time",
            client(&keys.certificate, &keys.ca, &host, day(89)),
            Ok(()),
        ),
        (
            "late",
            client(&keys.certificate, &keys.ca, &host, day(91)),
            Err(Flaw::Expired),
        ),
        (
            "early",
            client(&keys.certificate, &keys.ca, &host, day(-1)),
            Err(Flaw::NotYet),
        ),
        (
            "another authority",
            client(&keys.certificate, &other.ca, &host, day(1)),
            Err(Flaw::Untrusted),
        ),
        (
            "no authority",
            client(&keys.certificate, "", &host, day(1)),
            Err(Flaw::Untrusted),
        ),
        (
            "nothing",
            client("", &keys.ca, &host, day(1)),
            Err(Flaw::Unreadable),
        ),
        (
            "another key",
            belong(&keys.certificate, &other.key),
            Err(Flaw::OtherKey),
        ),
        ("no key", belong(&keys.certificate, ""), Err(Flaw::OtherKey)),
        (
            "no certificate",
            belong("rubbish", &keys.key),
            Err(Flaw::Unreadable),
        ),
    ] {
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn no_key_reaches_a_log() {
    let keys = fresh(day(0));
    let shown = format!("{keys:?} {:?} {:?}", Order::Keep(keys.clone()), secret(&keys));
    assert!(!shown.contains("BEGIN"), "{shown}");
}

#[test]
fn what_is_found_decides_what_is_made() {
    let keys = fresh(day(0));
    let other = fresh(day(0));
    // A certificate that was renewed late, so that the authority is due before it.
    let old = made(&Order::Server(keys.clone()), day(2400));
    let without = |change: fn(&mut Keys)| {
        let mut keys = keys.clone();
        change(&mut keys);
        keys
    };
    let foreign = Keys {
        certificate: other.certificate.clone(),
        key: other.key.clone(),
        ..keys.clone()
    };
    for (what, admin, now, expected) in [
        ("a day later", &keys, 1, "keep"),
        ("before two thirds of its life", &keys, 59, "keep"),
        ("after them", &keys, 61, "server"),
        ("after its life", &keys, 91, "server"),
        ("an authority before two thirds of its life", &old, 2430, "keep"),
        ("an authority after them", &old, 2440, "authority"),
        ("a Secret of an earlier version", &Keys::default(), 1, "authority"),
        (
            "no certificate",
            &without(|it| it.certificate.clear()),
            1,
            "server",
        ),
        (
            "a spoiled certificate",
            &without(|it| it.certificate = "x".into()),
            1,
            "server",
        ),
        ("no key", &without(|it| it.key.clear()), 1, "server"),
        ("another authority's certificate", &foreign, 1, "server"),
        (
            "no key of the authority",
            &without(|it| it.ca_key.clear()),
            1,
            "authority",
        ),
        (
            "a spoiled authority",
            &without(|it| it.ca = "x".into()),
            1,
            "authority",
        ),
    ] {
        let observed = observed(admin, &admin.ca, &admin.certificate);
        let order = certificates(&observed, &id(), true, day(now));
        assert_eq!(name(order.as_ref()), expected, "{what}");
    }
}

#[test]
fn other_names_take_another_certificate_and_unread_secrets_none() {
    let keys = fresh(day(0));
    let renamed = ClaimId {
        name: "bills".into(),
        ..id()
    };
    let seen = observed(&keys, &keys.ca, &keys.certificate);
    assert_eq!(
        name(certificates(&seen, &renamed, true, day(1)).as_ref()),
        "server"
    );
    assert_eq!(
        name(certificates(&Observed::default(), &id(), true, day(1)).as_ref()),
        "nothing known"
    );
}

#[test]
fn a_lost_authority_is_replaced_and_applications_trust_both_until_they_know_the_new_one() {
    let keys = fresh(day(0));
    let lost = Observed {
        admin: SecretState::Absent,
        ..observed(&keys, &keys.ca, &keys.certificate)
    };
    let order = certificates(&lost, &id(), true, day(1)).unwrap();
    let new = made(&order, day(1));
    assert_eq!(authorities(&new.ca), 2);
    assert!(new.certificate.is_empty(), "nobody could verify one yet");
    let waits = certificates(&observed(&new, &keys.ca, &keys.certificate), &id(), true, day(1)).unwrap();
    assert_eq!(waits, Order::Keep(new.clone()));
    let known = certificates(&observed(&new, &new.ca, &keys.certificate), &id(), true, day(1)).unwrap();
    let served = made(&known, day(1));
    assert_eq!(client(&served.certificate, &new.ca, &id().host(), day(1)), Ok(()));
    // A database that was never made has no clients that trust anything.
    let order = certificates(&lost, &id(), false, day(1)).unwrap();
    assert_eq!(authorities(&made(&order, day(1)).ca), 1);
}

#[test]
fn an_authority_signs_after_its_overlap_and_the_former_one_goes_when_nothing_of_it_is_shown() {
    let old = made(&Order::Server(fresh(day(0))), day(2400));
    let both = made(&Order::Authority(old.clone()), day(2440));
    assert_eq!((authorities(&both.ca), &both.certificate), (2, &old.certificate));
    let order = |keys: &Keys, binding: &str, shown: &str, now| {
        let observed = observed(keys, binding, shown);
        certificates(&observed, &id(), true, day(now)).unwrap()
    };
    let shown = &old.certificate;
    assert_eq!(
        name(Some(&order(&both, &both.ca, shown, 2454))),
        "keep",
        "the overlap"
    );
    assert_eq!(
        name(Some(&order(&both, &old.ca, shown, 2456))),
        "keep",
        "applications lack it"
    );
    let renewed = order(&both, &both.ca, shown, 2456);
    assert_eq!(name(Some(&renewed)), "server");
    let new = made(&renewed, day(2456));
    assert_eq!(
        name(Some(&order(&new, &new.ca, shown, 2457))),
        "keep",
        "clients see the former one"
    );
    let forget = order(&new, &new.ca, &new.certificate, 2457);
    assert_eq!(name(Some(&forget)), "forget");
    let alone = made(&forget, day(2457));
    assert_eq!(authorities(&alone.ca), 1);
    assert_eq!(
        client(&alone.certificate, &alone.ca, &id().host(), day(2457)),
        Ok(())
    );
    assert_eq!(
        order(&alone, &alone.ca, &alone.certificate, 2457),
        Order::Keep(alone.clone())
    );
    assert_eq!(next(&alone.ca, &alone.certificate).work, Work::Server);
}

/// Thirty years, looked at once a week; applications read their Secret every two weeks.
#[test]
fn a_client_that_reads_its_secret_every_two_weeks_verifies_for_thirty_years() {
    let mut keys = fresh(day(0));
    let mut history = vec![keys.ca.clone()];
    let mut shown = keys.certificate.clone();
    let (mut renewals, mut changes) = (0, 0);
    for week in 1..30 * 52 {
        let now = day(7 * week);
        let binding = history.last().unwrap().clone();
        let order = certificates(&observed(&keys, &binding, &shown), &id(), true, now).unwrap();
        renewals += usize::from(matches!(order, Order::Server(_)));
        changes += usize::from(matches!(order, Order::Authority(_)));
        keys = made(&order, now);
        shown.clone_from(&keys.certificate);
        history.push(keys.ca.clone());
        let stale = history.iter().rev().nth(2).or(history.first()).unwrap();
        let verdict = client(&shown, stale, &id().host(), now);
        assert_eq!(verdict, Ok(()), "week {week}, after {renewals} renewals");
    }
    assert_eq!(changes, 4, "authorities that were made");
    assert!((170..190).contains(&renewals), "{renewals} certificates");
}
