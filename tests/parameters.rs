//! Parameters of the engines: what a claim may say reaches the engine's file whole, and nothing else does.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking; the linter does not see that helpers are part of tests"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dbclaim::claim::quantity::Bytes;
use dbclaim::engine::Engine;
use proptest::prelude::*;

const MEMORY: Bytes = Bytes(512 * Bytes::MIB);

/// Engines and the file that holds their parameters.
const ENGINES: [(Engine, &str); 2] = [(Engine::Postgres, "postgresql.conf"), (Engine::Mysql, "my.cnf")];

fn refused(name: &str, value: &str) -> String {
    let rule = Engine::Postgres.refuses(name, value, MEMORY);
    rule.unwrap_or_else(|| panic!("{name} = {value:?} is let through"))
}

#[test]
fn what_endangers_data_or_the_operator_is_refused_with_the_rule() {
    for (name, word) in [
        ("fsync", "what is committed must be safe"),
        ("synchronous_commit", "what is committed must be safe"),
        ("full_page_writes", "what is committed must be safe"),
        ("wal_level", "replication and backups"),
        ("archive_command", "replication and backups"),
        ("listen_addresses", "the operator's"),
        ("shared_preload_libraries", "the operator's"),
        ("ssl_ca_file", "the operator's"),
        ("data_directory", "the operator's"),
        ("include", "the operator's"),
        ("no_such_thing", "docs/parameters.md"),
        ("work_mem\nfsync", "docs/parameters.md"),
    ] {
        let rule = refused(name, "off");
        assert!(rule.contains(word), "{name}: {rule}");
    }
}

#[test]
fn a_value_of_another_kind_is_refused_with_what_it_must_be() {
    for (name, value, word) in [
        ("work_mem", "lots", "an amount from 64kB to"),
        ("work_mem", "16MB'\nfsync = 'off", "an amount"),
        ("work_mem", "1GB", "at most 512Mi"),
        ("shared_buffers", "400MB", "at most"),
        ("jit", "maybe", "on or off"),
        ("max_connections", "1", "a whole number from 20 to 5000"),
        ("plan_cache_mode", "fast", "one of auto"),
    ] {
        let rule = refused(name, value);
        assert!(rule.contains(word), "{name}: {rule}");
    }
}

/// The lines of a file, as names and values.
fn lines(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (name, value) = line.split_once(" = ").unwrap();
        (name.to_owned(), value.trim_matches('\'').to_owned())
    };
    let settings = text.lines().filter(|line| *line != "[mysqld]");
    settings.map(line).collect()
}

#[test]
fn a_parameter_stands_in_the_file_once_and_nothing_else_changes() {
    for (engine, file) in ENGINES {
        let before = lines(&engine.config_files(MEMORY, &BTreeMap::new(), &[], false)[file]);
        let name = engine.parameters()[0].name;
        let asked = BTreeMap::from([(name.to_owned(), "9".to_owned())]);
        let text = engine.config_files(MEMORY, &asked, &[], false)[file].clone();
        assert_eq!(text.matches(&format!("\n{name} = ")).count(), 1, "{text}");
        let mut expected = before;
        expected.extend(asked);
        assert_eq!(lines(&text), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    /// Half of the names are real, and values are made of what matters in a configuration file.
    #[test]
    fn no_name_and_no_value_brings_a_second_setting_in(
        known in any::<prop::sample::Index>(),
        real in any::<bool>(),
        other in ".{0,24}",
        value in prop_oneof!["[-0-9a-zA-Z'\"\\\\=#\n\r ]{0,24}", ".{0,24}", "-?[0-9]{1,9}(\\.[0-9])?(kB|MB|ms|s)?"],
    ) {
        for (engine, file) in ENGINES {
            let name = if real { known.get(engine.parameters()).name } else { &other };
            if engine.refuses(name, &value, MEMORY).is_some() {
                continue;
            }
            let mut expected = lines(&engine.config_files(MEMORY, &BTreeMap::new(), &[], false)[file]);
            let asked = BTreeMap::from([(name.to_owned(), value.clone())]);
            let found = lines(&engine.config_files(MEMORY, &asked, &[], false)[file]);
            expected.extend(asked);
            prop_assert_eq!(found, expected);
        }
    }
}

/// `docs/parameters.md` is what the tables say. `UPDATE_DOCS=1 cargo test --test parameters` writes it.
#[test]
fn the_documented_list_is_fresh() {
    let mut text = String::from(
        "# Parameters\n\nWhat a claim may set in `spec.parameters`. Everything else is refused with the reason. \
         The engine's own documentation says what each one does.\n",
    );
    for (engine, _) in ENGINES {
        write!(
            text,
            "\n## {}\n\n| parameter | takes |\n|---|---|\n",
            engine.name()
        )
        .unwrap();
        for parameter in engine.parameters() {
            writeln!(text, "| `{}` | {} |", parameter.name, parameter.takes).unwrap();
        }
        let extensions = match engine.extensions() {
            [] => "none; a claim that asks for one is refused".to_owned(),
            some => some.join(", "),
        };
        writeln!(text, "\nExtensions (`spec.extensions`): {extensions}.").unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/parameters.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == text,
        "docs/parameters.md is stale: UPDATE_DOCS=1 cargo test --test parameters"
    );
}

/// The examples that people copy are right, and say every field that can be changed.
#[test]
fn the_examples_are_valid_claims() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let mut claim: dbclaim::api::v1::DatabaseClaim =
            serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        claim.metadata.namespace = Some("shop".into());
        claim.metadata.uid = Some("claim-1".into());
        let id = dbclaim::validate::identify(&claim).unwrap();
        let references = dbclaim::validate::References::default();
        let resolved = dbclaim::validate::validate(&id, &claim.spec, &references);
        assert!(resolved.is_ok(), "{}: {resolved:?}", path.display());
    }
}
