//! What the operator's own program says while a claim becomes Ready: logs at their loudest, metrics, traces at a
//! receiver, Events and status. All of it is sound, and the claim's password is in none of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dbclaim::api::v1::DatabaseClaim;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::cluster::Suite;
use crate::exposition::{self, Exposition};
use crate::scene::wait_ready;
use crate::stage;

const DEADLINE: Duration = Duration::from_secs(60);

/// The operator's program, as a user starts it.
struct Operator {
    child: Child,
    log: tokio::task::JoinHandle<String>,
    listen: SocketAddr,
}

impl Operator {
    async fn start(suite: &Suite, namespace: &str, receiver: SocketAddr) -> Self {
        // Free a moment ago; nobody else on this machine asks for just this one.
        let listen = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_dbclaim"))
            .env("KUBECONFIG", suite.kubeconfig())
            .env("DBCLAIM_AGENT_IMAGE", "agent.invalid/dbclaim:1")
            .env("DBCLAIM_NAMESPACE", namespace)
            .env("DBCLAIM_LISTEN", listen.to_string())
            .env("DBCLAIM_LOG", "trace,kube_client=trace,kube_client::client=trace")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{receiver}"))
            .env("OTEL_SERVICE_NAME", "claims")
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
            // So that most of it arrives only if it is flushed at the end.
            .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = tokio::spawn(async move {
            let mut log = String::new();
            stderr.read_to_string(&mut log).await.unwrap();
            log
        });
        Self { child, log, listen }
    }

    async fn metrics(&self) -> String {
        let stream = TcpStream::connect(self.listen).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let ask = async move {
            let request = http::Request::get("/metrics")
                .header("host", "operator")
                .body(Empty::<Bytes>::new());
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        let (page, _) = tokio::join!(ask, connection);
        String::from_utf8(page.to_vec()).unwrap()
    }

    /// Ends it by SIGTERM; what it logged.
    async fn stop(mut self) -> String {
        let id = Pid::from_raw(self.child.id().expect("it runs").try_into().unwrap());
        kill(id, Signal::SIGTERM).unwrap();
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        let ended = ended.expect("the operator ends after SIGTERM").unwrap();
        let log = self.log.await.unwrap();
        assert!(
            ended.success(),
            "{ended}: {}",
            &log[log.len().saturating_sub(2000)..]
        );
        log
    }
}

/// A receiver for OTLP over HTTP that keeps what it is sent.
#[derive(Default)]
struct Receiver {
    bodies: Mutex<Vec<Bytes>>,
}

impl Receiver {
    async fn start() -> (Arc<Self>, SocketAddr, tokio::task::AbortHandle) {
        let receiver = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = receiver.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = hyper::service::service_fn(move |request| {
                    let kept = kept.clone();
                    async move { kept.take(request).await }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        (receiver, address, serving.abort_handle())
    }

    async fn take(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
        let right = request.uri().path() == "/v1/traces"
            && request.headers()["content-type"] == "application/x-protobuf";
        let body = request.into_body().collect().await?.to_bytes();
        self.bodies.lock().unwrap().push(body);
        let mut response = http::Response::new(Full::default());
        if !right {
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
        }
        Ok(response)
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let bodies = self.bodies.lock().unwrap();
        bodies
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(body.clone()).expect("OTLP"))
            .collect()
    }
}

/// Forms in which a password could show: as it is, and in base64 at each of the three places where it can begin
/// in a longer text.
fn forms(password: &str) -> Vec<String> {
    let shifted = (0..3).map(|shift| {
        let whole = BASE64.encode(format!("{}{password}", "x".repeat(shift)));
        // The letters at the ends depend on what is around.
        whole[(shift * 8).div_ceil(6)..whole.len() - 4].to_owned()
    });
    shifted.chain([password.to_owned()]).collect()
}

/// From nothing to Ready.
pub async fn a_claim_on_its_way_to_ready_is_seen_everywhere_and_its_password_nowhere(suite: &Suite) {
    exposition::is_strict();
    stage::set_stage(suite).await;
    let namespace = suite.namespace("telemetry").await;
    let (receiver, address, receiving) = Receiver::start().await;
    let operator = Operator::start(suite, &namespace, address).await;
    let claims: Api<DatabaseClaim> = Api::namespaced(suite.client.clone(), &namespace);
    let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
        "metadata": {"name": "orders"},
        "spec": {"engine": "postgres", "size": "small", "team": "checkout", "deletionPolicy": "Retain"}});
    let claim = serde_json::from_value(claim).unwrap();
    claims.create(&PostParams::default(), &claim).await.unwrap();
    let node = stage::play_node(suite.client.clone(), &namespace);
    let (shown, secrets, status) = tokio::select! {
        seen = through_trouble(suite, &namespace, &claims, &operator) => seen,
        () = node => unreachable!("the node never ends"),
    };
    let password = &secrets[0].data.as_ref().unwrap()["password"].0;
    let password = String::from_utf8(password.clone()).unwrap();
    claims.delete("orders", &DeleteParams::default()).await.unwrap();
    wait_for_page(&operator, |page| page.sum("dbclaim_claims", &[]) == 0.0).await;
    let log = operator.stop().await;
    receiving.abort();
    let events: Api<Event> = Api::namespaced(suite.client.clone(), &namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    let events = serde_json::to_string(&events).unwrap();

    metrics_tell(&shown, &namespace);
    log_tells(&log, &namespace);
    traces_tell(&receiver.requests(), &namespace);
    let forms = forms(&password);
    let traces: Vec<u8> = receiver.bodies.lock().unwrap().concat();
    let traces = String::from_utf8_lossy(&traces).into_owned();
    for (place, text) in [
        ("log", &log),
        ("status", &status),
        ("Events", &events),
        ("metrics", &shown),
        ("traces", &traces),
    ] {
        assert!(!text.is_empty(), "nothing was captured of the {place}");
        for form in &forms {
            assert!(!text.contains(form), "the password is in the {place}, as {form}");
        }
    }
    // And the search finds what it looks for where it is.
    let kept = serde_json::to_string(&secrets).unwrap();
    assert!(
        forms[..3].iter().any(|form| kept.contains(form)),
        "the search finds nothing in the Secrets"
    );
}

/// To Ready, and then into trouble with the very Secret that holds the password. Returns the metrics at Ready, the
/// Secrets, and the claim in both states.
async fn through_trouble(
    suite: &Suite,
    namespace: &str,
    claims: &Api<DatabaseClaim>,
    operator: &Operator,
) -> (String, [Secret; 2], String) {
    wait_ready(claims).await.expect("the claim becomes Ready");
    let shown = wait_for_page(operator, |page| {
        page.sum("dbclaim_claims", &[("phase", "Ready")]) > 0.0
    })
    .await;
    let ready = claims.get("orders").await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(suite.client.clone(), namespace);
    let kept = [
        secrets.get("orders-db-app").await.unwrap(),
        secrets.get("orders-db-admin").await.unwrap(),
    ];
    // Cut short, so that it cannot be read, with the password still in it.
    let whole = String::from_utf8(kept[1].data.as_ref().unwrap()["credentials.json"].0.clone()).unwrap();
    let cut = BASE64.encode(whole.trim_end_matches('}'));
    let broken = json!({"data": {"credentials.json": cut}});
    secrets
        .patch("orders-db-admin", &PatchParams::default(), &Patch::Merge(broken))
        .await
        .unwrap();
    // Without its marker the Secret is read again.
    let markers: Api<ConfigMap> = Api::namespaced(suite.client.clone(), namespace);
    markers
        .delete("orders-db-admin", &DeleteParams::default())
        .await
        .unwrap();
    let unreadable = |claim: Option<&DatabaseClaim>| {
        let conditions = claim
            .and_then(|it| it.status.as_ref())
            .map(|it| it.conditions.as_slice());
        conditions
            .unwrap_or_default()
            .iter()
            .any(|it| it.reason == "SecretUnreadable")
    };
    let wait = kube::runtime::wait::await_condition(claims.clone(), "orders", unreadable);
    let troubled = tokio::time::timeout(DEADLINE, wait)
        .await
        .expect("the trouble is named")
        .unwrap();
    (shown, kept, serde_json::to_string(&(ready, troubled)).unwrap())
}

/// Scrapes until the page says something; every page on the way is sound.
async fn wait_for_page(operator: &Operator, says: impl Fn(&Exposition) -> bool) -> String {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut last = String::new();
    let wait = async {
        loop {
            ticks.tick().await;
            last = operator.metrics().await;
            let page = Exposition::parse(&last).unwrap_or_else(|error| panic!("{error}\n{last}"));
            if says(&page) {
                break;
            }
        }
    };
    let done = tokio::time::timeout(DEADLINE, wait).await;
    assert!(done.is_ok(), "the metrics never said so; last:\n{last}");
    last
}

fn metrics_tell(text: &str, namespace: &str) {
    let page = Exposition::parse(text).unwrap();
    for (name, labels, least) in [
        ("dbclaim_reconcile_duration_seconds_count", &[][..], 2.0),
        ("dbclaim_claims", &[("phase", "Ready")], 1.0),
        ("dbclaim_watches_synced", &[], 9.0),
        (
            "dbclaim_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        ),
        ("process_resident_memory_bytes", &[], 1e6),
        ("process_start_time_seconds", &[], 1.7e9),
        (
            "dbclaim_api_requests_total",
            &[("verb", "create"), ("kind", "Secret"), ("code", "201")],
            2.0,
        ),
        (
            "dbclaim_api_requests_total",
            &[("verb", "watch"), ("kind", "Pod"), ("code", "200")],
            1.0,
        ),
        (
            "dbclaim_api_requests_total",
            &[("verb", "list"), ("kind", "Pod"), ("code", "200")],
            1.0,
        ),
        (
            "dbclaim_api_requests_total",
            &[("verb", "apply"), ("kind", "DatabaseClaim"), ("code", "200")],
            2.0,
        ),
        (
            "dbclaim_api_request_duration_seconds_count",
            &[("verb", "create")],
            5.0,
        ),
    ] {
        assert!(
            page.sum(name, labels) >= least,
            "{name} {labels:?} is less than {least} in\n{text}"
        );
    }
    for name in [
        "dbclaim_reconcile_errors_total",
        "dbclaim_leader",
        "dbclaim_reconcile_queue_depth",
    ] {
        assert!(page.0.contains_key(name), "{name} is missing in\n{text}");
    }
    assert!(page.sum("dbclaim_reconcile_in_progress", &[]) <= 1.0, "{text}");
    assert!(
        !text.contains(namespace) && !text.contains("orders"),
        "a label names a claim:\n{text}"
    );
}

fn log_tells(log: &str, namespace: &str) {
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}")))
        .collect();
    let told = |message: &str| {
        let line = lines.iter().find(|it| it["message"] == message);
        line.unwrap_or_else(|| panic!("no line says {message:?}"))
    };
    for (message, in_pass) in [
        ("the claim is accepted", true),
        ("the database is ready", true),
        ("written", true),
        ("the claim has trouble", true),
        ("the claim is deleted", false),
    ] {
        let line = told(message);
        assert_eq!(
            (&line["claim"], &line["namespace"]),
            (&json!("orders"), &json!(namespace)),
            "{line}"
        );
        let id = line["reconcile_id"].as_str().unwrap_or_default();
        assert_eq!(id.len() == 8, in_pass, "{line}");
        for key in ["timestamp", "level", "target"] {
            assert!(line[key].is_string(), "no {key} in {line}");
        }
    }
    let ids: std::collections::BTreeSet<_> = lines
        .iter()
        .filter_map(|it| it["reconcile_id"].as_str())
        .collect();
    assert!(ids.len() > 1, "passes have one id: {ids:?}");
    // The canary means nothing if what is loudest was not listened to.
    let levels =
        ["TRACE", "DEBUG", "INFO"].map(|level| lines.iter().filter(|it| it["level"] == level).count());
    assert!(
        levels.iter().all(|count| *count > 0),
        "lines by level: {levels:?}"
    );
    println!("lines at trace, debug, info: {levels:?}");
}

fn traces_tell(requests: &[ExportTraceServiceRequest], namespace: &str) {
    let resources: Vec<_> = requests.iter().flat_map(|it| &it.resource_spans).collect();
    let resource = text(
        &resources
            .first()
            .expect("traces")
            .resource
            .as_ref()
            .unwrap()
            .attributes,
    );
    assert_eq!(resource["service.name"], "claims");
    assert_eq!(resource["deployment.environment.name"], "test");
    let spans: Vec<&Span> = resources
        .iter()
        .flat_map(|it| &it.scope_spans)
        .flat_map(|it| &it.spans)
        .collect();
    assert!(
        spans
            .iter()
            .all(|it| it.trace_id.len() == 16 && it.span_id.len() == 8),
        "ids have other sizes"
    );
    assert!(
        spans
            .iter()
            .all(|it| 0 < it.start_time_unix_nano && it.start_time_unix_nano <= it.end_time_unix_nano)
    );
    passes_tell(&spans, namespace);
}

/// A pass with the steps of each of its waves, and its requests below them.
fn passes_tell(spans: &[&Span], namespace: &str) {
    let children = |parent: &Span| -> Vec<&Span> {
        let of = |it: &&&Span| it.parent_span_id == parent.span_id && it.trace_id == parent.trace_id;
        spans.iter().filter(of).copied().collect()
    };
    let named = |spans: &[&Span], name: &str| spans.iter().filter(|it| it.name == name).count();
    let first = spans
        .iter()
        .filter(|it| it.name == "pass")
        .min_by_key(|it| it.start_time_unix_nano);
    let first = first.expect("a span of a pass");
    assert!(first.parent_span_id.is_empty(), "a pass is a root");
    let attributes = text(&first.attributes);
    assert_eq!(
        (attributes["claim"].as_str(), attributes["namespace"].as_str()),
        ("orders", namespace)
    );
    let steps = children(first);
    let waves = named(&steps, "observe");
    assert!(waves > 0, "{steps:?}");
    for name in ["observe", "plan", "apply", "status"] {
        assert_eq!(
            named(&steps, name),
            waves,
            "{name} among {:?}",
            steps.iter().map(|it| &it.name).collect::<Vec<_>>()
        );
    }
    let first = steps.iter().filter(|it| it.name == "apply");
    let apply = first.min_by_key(|it| it.start_time_unix_nano).unwrap();
    let writes = children(apply);
    assert!(
        writes.len() > 5 && named(&writes, "request") == writes.len(),
        "{writes:?}"
    );
    let write = text(&writes[0].attributes);
    assert_eq!(
        (
            write["k8s.verb"].as_str(),
            write["http.response.status_code"].as_str()
        ),
        ("create", "201")
    );
    assert_eq!(writes[0].kind, 3, "a request is a client's span");
}

fn text(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |any: &Any| match any {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |it: &KeyValue| Some((it.key.clone(), value(it.value.as_ref()?.value.as_ref()?)));
    attributes.iter().filter_map(pair).collect()
}
