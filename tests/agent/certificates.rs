//! Certificates: shown from the start, changed without a restart, and never changed for a worse one.

use std::time::Duration;

use dbclaim::certificate::{Keys, fingerprint, first};
use dbclaim::claim::ClaimId;
use dbclaim::issue::{Lifetimes, carry_out};
use dbclaim::plan::Order;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::client::Client;
use crate::engines::Prerequisites;
use crate::member::{Member, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "certificates::a_client_verifies_from_the_start_and_plaintext_is_refused",
        a_client_verifies_from_the_start,
    ),
    (
        "certificates::a_new_one_is_shown_without_a_restart_and_sessions_stay",
        a_new_one_is_shown_without_a_restart,
    ),
    (
        "certificates::a_worse_one_changes_nothing_and_is_named",
        a_worse_one_changes_nothing,
    ),
    (
        "certificates::a_container_starts_with_the_last_good_one",
        a_container_starts_with_the_last_good_one,
    ),
    (
        "certificates::one_that_comes_late_turns_tls_on",
        one_that_comes_late_turns_tls_on,
    ),
];

const PASSWORD: &str = "first p@ss";
const HOST: &str = "orders-db.shop.svc.cluster.local";

fn id(namespace: &str) -> ClaimId {
    ClaimId {
        namespace: namespace.into(),
        name: "orders".into(),
        uid: "u".into(),
    }
}

/// What the operator makes for a claim in this namespace, some hours from now.
fn made(order: &Order, namespace: &str, hours: i64) -> Keys {
    let now = Timestamp::now() + SignedDuration::from_hours(hours);
    carry_out(order, &id(namespace), Lifetimes::default(), now).unwrap()
}

fn fresh() -> Keys {
    made(&Order::Authority(Keys::default()), "shop", 0)
}

/// The Secret with a password of the first generation and a certificate.
fn deliver(member: &mut Member, keys: &Keys) {
    let credentials = json!({"v": 1, "generation": 1, "password": PASSWORD}).to_string();
    let files = [
        ("credentials.json", &*credentials),
        ("ca.crt", &*keys.ca),
        ("tls.crt", &*keys.certificate),
        ("tls.key", &*keys.key),
    ];
    member.swap("credentials", &files);
}

fn shown(keys: &Keys) -> String {
    fingerprint(&first(&keys.certificate).unwrap())
}

/// A member that insists on TLS, with these keys.
fn started(needs: &Prerequisites, keys: &Keys) -> Member {
    let mut member = Member::new(needs);
    member.encrypted = true;
    member.write_config(|_| {}, "");
    deliver(&mut member, keys);
    member.start();
    member.wait_ready();
    wait_verified(&member, keys);
    member
}

fn wait_verified(member: &Member, keys: &Keys) {
    wait(Duration::from_secs(120), "a client verifies", || {
        Client::verified(member, PASSWORD, &keys.ca, HOST)
            .map(drop)
            .map_err(|error| format!("{error}\n{}", member.log()))
    });
}

fn wait_shown(member: &Member, keys: &Keys) {
    member.wait_log(&format!(
        "\"message\":\"certificate\",\"certificate\":\"{}\"",
        shown(keys)
    ));
}

fn a_client_verifies_from_the_start(needs: &Prerequisites) {
    let keys = fresh();
    let member = started(needs, &keys);
    let client = Client::verified(&member, PASSWORD, &keys.ca, HOST).unwrap();
    let dialect = needs.engine.dialect();
    let version = client.sql(dialect.tls_query);
    assert_eq!(version.as_deref(), Ok("TLSv1.3"));
    let refused = Client::connect(&member, PASSWORD).err().unwrap();
    assert!(refused.contains(dialect.plaintext_refused), "{refused}");
    let other = Client::verified(&member, PASSWORD, &keys.ca, "bills-db.shop.svc")
        .err()
        .unwrap();
    assert!(other.contains("NotValidForName"), "{other}");
    let stranger = Client::verified(&member, PASSWORD, &fresh().ca, HOST)
        .err()
        .unwrap();
    assert!(
        stranger.contains("UnknownIssuer") || stranger.contains("BadSignature"),
        "{stranger}"
    );
}

fn a_new_one_is_shown_without_a_restart(needs: &Prerequisites) {
    let keys = fresh();
    let mut member = started(needs, &keys);
    let postmaster = member.postmaster();
    let client = Client::verified(&member, PASSWORD, &keys.ca, HOST).unwrap();
    let (_, waiting, ..) = needs.engine.dialect().waiting;
    member.write_config(|config| config["generation"] = "g2".into(), waiting);
    let read = "\"message\":\"configuration read\",\"generation\":\"g2\"";
    member.wait_log(read);
    let renewed = made(&Order::Server(keys.clone()), "shop", 0);
    deliver(&mut member, &renewed);
    wait_shown(&member, &renewed);
    wait_verified(&member, &keys);
    wait(
        Duration::from_secs(60),
        "the configuration is looked at again",
        || match member.log().matches(read).count() {
            0 | 1 => Err(member.log()),
            _ => Ok(()),
        },
    );
    let waits = member.metric("dbclaim_agent_pending_restart_settings");
    assert_eq!(waits, Some(1.0), "what waits for a restart waits on");
    assert_eq!(
        client.sql("SELECT 1").as_deref(),
        Ok("1"),
        "an open session stays"
    );
    // Another authority beside the first, then a certificate by it.
    let both = made(&Order::Authority(renewed), "shop", 0);
    deliver(&mut member, &both);
    let second = made(&Order::Server(both), "shop", 0);
    deliver(&mut member, &second);
    wait_shown(&member, &second);
    wait_verified(&member, &second);
    assert!(
        Client::verified(&member, PASSWORD, &keys.ca, HOST).is_err(),
        "the former authority alone"
    );
    assert_eq!(
        client.sql("SELECT 1").as_deref(),
        Ok("1"),
        "an open session stays"
    );
    assert_eq!(member.postmaster(), postmaster);
}

fn a_worse_one_changes_nothing(needs: &Prerequisites) {
    let keys = fresh();
    let mut member = started(needs, &keys);
    let other = fresh();
    let worse = |change: fn(&mut Keys, &Keys)| {
        let mut worse = made(&Order::Server(keys.clone()), "shop", 0);
        change(&mut worse, &other);
        worse
    };
    for (given, words) in [
        (
            worse(|it, _| it.certificate = "rubbish".into()),
            "cannot be read as a certificate",
        ),
        (
            worse(|it, _| it.certificate.truncate(300)),
            "cannot be read as a certificate",
        ),
        (
            worse(|it, other| it.key.clone_from(&other.key)),
            "does not belong to the private key",
        ),
        (
            worse(|it, other| it.ca.clone_from(&other.ca)),
            "was not issued by an authority",
        ),
        (
            made(&Order::Server(keys.clone()), "shop", -91 * 24),
            "has expired",
        ),
        (made(&Order::Server(keys.clone()), "shop", 48), "is not valid yet"),
        (
            made(&Order::Server(keys.clone()), "other", 0),
            "is not for the name orders-db.shop.svc.cluster.local",
        ),
    ] {
        deliver(&mut member, &given);
        member.wait_log(words);
        wait_verified(&member, &keys);
    }
    let good = made(&Order::Server(keys.clone()), "shop", 0);
    deliver(&mut member, &good);
    wait_shown(&member, &good);
    wait_verified(&member, &keys);
}

fn a_container_starts_with_the_last_good_one(needs: &Prerequisites) {
    let keys = fresh();
    let mut member = started(needs, &keys);
    let spoiled = Keys {
        certificate: String::new(),
        ..keys.clone()
    };
    deliver(&mut member, &spoiled);
    member.stop();
    member.start();
    member.wait_ready();
    wait_verified(&member, &keys);
}

fn one_that_comes_late_turns_tls_on(needs: &Prerequisites) {
    let keys = fresh();
    let mut member = Member::new(needs);
    member.encrypted = true;
    member.write_config(|_| {}, "");
    member.start();
    member.wait_ready();
    let postmaster = member.postmaster();
    assert!(Client::verified(&member, PASSWORD, &keys.ca, HOST).is_err());
    deliver(&mut member, &keys);
    wait_verified(&member, &keys);
    assert_eq!(member.postmaster(), postmaster);
}
