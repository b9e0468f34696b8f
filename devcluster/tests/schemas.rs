//! What the chart renders, and what users are shown to apply, is what Kubernetes understands: by kubeconform with the
//! schemas of the API server that the tests run (nothing is downloaded), and by that API server itself.

#![expect(clippy::indexing_slicing, reason = "of JSON, where what is not there is null")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use devcluster::{Cluster, Options, Progress, programs};
use http::Request;
use serde_json::{Value, json};

const NAMESPACE: &str = "dbclaim-system";

#[tokio::test]
async fn kubernetes_understands_what_the_chart_renders_and_the_examples() -> Result<()> {
    let cluster = Cluster::start(Options::default()).await?;
    let outcome = validate(&cluster).await;
    cluster.stop().await?;
    outcome
}

async fn validate(cluster: &Cluster) -> Result<()> {
    let helm = programs::tool("helm", Progress::Silent).await?;
    let kubeconform = programs::tool("kubeconform", Progress::Silent).await?;
    let schemas = cluster.dir().join("schemas");
    write_schemas(&openapi(cluster).await?, &schemas)?;
    let judge = |manifests: &str| {
        let location = format!(
            "{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
            schemas.display()
        );
        run(
            Command::new(&kubeconform).args(["-strict", "-summary", "-schema-location", &location]),
            manifests,
        )
    };
    let kubectl = |arguments: &[&str], manifests: &str| {
        let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig().display());
        run(
            Command::new(cluster.program("kubectl"))
                .arg(kubeconfig)
                .args(arguments),
            manifests,
        )
    };
    let dry_run = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    succeeds(&kubectl(&["create", "namespace", NAMESPACE], "")?)?;
    for values in [json!({}), every_value()] {
        let manifests = render(&helm, &values)?;
        succeeds(&judge(&manifests)?)?;
        succeeds(&kubectl(&dry_run, &manifests)?)?;
    }
    let wrong =
        render(&helm, &json!({}))?.replace("terminationGracePeriodSeconds", "terminationGraceSeconds");
    let said = judge(&wrong)?;
    let words = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(
        !said.status.success() && words.contains("terminationGraceSeconds"),
        "a field that does not exist is found: {words}"
    );
    let definition = fs::read_to_string(root().join("crds/databaseclaims.platform.acme.com.yaml"))?;
    succeeds(&kubectl(&["apply", "--server-side", "-f", "-"], &definition)?)?;
    succeeds(&kubectl(
        &["wait", "--for=condition=Established", "-f", "-"],
        &definition,
    )?)?;
    for entry in fs::read_dir(root().join("examples"))? {
        let path = entry?.path();
        let outcome = kubectl(&dry_run, &fs::read_to_string(&path)?)?;
        succeeds(&outcome).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Each value of the chart with something else than its default.
fn every_value() -> Value {
    json!({
        "image": {"repository": "registry.example.com/dbclaim", "tag": "1", "pullPolicy": "Always",
            "digest": format!("sha256:{}", "0".repeat(64))},
        "replicas": 3,
        "imagePullSecrets": ["pull"],
        "agent": {"image": "registry.example.com/agent:1", "pullSecrets": ["pull", "other"]},
        "log": {"level": "info,dbclaim=debug", "format": "text"},
        "crds": {"keep": false},
        "serviceAccount": {"name": "operator", "annotations": {"example.com/role": "r"}},
        "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
        "podLabels": {"example.com/a": "b"},
        "podAnnotations": {"example.com/c": "d"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"example.com/pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}},
    })
}

fn render(helm: &Path, values: &Value) -> Result<String> {
    let mut command = Command::new(helm);
    command
        .args(["template", "dbclaim"])
        .arg(root().join("charts/dbclaim"))
        .args([
            "--kube-version",
            "1.36.0",
            "--namespace",
            NAMESPACE,
            "--values",
            "-",
        ]);
    let output = run(&mut command, &values.to_string())?;
    succeeds(&output)?;
    Ok(String::from_utf8(output.stdout)?)
}

fn run(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let (mut standard_input, input) = (child.stdin.take().context("no input")?, input.to_owned());
    let writer = std::thread::spawn(move || standard_input.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // Who does not read to the end says why himself.
    drop(writer.join());
    Ok(output)
}

fn succeeds(output: &Output) -> Result<()> {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

async fn openapi(cluster: &Cluster) -> Result<Value> {
    let request = Request::get("/openapi/v2").header("Accept", "application/json");
    Ok(cluster.client()?.request(request.body(Vec::new())?).await?)
}

/// One file per kind, with all that it refers to, as kubeconform looks for it.
fn write_schemas(openapi: &Value, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let definitions = openapi["definitions"].as_object().context("no definitions")?;
    let strict: BTreeMap<_, _> = definitions
        .iter()
        .map(|(name, definition)| (name.as_str(), strict(name, definition)))
        .collect();
    for (name, definition) in definitions {
        for kind in definition["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
            let group = text("group")
                .split('.')
                .next()
                .map(str::to_owned)
                .unwrap_or_default();
            let group = if group.is_empty() {
                group
            } else {
                format!("-{group}")
            };
            let file = format!("{}{group}-{}.json", text("kind"), text("version"));
            let mut used = serde_json::Map::new();
            collect(name, &strict, &mut used);
            let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#",
                "$ref": format!("#/definitions/{name}"), "definitions": used});
            fs::write(folder.join(file), schema.to_string())?;
        }
    }
    Ok(())
}

/// A definition that knows all of its fields. Numbers may stand where the API server turns them into strings.
fn strict(name: &str, definition: &Value) -> Value {
    let mut definition = definition.clone();
    if definition.get("properties").is_some() && definition.get("additionalProperties").is_none() {
        definition["additionalProperties"] = false.into();
    }
    if name.ends_with(".Quantity") || name.ends_with(".IntOrString") {
        definition["type"] = json!(["string", "number"]);
    }
    definition
}

fn collect(name: &str, all: &BTreeMap<&str, Value>, used: &mut serde_json::Map<String, Value>) {
    if let Some(definition) = all.get(name).filter(|_| !used.contains_key(name)) {
        used.insert(name.to_owned(), definition.clone());
        let text = definition.to_string();
        let references = text.split("#/definitions/").skip(1);
        references
            .filter_map(|rest| rest.split('"').next())
            .for_each(|other| collect(other, all, used));
    }
}
