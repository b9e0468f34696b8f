//! The volume guard's table: what is expected, what is found, what may be done.

use dbclaim::agent::{DataState, Decision, Found, IdentityFile, decide};
use dbclaim::api::protocol::{Identity, Initialized, MemberConfig, VolumeExpectation};

pub(crate) const TESTS: &[(&str, crate::Pure)] = &[
    ("guard::every_row_of_the_table", every_row_of_the_table),
    (
        "guard::what_has_no_identity_of_ours_is_foreign",
        what_has_no_identity_of_ours_is_foreign,
    ),
    (
        "guard::interruptions_do_not_fill_the_volume",
        interruptions_do_not_fill_the_volume,
    ),
    ("guard::a_block_names_both_sides", a_block_names_both_sides),
    (
        "guard::nothing_but_an_empty_or_interrupted_volume_is_initialised",
        only_empty_is_initialised,
    ),
    (
        "guard::a_member_without_volume_is_blocked",
        a_member_without_volume_is_blocked,
    ),
];

const KNOWN: Option<&str> = Some("7001");

/// An engine, its release series and an older one, and another engine.
#[derive(Clone, Copy, Debug)]
struct Engine {
    name: &'static str,
    major: &'static str,
    older: &'static str,
    other: &'static str,
}

const ENGINES: [Engine; 2] = [
    Engine {
        name: "postgres",
        major: "17",
        older: "16",
        other: "mysql",
    },
    Engine {
        name: "mysql",
        major: "9.7",
        older: "8.4",
        other: "postgres",
    },
];

fn config(engine: Engine, known: Option<&str>) -> MemberConfig {
    MemberConfig {
        v: 1,
        generation: "g".into(),
        engine: engine.name.into(),
        major: engine.major.into(),
        claim: "shop/orders".into(),
        database: "app".into(),
        username: "app".into(),
        extensions: Vec::new(),
        reports: [].into(),
        volumes: [(
            2,
            VolumeExpectation {
                volume_id: "ours".into(),
                system_identifier: known.map(str::to_owned),
            },
        )]
        .into(),
        host: String::new(),
        stop_seconds: 30,
    }
}

fn identity(engine: Engine, initialized: Option<&str>) -> Identity {
    Identity {
        v: 1,
        claim: "shop/orders".into(),
        volume_id: "ours".into(),
        member: 2,
        engine: engine.name.into(),
        major: engine.major.into(),
        database: "app".into(),
        username: "app".into(),
        initialized: initialized.map(|system| Initialized {
            at: "2026-01-01T00:00:00Z".into(),
            system_identifier: system.into(),
        }),
    }
}

fn found(identity: Option<Identity>, data: DataState) -> Found {
    let identity = identity.map_or(IdentityFile::Absent, IdentityFile::Present);
    Found {
        identity,
        data,
        others: Vec::new(),
        strangers: Vec::new(),
        interrupted: 0,
    }
}

fn complete(engine: Engine, system: &str) -> DataState {
    DataState::Complete {
        major: engine.major.into(),
        system_identifier: Some(system.into()),
    }
}

/// A decision in one word.
fn word(engine: Engine, known: Option<&str>, found: &Found) -> String {
    match decide(&config(engine, known), 2, found) {
        Decision::Initialize => "initialise".into(),
        Decision::ResumeInitialize => "resume".into(),
        Decision::Serve(initialized) => format!("serve:{}", initialized.system_identifier),
        Decision::Blocked(trouble) => trouble.reason,
    }
}

fn changed(engine: Engine, initialized: Option<&str>, change: impl FnOnce(&mut Identity)) -> Identity {
    let mut identity = identity(engine, initialized);
    change(&mut identity);
    identity
}

/// What the operator knows (the system identifier), what `identity.json` says (`-` none, `begun` ours and not
/// completed, or the system identifier; a word after `:` names what is not as it should be), what the data
/// directory holds, and what follows.
const TABLE: &str = "
    # no identity on the volume
    -     -             empty     initialise
    7001  -             empty     DataMissing
    -     -             partial   DataForeign
    -     -             7001      DataForeign
    7001  -             partial   DataForeign
    7001  -             7001      DataForeign
    # an initialisation of our own that did not complete
    -     begun         empty     initialise
    -     begun         partial   resume
    -     begun         7001      resume
    7001  begun         empty     DataMissing
    7001  begun         partial   DataIncomplete
    7001  begun         7001      DataIncomplete
    # initialised, and the operator does not know it yet: a crash before the report
    -     7001          7001      serve:7001
    -     7001          empty     DataMissing
    -     7001          partial   DataIncomplete
    -     7001          unread    DataIncomplete
    -     7001          7002      DataForeign
    # initialised, and known
    7001  7001          7001      serve:7001
    7001  7001          empty     DataMissing
    7001  7001          partial   DataIncomplete
    7001  7001          unread    DataIncomplete
    7001  7001          7002      DataForeign
    7001  7002          7002      DataForeign
    7001  7002          7001      DataForeign
    # of another volume, claim or member, where nothing better is known
    -     begun:volume  empty     DataForeign
    -     begun:volume  partial   DataForeign
    -     begun:claim   empty     DataForeign
    -     begun:member  empty     DataForeign
    -     7001:volume   7001      DataForeign
    -     7001:claim    7001      DataForeign
    -     7001:member   7001      DataForeign
    # the system identifier proves more than our labels: restored by a backup tool, moved
    7001  7001:volume   7001      serve:7001
    7001  7001:claim    7001      serve:7001
    7001  7001:volume   empty     DataMissing
    7001  7002:volume   7002      DataForeign
    # another engine, version or name
    -     begun:major   empty     DataOtherVersion
    -     7001:major    empty     DataOtherVersion
    7001  7001:major    empty     DataOtherVersion
    7001  7001:engine   empty     DataOtherVersion
    7001  7001          older     DataOtherVersion
    -     7001          older     DataOtherVersion
    7001  7001:database 7001      DataForeign
    7001  7001:username 7001      DataForeign
";

fn read_identity(engine: Engine, text: &str) -> Option<Identity> {
    let (state, other) = text.split_once(':').unwrap_or((text, ""));
    let initialized = match state {
        "-" => return None,
        "begun" => None,
        system => Some(system),
    };
    Some(changed(engine, initialized, |it| match other {
        "volume" => it.volume_id = "theirs".into(),
        "claim" => it.claim = "dr/orders".into(),
        "member" => it.member = 3,
        "major" => it.major = engine.older.into(),
        "engine" => it.engine = engine.other.into(),
        "database" => it.database = "bills".into(),
        "username" => it.username = "bob".into(),
        other => assert_eq!(other, ""),
    }))
}

fn read_data(engine: Engine, text: &str) -> DataState {
    match text {
        "empty" => DataState::Empty,
        "partial" => DataState::Partial,
        "unread" => DataState::Complete {
            major: engine.major.into(),
            system_identifier: None,
        },
        "older" => DataState::Complete {
            major: engine.older.into(),
            system_identifier: KNOWN.map(str::to_owned),
        },
        system => complete(engine, system),
    }
}

fn every_row_of_the_table() {
    let mut rows = 0;
    let engines = ENGINES.into_iter();
    let lines = engines.flat_map(|engine| TABLE.lines().map(move |line| (engine, line)));
    for (engine, line) in lines
        .map(|(engine, line)| (engine, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let [known, identity, data, expected] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not a row: {line:?}");
        };
        let known = Some(known).filter(|known| *known != "-");
        assert_eq!(
            word(
                engine,
                known,
                &found(read_identity(engine, identity), read_data(engine, data))
            ),
            expected,
            "{engine:?} {line}"
        );
        rows += 1;
    }
    assert_eq!(rows, ENGINES.len() * 43);
}

fn what_has_no_identity_of_ours_is_foreign() {
    let both = |engine| [(engine, None), (engine, KNOWN)];
    for (engine, known) in ENGINES.into_iter().flat_map(both) {
        let mut found = found(None, DataState::Empty);
        found.identity = IdentityFile::Unreadable("line 1".into());
        assert_eq!(word(engine, known, &found), "DataUnreadable");
        for (others, strangers) in [
            (vec![format!("{}/{}", engine.name, engine.older)], vec![]),
            (vec![], vec!["pgdata".into()]),
        ] {
            let foreign = Found {
                identity: IdentityFile::Absent,
                others,
                strangers,
                ..found.clone()
            };
            assert_eq!(word(engine, known, &foreign), "DataForeign", "{foreign:?}");
        }
    }
}

fn interruptions_do_not_fill_the_volume() {
    for engine in ENGINES {
        let mut often = found(Some(identity(engine, None)), DataState::Partial);
        (often.interrupted, often.strangers) = (15, vec!["a file of somebody".into()]);
        assert_eq!(word(engine, None, &often), "resume");
        often.interrupted = 16;
        assert_eq!(word(engine, None, &often), "DataIncomplete");
    }
}

fn a_block_names_both_sides() {
    ENGINES.into_iter().for_each(names_both_sides);
}

fn names_both_sides(engine: Engine) {
    let [ours, older, other] = [
        (engine.name, engine.major),
        (engine.name, engine.older),
        (engine.other, engine.major),
    ]
    .map(|(name, major)| format!("{name} {major}"));
    for (known, identity, data, words) in [
        (None, "7001:volume", "7001", vec!["theirs", "ours"]),
        (None, "7001:claim", "7001", vec!["dr/orders", "shop/orders"]),
        (None, "7001:member", "7001", vec!["member 3", "member 2"]),
        (KNOWN, "7001", "7002", vec!["7001", "7002"]),
        (KNOWN, "7003", "7003", vec!["7001", "7003"]),
        (KNOWN, "7001:major", "empty", vec![&older, &ours]),
        (KNOWN, "7001:engine", "empty", vec![&other, &ours]),
        (KNOWN, "7001:database", "7001", vec!["bills", "app"]),
        (KNOWN, "-", "empty", vec!["7001", "no new database"]),
    ] {
        let found = found(read_identity(engine, identity), read_data(engine, data));
        let Decision::Blocked(trouble) = decide(&config(engine, known), 2, &found) else {
            panic!("{found:?}")
        };
        for word in words {
            assert!(
                trouble.message.contains(word),
                "{word:?} is not in {:?}",
                trouble.message
            );
        }
    }
}

/// Over all combinations: initialising needs a volume that nobody expects anything of, and that holds nothing
/// but perhaps the remains of our own interrupted initialisation.
fn only_empty_is_initialised() {
    ENGINES.into_iter().for_each(only_empty_is_initialised_by);
}

fn only_empty_is_initialised_by(engine: Engine) {
    let data = [
        DataState::Empty,
        DataState::Partial,
        complete(engine, "7001"),
        complete(engine, "7002"),
    ];
    let identities = [
        "-",
        "begun",
        "7001",
        "7002",
        "begun:volume",
        "begun:claim",
        "begun:member",
        "begun:major",
        "begun:database",
    ];
    let identities = identities.map(|it| read_identity(engine, it));
    for known in [None, KNOWN] {
        for identity in &identities {
            for data in &data {
                let found = found(identity.clone(), data.clone());
                let own = identity
                    .as_ref()
                    .is_some_and(|it| *it == self::identity(engine, None));
                let allowed =
                    known.is_none() && (own || identity.is_none() && matches!(data, DataState::Empty));
                let word = word(engine, known, &found);
                assert_eq!(
                    word == "initialise" || word == "resume",
                    allowed,
                    "{known:?} {found:?}: {word}"
                );
            }
        }
    }
}

fn a_member_without_volume_is_blocked() {
    let decision = decide(&config(ENGINES[0], None), 1, &found(None, DataState::Empty));
    assert!(matches!(decision, Decision::Blocked(trouble) if trouble.reason == "ConfigInvalid"));
}
