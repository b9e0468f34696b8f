//! The tables: what is refused, and with which words.

use serde_json::{Value, json};

use super::ABSENT;

/// Spec changes that are refused at creation, with words that the refusal must hold.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn refused_at_creation() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let long = |n| "x".repeat(n);
    vec![
        (
            "engine absent",
            json!({"engine": ABSENT}),
            &["spec.engine", "Required"],
        ),
        ("engine null", json!({"engine": null}), &["spec.engine"]),
        (
            "engine unknown",
            json!({"engine": "oracle"}),
            &["spec.engine", "oracle", "\"postgres\""],
        ),
        (
            "engine of a wrong type",
            json!({"engine": 5}),
            &["spec.engine", "string"],
        ),
        ("size absent", json!({"size": ABSENT}), &["spec.size", "Required"]),
        ("size null", json!({"size": null}), &["spec.size"]),
        (
            "size unknown",
            json!({"size": "huge"}),
            &["spec.size", "huge", "small", "medium", "large"],
        ),
        (
            "size of a wrong type",
            json!({"size": true}),
            &["spec.size", "string"],
        ),
        ("team absent", json!({"team": ABSENT}), &["spec.team", "Required"]),
        ("team null", json!({"team": null}), &["spec.team"]),
        ("team empty", json!({"team": ""}), &["spec.team"]),
        (
            "team no label",
            json!({"team": "Check Out"}),
            &["spec.team", "should match"],
        ),
        (
            "team of a wrong type",
            json!({"team": 1}),
            &["spec.team", "string"],
        ),
        ("team too long", json!({"team": long(64)}), &["spec.team", "63"]),
        (
            "version as a number",
            json!({"version": 17}),
            &["spec.version", "string"],
        ),
        (
            "version no version",
            json!({"version": "latest"}),
            &["spec.version"],
        ),
        (
            "version too long",
            json!({"version": "17.555555555"}),
            &["spec.version"],
        ),
        (
            "version unknown",
            json!({"version": "9.6"}),
            &[
                "spec.version",
                "version \"9.6\" is not one",
                "available are 17 and 18",
            ],
        ),
        (
            "version of PostgreSQL with three numbers",
            json!({"version": "17.5.1"}),
            &["spec.version", "available are 17 and 18"],
        ),
        (
            "version of MySQL with one number",
            json!({"engine": "mysql", "version": "9"}),
            &[
                "spec.version",
                "version \"9\" is not one",
                "available are 8.4 and 9.7",
            ],
        ),
        (
            "version of MySQL unknown",
            json!({"engine": "mysql", "version": "8.0.36"}),
            &["spec.version", "available are 8.4 and 9.7"],
        ),
        (
            "version of the other engine",
            json!({"engine": "mysql", "version": "17"}),
            &["spec.version", "MySQL"],
        ),
        (
            "storage as a number",
            json!({"storage": 10}),
            &["spec.storage", "string"],
        ),
        (
            "storage no quantity",
            json!({"storage": "10 gigs"}),
            &["must be a Kubernetes quantity such as 20Gi"],
        ),
        (
            "storage too small",
            json!({"storage": "100Mi"}),
            &["between 1Gi and 64Ti"],
        ),
        (
            "storage negative",
            json!({"storage": "-5Gi"}),
            &["between 1Gi and 64Ti"],
        ),
        (
            "storage too large",
            json!({"storage": "65Ti"}),
            &["between 1Gi and 64Ti"],
        ),
        (
            "storage too long",
            json!({"storage": format!("{}Gi", "0".repeat(30))}),
            &["spec.storage", "24"],
        ),
        (
            "storageClassName no name",
            json!({"storageClassName": "Fast SSD"}),
            &["spec.storageClassName"],
        ),
        (
            "storageClassName of a wrong type",
            json!({"storageClassName": 1}),
            &["spec.storageClassName", "string"],
        ),
        (
            "storageClassName too long",
            json!({"storageClassName": long(254)}),
            &["spec.storageClassName", "253"],
        ),
        (
            "database no identifier",
            json!({"database": "my-db"}),
            &["spec.database", "should match"],
        ),
        (
            "database reserved",
            json!({"database": "postgres"}),
            &["keeps for itself", "template1"],
        ),
        (
            "database of a wrong type",
            json!({"database": 1}),
            &["spec.database", "string"],
        ),
        (
            "database too long",
            json!({"database": long(33)}),
            &["spec.database", "32"],
        ),
        (
            "username no identifier",
            json!({"username": "Robert'); DROP"}),
            &["spec.username", "should match"],
        ),
        (
            "username reserved",
            json!({"username": "postgres"}),
            &["keeps for itself", "root"],
        ),
        (
            "username reserved by prefix",
            json!({"username": "pg_monitor"}),
            &["begins with pg_"],
        ),
        (
            "username of a wrong type",
            json!({"username": []}),
            &["spec.username", "string"],
        ),
        (
            "username too long",
            json!({"username": long(33)}),
            &["spec.username", "32"],
        ),
        (
            "deletionPolicy unknown",
            json!({"deletionPolicy": "Shred"}),
            &["spec.deletionPolicy", "Retain", "Delete"],
        ),
        (
            "deletionPolicy of a wrong type",
            json!({"deletionPolicy": 0}),
            &["spec.deletionPolicy", "string"],
        ),
        (
            "parameters of a wrong type",
            json!({"parameters": ["work_mem=4MB"]}),
            &["spec.parameters", "object"],
        ),
        (
            "parameters with a number",
            json!({"parameters": {"max_connections": 100}}),
            &["spec.parameters.max_connections", "string"],
        ),
        (
            "parameters with an empty value",
            json!({"parameters": {"work_mem": ""}}),
            &["spec.parameters.work_mem"],
        ),
        (
            "parameters with a value too long",
            json!({"parameters": {"work_mem": long(257)}}),
            &["spec.parameters.work_mem", "256"],
        ),
        (
            "parameters too many",
            json!({"parameters": (0..65).map(|it| (format!("p{it}"), "1")).collect::<std::collections::BTreeMap<_, _>>()}),
            &["spec.parameters", "64"],
        ),
        (
            "extensions of a wrong type",
            json!({"extensions": "pg_trgm"}),
            &["spec.extensions", "array"],
        ),
        (
            "extensions with what is no name",
            json!({"extensions": ["pg_trgm; DROP"]}),
            &["spec.extensions[0]"],
        ),
        (
            "extensions too many",
            json!({"extensions": vec!["a"; 33]}),
            &["spec.extensions", "32"],
        ),
        (
            "hibernated of a wrong type",
            json!({"hibernated": "yes"}),
            &["spec.hibernated", "boolean"],
        ),
        (
            "paused of a wrong type",
            json!({"paused": "yes"}),
            &["spec.paused", "boolean"],
        ),
    ]
}

/// Changes: what the claim had, the merge patch on its spec, and the words of the refusal (none: accepted).
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn changes() -> Vec<(&'static str, Value, Value, &'static [&'static str])> {
    let set = json!({"version": "17.5", "storage": "10Gi", "storageClassName": "fast", "database": "shop",
        "username": "clerk", "deletionPolicy": "Delete", "paused": true});
    let bare = json!({});
    vec![
        ("size changed", bare.clone(), json!({"size": "medium"}), &[]),
        (
            "size removed",
            bare.clone(),
            json!({"size": null}),
            &["spec.size", "Required"],
        ),
        ("team changed", bare.clone(), json!({"team": "billing"}), &[]),
        (
            "team removed",
            bare.clone(),
            json!({"team": null}),
            &["spec.team", "Required"],
        ),
        (
            "engine removed",
            bare.clone(),
            json!({"engine": null}),
            &["spec.engine", "Required"],
        ),
        ("version set", bare.clone(), json!({"version": "17"}), &[]),
        ("version removed", set.clone(), json!({"version": null}), &[]),
        ("version raised", set.clone(), json!({"version": "17.6"}), &[]),
        (
            "version raised by a major",
            set.clone(),
            json!({"version": "18"}),
            &["the series of the version"],
        ),
        (
            "version lowered before it has run",
            set.clone(),
            json!({"version": "17.4"}),
            &[],
        ),
        (
            "version lowered by a major",
            json!({"version": "18"}),
            json!({"version": "17"}),
            &["the series of the version"],
        ),
        (
            "version of MySQL raised",
            json!({"engine": "mysql", "version": "9.7.3"}),
            json!({"version": "9.7.4"}),
            &[],
        ),
        (
            "version of MySQL lowered before it has run",
            json!({"engine": "mysql", "version": "9.7.4"}),
            json!({"version": "9.7.3"}),
            &[],
        ),
        (
            "version of MySQL lowered by a series",
            json!({"engine": "mysql", "version": "9.7.3"}),
            json!({"version": "8.4.9"}),
            &["the series of the version"],
        ),
        (
            "engine changed",
            bare.clone(),
            json!({"engine": "mysql"}),
            &["engine cannot be changed"],
        ),
        ("storage set", bare.clone(), json!({"storage": "10Gi"}), &[]),
        ("storage raised", set.clone(), json!({"storage": "20Gi"}), &[]),
        (
            "storage lowered before there is a volume",
            set.clone(),
            json!({"storage": "9Gi"}),
            &[],
        ),
        (
            "storage spoiled",
            set.clone(),
            json!({"storage": "lots"}),
            &["must be a Kubernetes quantity"],
        ),
        ("storage removed", set.clone(), json!({"storage": null}), &[]),
        (
            "storageClassName set before there is a volume",
            bare.clone(),
            json!({"storageClassName": "fast"}),
            &[],
        ),
        (
            "storageClassName changed before there is a volume",
            set.clone(),
            json!({"storageClassName": "slow"}),
            &[],
        ),
        (
            "storageClassName removed before there is a volume",
            set.clone(),
            json!({"storageClassName": null}),
            &[],
        ),
        (
            "database changed",
            set.clone(),
            json!({"database": "other"}),
            &["database cannot be changed"],
        ),
        (
            "database removed",
            set.clone(),
            json!({"database": null}),
            &["database cannot be changed"],
        ),
        (
            "database set to the default",
            bare.clone(),
            json!({"database": "app"}),
            &[],
        ),
        (
            "username changed",
            set.clone(),
            json!({"username": "other"}),
            &["username cannot be changed"],
        ),
        (
            "username removed",
            set.clone(),
            json!({"username": null}),
            &["username cannot be changed"],
        ),
        (
            "deletionPolicy changed",
            set.clone(),
            json!({"deletionPolicy": "Retain"}),
            &[],
        ),
        (
            "deletionPolicy removed",
            set.clone(),
            json!({"deletionPolicy": null}),
            &[],
        ),
        (
            "extensions set",
            bare.clone(),
            json!({"extensions": ["pg_trgm"]}),
            &[],
        ),
        (
            "extensions removed",
            json!({"extensions": ["pg_trgm"]}),
            json!({"extensions": null}),
            &[],
        ),
        (
            "parameters set",
            bare.clone(),
            json!({"parameters": {"work_mem": "8MB"}}),
            &[],
        ),
        (
            "parameters removed",
            json!({"parameters": {"work_mem": "8MB"}}),
            json!({"parameters": null}),
            &[],
        ),
        (
            "hibernated changed",
            bare.clone(),
            json!({"hibernated": true}),
            &[],
        ),
        (
            "hibernated removed",
            json!({"hibernated": true}),
            json!({"hibernated": null}),
            &[],
        ),
        ("paused changed", set.clone(), json!({"paused": false}), &[]),
        ("paused removed", set, json!({"paused": null}), &[]),
    ]
}
