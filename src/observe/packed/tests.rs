//! What is packed comes back as it was, whatever it was, and the ordinary takes little.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::KIND;
use crate::api::protocol::{
    Applied, Identity, Initialized, MemberPhase, Report, TlsReport, Trouble, WriteTest,
};
use crate::claim::quantity::Bytes;
use crate::observe::shapes::Shape;
use crate::plan::observed::{ContainerTrouble, Detail, Growth, LastEnd, Pod, Volume, Workload};

const CLAIM: &str = "orders";
const KINDS: [Kind; 10] = [
    Kind::StatefulSet,
    Kind::PersistentVolumeClaim,
    Kind::Service,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::ServiceAccount,
    Kind::Role,
    Kind::RoleBinding,
    Kind::Pod,
    Kind::EndpointSlice,
];

/// A text as the cluster has it, and any other.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        "[0-9a-f]{16}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-fA-F-]{36}",
        "[0-9]{0,20}",
        "-db-[a-z0-9-]{0,9}",
        ".{0,20}",
        select(vec!["", "\"\\\u{0}\u{7f}ü\u{10ffff}", "orders-db-1"]).prop_map(str::to_owned),
        Just("no space left on device; ".repeat(300)),
    ]
    .boxed()
}

fn maybe<S: Strategy>(of: S) -> impl Strategy<Value = Option<S::Value>> {
    prop::option::of(of)
}

fn time() -> impl Strategy<Value = jiff::Timestamp> {
    let seconds = jiff::Timestamp::MIN.as_second()..jiff::Timestamp::MAX.as_second();
    (seconds, 0..1_000_000_000).prop_map(|(seconds, nanoseconds)| {
        jiff::Timestamp::new(seconds, nanoseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    })
}

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    maybe(any::<u64>().prop_map(Bytes))
}

fn initialized() -> impl Strategy<Value = Option<Initialized>> {
    maybe((text(), text()).prop_map(|(at, system_identifier)| Initialized {
        at,
        system_identifier,
    }))
}

fn workload() -> impl Strategy<Value = Workload> {
    let texts = (maybe(text()), maybe(text()), maybe(text()));
    (texts, any::<bool>(), any::<bool>()).prop_map(|((restart_hash, asked, revision), taken_up, stopped)| {
        Workload {
            restart_hash,
            asked,
            taken_up,
            revision,
            stopped,
        }
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    let texts = (text(), text(), text(), text(), text(), text());
    (texts, any::<u32>(), any::<u32>(), initialized()).prop_map(|(texts, v, member, initialized)| {
        let (claim, volume_id, engine, major, database, username) = texts;
        Identity {
            v,
            claim,
            volume_id,
            member,
            engine,
            major,
            database,
            username,
            initialized,
        }
    })
}

fn growth() -> impl Strategy<Value = Box<Growth>> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (flags, maybe((text(), text()))).prop_map(|((taken_up, on_node, infeasible), failure)| {
        Box::new(Growth {
            taken_up,
            on_node,
            infeasible,
            failure,
        })
    })
}

fn volume() -> impl Strategy<Value = Volume> {
    let fields = (maybe(identity()), any::<bool>(), bytes(), bytes());
    (fields, maybe(text()), maybe(growth()), any::<bool>()).prop_map(
        |((identity, bound, requested, capacity), storage_class, growth, never_bound)| Volume {
            identity,
            bound,
            requested,
            capacity,
            storage_class,
            growth,
            never_bound,
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let trouble =
        (text(), text(), text(), text()).prop_map(|(container, image, reason, message)| ContainerTrouble {
            container,
            image,
            reason,
            message,
        });
    let end = (text(), text(), time()).prop_map(|(container, reason, at)| LastEnd {
        container,
        reason,
        at,
    });
    let hashes = (maybe(text()), maybe(text()), maybe(text()), maybe(text()));
    let words = (maybe(text()), maybe(text()), maybe(text()));
    let size = (bytes(), bytes());
    let flags = (any::<bool>(), any::<bool>());
    (
        hashes,
        words,
        size,
        flags,
        maybe(trouble),
        maybe(end),
        (maybe(time()), prop::collection::vec(text(), 0..3)),
    )
        .prop_map(
            |(
                hashes,
                words,
                (requested_memory, memory),
                (ready, node_silent),
                trouble,
                last_end,
                (gone_by, other_containers),
            )| {
                let (restart_hash, asked, revision, wanted) = hashes;
                let (resize_pending, unschedulable, node) = words;
                Pod {
                    ready,
                    restart_hash,
                    asked,
                    revision,
                    wanted,
                    requested_memory,
                    memory,
                    resize_pending,
                    unschedulable,
                    trouble,
                    node,
                    last_end,
                    node_silent,
                    gone_by,
                    other_containers,
                }
            },
        )
}

fn tls() -> impl Strategy<Value = TlsReport> {
    let fields = (text(), text(), any::<bool>(), maybe(text()), maybe(text()));
    fields.prop_map(|(certificate, ca, verified, trouble, due)| TlsReport {
        certificate,
        ca,
        verified,
        trouble,
        due,
    })
}

fn report() -> impl Strategy<Value = Report> {
    let phase = select(vec![
        MemberPhase::Starting,
        MemberPhase::Running,
        MemberPhase::Blocked,
    ]);
    let trouble = || (text(), text()).prop_map(|(reason, message)| Trouble { reason, message });
    let applied =
        (text(), any::<u64>(), maybe(time())).prop_map(|(config, credentials, previous_until)| Applied {
            config,
            credentials,
            previous_until,
        });
    let test = (any::<bool>(), maybe(text())).prop_map(|(ok, message)| WriteTest { ok, message });
    let first = (any::<u32>(), text(), text(), phase, maybe(trouble()));
    let second = (
        maybe(text()),
        initialized(),
        applied,
        prop::collection::vec(text(), 0..3),
    );
    let third = (
        maybe(test),
        maybe(tls()),
        maybe(any::<u8>()),
        maybe(trouble()),
        maybe(text()),
    );
    (first, second, third).prop_map(|(first, second, third)| {
        let (v, agent, pod_uid, phase, trouble) = first;
        let (version, initialized, applied, pending_restart) = second;
        let (write_test, tls, disk_percent, access, password_set_back) = third;
        Report {
            v,
            agent,
            pod_uid,
            phase,
            trouble,
            version,
            initialized,
            applied,
            pending_restart,
            write_test,
            access,
            password_set_back,
            tls,
            disk_percent,
        }
    })
}

fn detail() -> impl Strategy<Value = Detail> {
    prop_oneof![
        Just(Detail::None),
        workload().prop_map(Detail::StatefulSet).boxed(),
        volume().prop_map(|it| Detail::Volume(Box::new(it))).boxed(),
        pod().prop_map(|it| Detail::Pod(Box::new(it))).boxed(),
        maybe(report())
            .prop_map(|it| Detail::Report(it.map(Box::new)))
            .boxed(),
        text().prop_map(|secret_uid| Detail::Marker { secret_uid }),
        (text(), any::<bool>()).prop_map(|(service, ready)| Detail::Endpoints { service, ready }),
    ]
}

/// An object. A few owners and teams are shared by several.
fn seen() -> impl Strategy<Value = Seen> {
    let name = prop_oneof![
        "-db(-[a-z0-9]{1,3})?".prop_map(|it| format!("{CLAIM}{it}")),
        text().prop_map(|it| format!("{CLAIM}{it}")),
        text(),
    ];
    let uid = |digit: &str| format!("6f1b6c6e-0a3f-4a52-9d7e-3c1f5d0c9a1{digit}");
    let owner = |kind: &str, uid| (kind.to_owned(), CLAIM.to_owned(), uid);
    let controller = prop_oneof![
        3 => select(vec![owner(KIND, uid("1")), owner(KIND, uid("2")), owner("Secret", uid("1"))]),
        1 => (text(), text(), text()),
        1 => (Just(KIND.to_owned()), Just(CLAIM.to_owned()), text()),
    ];
    let team = prop_oneof![
        3 => select(vec!["checkout", "shipping"]).prop_map(str::to_owned),
        1 => text()
    ];
    let first = (select(KINDS.to_vec()), name, text(), text(), any::<bool>());
    let second = (
        maybe(controller),
        any::<bool>(),
        maybe(text()),
        maybe(team),
        any::<u64>(),
    );
    (first, second, detail()).prop_map(|(first, second, detail)| {
        let (kind, name, uid, resource_version, labelled) = first;
        let (controller, deleting, applied, team, fingerprint) = second;
        Seen {
            kind,
            namespace: "shop".into(),
            name,
            uid,
            resource_version,
            claim: Some(CLAIM.into()),
            labelled,
            controller,
            deleting,
            applied,
            team,
            fingerprint,
            detail,
        }
    })
}

fn other_containers(shapes: &Shapes) -> Beside<'_> {
    Beside {
        namespace: "shop",
        claim: CLAIM,
        shapes,
    }
}

/// Shapes, and no room for others.
fn full() -> Shapes {
    let mut shapes = Shapes::default();
    let many = (0..).map(|fingerprint| Shape {
        kind: Kind::Secret,
        labelled: false,
        fingerprint,
        suffix: None,
        controller: None,
    });
    many.map_while(|it| shapes.number(it).ok()).for_each(drop);
    shapes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_object_comes_back_as_it_was(
        steps in prop::collection::vec((seen(), 0..6_usize, prop::bool::weighted(0.2)), 1..9),
        crowded in any::<bool>(),
    ) {
        let mut shapes = if crowded { full() } else { Shapes::default() };
        let mut objects = Objects::default();
        let mut expected: Vec<Seen> = Vec::new();
        for (seen, place, goes) in steps {
            let known = expected.get(place).cloned();
            if let (Some(known), true) = (known.clone(), goes) {
                let uid = Text::from(known.uid.as_str());
                prop_assert!(objects.remove(known.kind, &uid, &shapes));
                prop_assert!(!objects.remove(known.kind, &uid, &shapes));
                expected.retain(|it| it.kind != known.kind || it.uid != known.uid);
            } else {
                let at = known.is_some().then_some(place);
                let is_news = objects.put(at, seen.clone(), CLAIM, &mut shapes);
                prop_assert_eq!(is_news, known.is_none_or(|it| it != seen));
                // Another version alone is none, as long as versions are numbers.
                let other = Seen { resource_version: "7".to_owned(), ..seen.clone() };
                let number = seen.resource_version.parse::<u64>().map(|it| it.to_string());
                let at = Some(at.unwrap_or(expected.len()));
                let is_news = objects.put(at, other, CLAIM, &mut shapes);
                prop_assert_eq!(is_news, number.as_ref() != Ok(&seen.resource_version));
                objects.put(at, seen.clone(), CLAIM, &mut shapes);
                match expected.get_mut(place) {
                    Some(known) => *known = seen,
                    None => expected.push(seen),
                }
            }
            prop_assert_eq!(&objects.all(other_containers(&shapes)), &expected);
            prop_assert_eq!(objects.is_empty(), expected.is_empty());
        }
        let identities: Vec<_> = objects.identities(&shapes).collect();
        for (place, (seen, identity)) in expected.iter().zip(identities).enumerate() {
            prop_assert_eq!(objects.get(place, other_containers(&shapes)), Some(seen.clone()));
            prop_assert_eq!(identity, (seen.kind, Text::from(seen.uid.as_str())));
            let first = expected.iter().position(|it| it.kind == seen.kind && it.name == seen.name);
            prop_assert_eq!(objects.place(seen.kind, &seen.name, other_containers(&shapes)), first);
        }
    }
}

/// An object as those are that a claim has made.
fn ordinary(kind: Kind, name: &str, uid: &str, detail: Detail) -> Seen {
    Seen {
        kind,
        namespace: "shop".into(),
        name: name.into(),
        uid: uid.into(),
        resource_version: "123456".into(),
        claim: Some(CLAIM.into()),
        labelled: true,
        controller: Some((
            KIND.into(),
            CLAIM.into(),
            "6f1b6c6e-0a3f-4a52-9d7e-3c1f5d0c9a11".into(),
        )),
        deleting: false,
        applied: Some("0123456789abcdef".into()),
        team: Some("checkout".into()),
        fingerprint: 7,
        detail,
    }
}

fn size(objects: &Objects) -> usize {
    objects.0.len()
}

#[test]
fn an_ordinary_object_takes_little() {
    let mut shapes = Shapes::default();
    let mut objects = Objects::default();
    let account = ordinary(
        Kind::ServiceAccount,
        "orders-db",
        "9d0c9a4b-3c1f-4d52-a07e-6f1b6c6e0a3f",
        Detail::None,
    );
    objects.put(None, account.clone(), CLAIM, &mut shapes);
    let alone = size(&objects);
    objects.put(
        None,
        Seen {
            kind: Kind::Role,
            ..account.clone()
        },
        CLAIM,
        &mut shapes,
    );
    assert!(size(&objects) - alone <= 30, "{} {alone}", size(&objects));
    let before = size(&objects);
    let owner = (
        "Secret".to_owned(),
        "orders-db-admin".to_owned(),
        account.uid.clone(),
    );
    let secret_uid = account.uid.clone();
    let marker = Seen {
        kind: Kind::ConfigMap,
        controller: Some(owner),
        detail: Detail::Marker { secret_uid },
        ..account
    };
    objects.put(None, marker, CLAIM, &mut shapes);
    assert!(size(&objects) - before <= 100, "{} {before}", size(&objects));
    assert!(size_of::<Objects>() <= 16);
}

#[test]
fn what_all_objects_share_is_kept_once_after_a_change_too() {
    let mut shapes = Shapes::default();
    let mut objects = Objects::default();
    let uid = |digit: usize| format!("9d0c9a4b-3c1f-4d52-a07e-6f1b6c6e0a3{digit}");
    let all: Vec<_> = (0..8)
        .map(|it| ordinary(Kind::Service, &format!("orders-db-{it}"), &uid(it), Detail::None))
        .collect();
    for seen in &all {
        objects.put(None, seen.clone(), CLAIM, &mut shapes);
    }
    let before = size(&objects);
    for (place, seen) in all.into_iter().enumerate() {
        let team = Some("shipping".to_owned());
        objects.put(Some(place), Seen { team, ..seen }, CLAIM, &mut shapes);
    }
    assert_eq!(size(&objects), before);
}
