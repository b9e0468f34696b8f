//! Passwords: one is made once, goes to the agent first, and reaches applications when the database knows it.
//! What is missing, empty or unreadable never changes one.

use dbclaim::api::protocol::Credentials;
use dbclaim::plan::credentials;
use dbclaim::plan::observed::{Observed, Ownership, SecretState};
use dbclaim::render::Slot;
use insta::assert_snapshot;

use crate::cluster::{Cluster, Reads, password};

fn owned(state: &SecretState) -> Option<String> {
    password(state).map(str::to_owned)
}

/// What somebody's edit leaves of a Secret.
fn spoil(state: &mut SecretState) {
    let SecretState::Present {
        credentials, applied, ..
    } = state
    else {
        panic!("there is none")
    };
    *credentials = None;
    *applied = None;
}

#[test]
fn a_deleted_binding_secret_comes_back_with_the_same_password() {
    let mut cluster = Cluster::ready();
    let before = owned(&cluster.app);
    cluster.remove(Slot::AppSecret);
    cluster.controllers();
    assert_snapshot!(cluster.pass().text(), @r"
    create AppSecret
    again at once
    ");
    cluster.settle();
    assert_eq!(owned(&cluster.app), before);
}

#[test]
fn an_edited_binding_secret_is_written_again_at_the_next_resync() {
    let mut cluster = Cluster::ready();
    let before = owned(&cluster.app);
    spoil(&mut cluster.app);
    cluster.reads = Reads::Always;
    assert_snapshot!(cluster.pass().text(), @"apply AppSecret");
    cluster.settle();
    assert_eq!(owned(&cluster.app), before);
}

#[test]
fn a_deleted_admin_secret_makes_a_new_password_that_reaches_applications_when_it_is_in_force() {
    let mut cluster = Cluster::ready();
    let before = owned(&cluster.app);
    cluster.remove(Slot::AdminSecret);
    cluster.controllers();
    assert_snapshot!(cluster.pass().text(), @r"
    create AdminSecret
    again at once
    again in 5s
    ");
    cluster.settle();
    assert_ne!(owned(&cluster.admin), before);
    assert_eq!(owned(&cluster.app), before, "the database knows the old one only");
    assert_snapshot!(cluster.pass().text(), @"again in 5s");
    cluster.agent();
    assert_snapshot!(cluster.pass().text(), @"apply AppSecret");
    cluster.settle();
    assert_eq!(owned(&cluster.app), owned(&cluster.admin));
    cluster.agent();
    cluster.settle();
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn a_new_password_reaches_applications_also_when_the_garbage_collector_is_late() {
    let mut cluster = Cluster::ready();
    cluster.remove(Slot::AdminSecret);
    cluster.reads = Reads::Always;
    cluster.settle();
    cluster.reads = Reads::WhereAMarkerIsMissing;
    cluster.controllers();
    cluster.live();
    assert_eq!(owned(&cluster.app), owned(&cluster.admin));
}

#[test]
fn both_secrets_deleted_make_a_new_password() {
    let mut cluster = Cluster::ready();
    let before = owned(&cluster.app);
    cluster.remove(Slot::AdminSecret);
    cluster.remove(Slot::AppSecret);
    cluster.controllers();
    cluster.settle();
    assert_eq!(cluster.app, SecretState::Absent);
    cluster.live();
    assert_eq!(owned(&cluster.app), owned(&cluster.admin));
    assert_ne!(owned(&cluster.app), before);
}

#[test]
fn an_unreadable_admin_secret_is_left_alone_and_so_is_the_binding_secret() {
    let mut cluster = Cluster::ready();
    spoil(&mut cluster.admin);
    cluster.reads = Reads::Always;
    let blocked = "blocked CredentialsReady: SecretUnreadable\nagain in 30s";
    assert_eq!(cluster.pass().text(), blocked);
    // No rush either, though applications have none now: a pass that writes nothing asks for no other.
    cluster.remove(Slot::AppSecret);
    cluster.controllers();
    assert_eq!(cluster.pass().text(), blocked);
}

#[test]
fn a_secret_on_its_way_out_is_waited_for() {
    let mut cluster = Cluster::ready();
    cluster.reads = Reads::Always;
    for state in [&mut cluster.admin, &mut cluster.app] {
        let SecretState::Present {
            deleting, applied, ..
        } = state
        else {
            panic!("there is none")
        };
        *deleting = true;
        *applied = None;
    }
    assert_snapshot!(cluster.pass().text(), @"nothing");
}

#[test]
fn without_randomness_no_secret_is_made_and_nobody_rushes() {
    let mut cluster = Cluster::new();
    cluster.random = false;
    cluster.settle();
    assert_eq!(
        (&cluster.admin, &cluster.app),
        (&SecretState::Absent, &SecretState::Absent)
    );
    cluster.random = true;
    cluster.live();
    assert_eq!(owned(&cluster.app), owned(&cluster.admin));
    assert!(owned(&cluster.app).is_some());
}

#[test]
fn a_new_claim_gets_its_secrets_and_markers_without_a_read() {
    let mut cluster = Cluster::new();
    cluster.reads = Reads::Untried;
    let pass = cluster.pass();
    assert!(pass.plan.again, "the markers need the UIDs");
    assert!(pass.plan.outlives_the_claim());
    assert_snapshot!(pass.text(), @"
    create Volume Service MembersService Config Report ServiceAccount Role
    create in this order: AppSecret AdminSecret
    again at once
    ");
    cluster.carry_out(&pass.plan);
    cluster.reads = Reads::Made;
    let pass = cluster.pass();
    assert_snapshot!(pass.text(), @"create RoleBinding StatefulSet AdminMarker AppMarker");
    cluster.carry_out(&pass.plan);
    cluster.reads = Reads::Always;
    assert_snapshot!(cluster.pass().text(), @"nothing");
    assert_eq!(owned(&cluster.app), owned(&cluster.admin));
}

#[test]
fn a_secret_that_was_there_before_its_claim_is_found_by_the_refused_post_and_keeps_its_password() {
    for left in [Slot::AdminSecret, Slot::AppSecret] {
        let mut former = Cluster::ready();
        former.remove(Slot::AdminSecret);
        former.remove(Slot::AppSecret);
        former.controllers();
        former.live();
        let mut cluster = Cluster::new();
        *cluster.secret(left).unwrap() = former.secret(left).unwrap().clone();
        let before = owned(cluster.secret(left).unwrap());
        cluster.reads = Reads::Untried;
        cluster.carry_out(&cluster.pass().plan);
        assert_eq!(
            owned(cluster.secret(left).unwrap()),
            before,
            "{left:?}: not overwritten"
        );
        if left == Slot::AppSecret {
            assert_eq!(
                cluster.admin,
                SecretState::Absent,
                "no other password is made beside it"
            );
        }
        cluster.reads = Reads::WhereAMarkerIsMissing;
        cluster.live();
        assert_eq!(owned(&cluster.admin), before, "{left:?}");
        assert_eq!(owned(&cluster.app), before, "{left:?}");
    }
}

/// What is in the two Secrets, whether the database has data, and the password that is rendered from it.
const TABLE: &str = "
    admin       binding     data   password
    a           b           no     a
    a           none        yes    a
    unreadable  b           no     -
    unreadable  none        yes    -
    unread      unread      no     -
    unread      b           yes    -
    none        b           no     b
    none        b           yes    fresh
    none        unreadable  no     fresh
    none        none        no     fresh
    none        none        yes    fresh
";

#[test]
fn what_is_rendered_comes_from_what_is_there() {
    let of = |password: &str| Credentials {
        v: 1,
        generation: 7,
        password: password.into(),
        ..Credentials::default()
    };
    let state = |text: &str| match text {
        "none" => SecretState::Absent,
        "unread" => SecretState::Unread,
        text => SecretState::Present {
            uid: "u".into(),
            ownership: Ownership::Ours,
            credentials: (text != "unreadable").then(|| of(text)),
            deleting: false,
            applied: None,
            keys: Box::default(),
        },
    };
    for row in TABLE.trim().lines().skip(1) {
        let [admin, app, data, expected] = row.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let observed = Observed {
            admin: state(admin),
            app: state(app),
            ..Observed::default()
        };
        let claim = Cluster::ready().pass().resolved.unwrap();
        let found = credentials(&claim, &observed, Some(of("fresh")), data == "yes");
        let found = found.map_or("-".to_owned(), |it| it.password);
        assert_eq!(found, expected, "{row}");
    }
}
