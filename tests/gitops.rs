//! The health check for Argo CD that the documentation shows, run by the Lua of Argo CD.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use devcluster::{Progress, programs};
use serde_json::{Value, json};

/// A state, a claim in it, what Argo CD should call that, and words of the message.
type Row = (&'static str, Value, &'static str, &'static str);

fn condition(kind: &str, status: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "message": message})
}

/// A claim of generation 2.
fn claim(spec: &Value, status: &Value) -> Value {
    json!({"metadata": {"generation": 2}, "spec": spec, "status": status})
}

fn seen(phase: &str, conditions: &[Value]) -> Value {
    let status = json!({"observedGeneration": 2, "phase": phase, "conditions": conditions});
    claim(&json!({"paused": false}), &status)
}

fn not_seen_yet() -> Vec<Row> {
    let new = json!({"metadata": {"generation": 1}, "spec": {}});
    let bare = claim(&json!({}), &json!({"observedGeneration": 2}));
    let mut outdated = seen("Ready", &[condition("Ready", "True", "serves")]);
    outdated["status"]["observedGeneration"] = 1.into();
    let rows = [("new", new), ("without conditions", bare), ("changed", outdated)];
    rows.map(|(name, claim)| (name, claim, "Progressing", "not seen"))
        .into()
}

fn by_conditions() -> Vec<Row> {
    let (yes, no) = ("True", "False");
    let starting = [
        condition("Stalled", no, "-"),
        condition("Ready", no, "is starting"),
    ];
    let serving = [condition("Ready", yes, "serves")];
    let stalled = [
        condition("Ready", no, "-"),
        condition("Stalled", yes, "choose a name"),
    ];
    let both = [
        condition("Ready", yes, "serves"),
        condition("Stalled", yes, "quota"),
    ];
    let (mut paused, mut going) = (seen("Ready", &serving), seen("Ready", &serving));
    paused["spec"]["paused"] = true.into();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    vec![
        (
            "starting",
            seen("Provisioning", &starting),
            "Progressing",
            "is starting",
        ),
        ("serving", seen("Ready", &serving), "Healthy", "serves"),
        (
            "not serving any more",
            seen("Degraded", &starting),
            "Degraded",
            "is starting",
        ),
        ("stalled", seen("Failed", &stalled), "Degraded", "choose a name"),
        (
            "serving and stalled",
            seen("Updating", &both),
            "Degraded",
            "quota",
        ),
        ("paused", paused, "Suspended", "paused"),
        ("going", going, "Progressing", "being deleted"),
    ]
}

#[tokio::test]
async fn argo_cd_calls_a_claim_what_it_is() {
    let glua = match programs::tool("glua", Progress::Silent).await {
        Err(programs::Error::NoGo { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: the Lua of Argo CD is built with Go, which is not there");
            return;
        }
        found => found.unwrap(),
    };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gitops.md");
    let page = std::fs::read_to_string(page).unwrap();
    let check = page
        .split("```lua\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    for (name, claim, health, words) in [not_seen_yet(), by_conditions()].concat() {
        let said = run(
            &glua,
            &format!(
                "local function check(obj)\n{check}\nend\nlocal hs = check({})\nprint(hs.status)\nprint(hs.message)",
                lua(&claim)
            ),
        );
        let (status, message) = said.split_once('\n').unwrap();
        assert_eq!(status, health, "{name}: {message}");
        assert!(message.contains(words), "{name}: {words:?} is not in: {message}");
    }
}

fn run(glua: &PathBuf, script: &str) -> String {
    let file = std::env::temp_dir().join(format!("dbclaim-{}-health.lua", std::process::id()));
    std::fs::write(&file, script).unwrap();
    let output = Command::new(glua).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// A value as Lua writes it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("[{key:?}] = {}", lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}
