//! Brings the report to the API server: one short connection per change, none in between.
//!
//! That the API server is away never disturbs the database; the newest report is tried again with growing
//! pauses. Everything about the server is read anew at each attempt: tokens and CAs rotate.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustix::rand::{GetRandomFlags, getrandom};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Context, report};
use crate::agent::command::Settings;
use crate::agent::files::Mounted;
use crate::api::manager;
use crate::api::protocol::{MemberPhase, Report};

/// How long a passing phase is given to pass before it is worth a report.
const PASSING: Duration = Duration::from_secs(1);
/// How often the Pod's annotations are looked at.
const PERIOD: Duration = Duration::from_secs(1);
const ATTEMPT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A report did not arrive.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("member.json names no report ConfigMap for this member")]
    Nowhere,
    #[error("cannot read {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the mounted ca.crt or the server's address cannot be used: {0}")]
    Trust(String),
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error("cannot send the report: {0}")]
    Send(String),
    #[error("the API server answered {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("no answer within {} s", ATTEMPT.as_secs())]
    Timeout,
}

/// Reports until cancelled.
pub(super) async fn run(context: Arc<Context>) {
    if context.settings.api_host.is_none() {
        tracing::warn!("no KUBERNETES_SERVICE_HOST, nothing is reported");
        return;
    }
    let mut files = Mounted::new(&context.settings.root());
    let mut reports = context.board.subscribe();
    let mut accepted: Option<Report> = None;
    let (mut pause, mut told) = (FIRST_PAUSE, String::new());
    loop {
        if accepted.as_ref() == Some(&*reports.borrow_and_update()) {
            let _ = tokio::time::timeout(PERIOD, reports.changed()).await;
            // The operator calls: its copy may be gone. Where it is not, the server sees no change.
            if files.annotations.refresh() {
                accepted = None;
            }
            continue;
        }
        let _ = tokio::time::timeout(PASSING, reports.wait_for(|report| !passing(report))).await;
        let report = reports.borrow_and_update().clone();
        let sent = tokio::time::timeout(ATTEMPT, send(&context.settings, &mut files, &report)).await;
        match sent.unwrap_or(Err(Error::Timeout)) {
            Ok(()) => {
                accepted = Some(report);
                (pause, told) = (FIRST_PAUSE, String::new());
            }
            Err(error) => {
                context.counters.report_failures.fetch_add(1, Ordering::Relaxed);
                let error = error.to_string();
                if error != told {
                    tracing::warn!(error, "report not accepted, trying again");
                    told = error;
                }
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn passing(report: &Report) -> bool {
    let phases = [
        MemberPhase::Starting,
        MemberPhase::Initializing,
        MemberPhase::Recovering,
    ];
    report.trouble.is_none() && phases.contains(&report.phase)
}

async fn send(settings: &Settings, files: &mut Mounted, report: &Report) -> Result<(), Error> {
    files.member.refresh();
    let name = files
        .member
        .get()
        .and_then(|config| config.reports.get(&settings.member))
        .ok_or(Error::Nowhere)?;
    let host = settings.api_host.clone().unwrap_or_default();
    let namespace = match read(settings, "namespace") {
        Ok(namespace) => namespace,
        Err(_) if !settings.pod_namespace.is_empty() => settings.pod_namespace.clone(),
        Err(error) => return Err(error),
    };
    let authority = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let body = report::patch(report).map_err(|error| Error::Send(error.to_string()))?;
    let request = Request::patch(format!(
        "/api/v1/namespaces/{}/configmaps/{name}?fieldManager={}",
        namespace.trim(),
        manager::AGENT
    ))
    .header(header::HOST, format!("{authority}:{}", settings.api_port))
    .header(
        header::AUTHORIZATION,
        format!("Bearer {}", read(settings, "token")?.trim()),
    )
    .header(header::CONTENT_TYPE, "application/merge-patch+json")
    .header(
        header::USER_AGENT,
        concat!("dbclaim-agent/", env!("CARGO_PKG_VERSION")),
    )
    .body(Full::new(Bytes::from(body)))
    .map_err(|error| Error::Send(error.to_string()))?;
    exchange(settings, host, request).await
}

async fn exchange(settings: &Settings, host: String, request: Request<Full<Bytes>>) -> Result<(), Error> {
    let connector = TlsConnector::from(Arc::new(trust(settings)?));
    let name = ServerName::try_from(host.clone()).map_err(|error| Error::Trust(error.to_string()))?;
    let port = settings.api_port;
    let stream = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) => TcpStream::connect((host.as_str(), port)).await,
    };
    let stream = stream.map_err(|source| Error::Connect {
        host: host.clone(),
        port,
        source,
    })?;
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|source| Error::Connect { host, port, source })?;
    let sent = |error: hyper::Error| Error::Send(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(sent)?;
    let conversation = async move {
        let response = sender.send_request(request).await.map_err(sent)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(response.into_body(), 16 * 1024).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(Error::Refused {
            status: status.as_u16(),
            message: message(&body),
        })
    };
    tokio::pin!(connection, conversation);
    tokio::select! {
        outcome = &mut conversation => outcome,
        // The server may close before the answer has been read out of the buffer.
        _ = &mut connection => conversation.await,
    }
}

/// TLS settings that trust the cluster's CA and nothing else.
fn trust(settings: &Settings) -> Result<ClientConfig, Error> {
    let unusable = |error: String| Error::Trust(error);
    let ca = read(settings, "ca.crt")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn read(settings: &Settings, name: &str) -> Result<String, Error> {
    let path = settings.root().api().join(name);
    fs::read_to_string(&path).map_err(|source| Error::Read { path, source })
}

/// The sentence in a `Status`, or the beginning of whatever was sent.
fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Status {
        message: String,
    }
    match serde_json::from_slice::<Status>(body) {
        Ok(status) => status.message,
        Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

/// Somewhere between three and five quarters: after an outage not all agents come at the same moment.
fn jittered(pause: Duration) -> Duration {
    let mut random = [128_u8; 1];
    let _ = getrandom(&mut random, GetRandomFlags::empty());
    let [random] = random;
    pause * 3 / 4 + pause * u32::from(random) / 512
}
