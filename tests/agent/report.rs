//! Reports over real TLS, to a server that answers as it is told.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dbclaim::api::protocol::{MemberPhase, Report};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::engines::Prerequisites;
use crate::member::{Member, wait};

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "report::a_report_is_sent_when_something_changed_and_only_then",
        only_changes_are_sent,
    ),
    (
        "report::an_api_server_that_refuses_disturbs_nothing",
        an_api_server_that_refuses_disturbs_nothing,
    ),
    (
        "report::a_server_of_another_ca_is_told_nothing",
        a_server_of_another_ca_is_told_nothing,
    ),
    (
        "report::what_is_in_force_is_reported",
        what_is_in_force_is_reported,
    ),
];

/// One request: its head, and the report in it.
#[derive(Clone, Debug)]
struct Received {
    head: String,
    report: Report,
}

/// An API server of one resource.
struct Server {
    _runtime: tokio::runtime::Runtime,
    port: u16,
    ca: String,
    /// Status of the answers.
    status: Arc<Mutex<u16>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    fn start() -> Self {
        let (ca, acceptor) = tls();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, received) = (Arc::new(Mutex::new(200)), Arc::new(Mutex::new(Vec::new())));
        let (answers, requests) = (status.clone(), received.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let Some(request) = read(&mut stream).await else {
                    continue;
                };
                let status = *answers.lock().unwrap();
                requests.lock().unwrap().push(request);
                let body = r#"{"kind":"Status","message":"not today"}"#;
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self {
            _runtime: runtime,
            port,
            ca,
            status,
            received,
        }
    }

    fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    fn last(&self) -> Option<Report> {
        self.received().last().map(|received| received.report.clone())
    }

    /// Waits for a report, as the newest one.
    fn wait(&self, what: &str, is_it: impl Fn(&Report) -> bool) {
        wait(Duration::from_secs(180), what, || match self.last() {
            Some(report) if is_it(&report) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// A member that reports here.
    fn member(&self, needs: &Prerequisites) -> Member {
        let mut member = Member::new(needs);
        for (name, text) in [
            ("ca.crt", &*self.ca),
            ("token", "first-token"),
            ("namespace", "shop"),
        ] {
            fs::write(member.root.join("etc/dbclaim/api").join(name), text).unwrap();
        }
        member.environment = vec![
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1".into()),
            ("KUBERNETES_SERVICE_PORT_HTTPS", self.port.to_string()),
        ];
        member
    }
}

fn tls() -> (String, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (ca.pem(), TlsAcceptor::from(Arc::new(config)))
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))?
                .parse::<usize>()
                .ok()?;
            if body.len() >= length {
                let patch: serde_json::Value = serde_json::from_str(body).ok()?;
                let report = patch["metadata"]["annotations"]["platform.acme.com/report"].as_str()?;
                return Some(Received {
                    head: head.to_owned(),
                    report: serde_json::from_str(report).ok()?,
                });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn only_changes_are_sent(needs: &Prerequisites) {
    let server = Server::start();
    let mut member = server.member(needs);
    member.start();
    server.wait("a report that it runs", |report| {
        report.phase == MemberPhase::Running
    });
    says_all_there_is(&server, &member);

    // Nothing happens: what comes next is the answer to the operator's call, once, with the token of today.
    let before = server.received().len();
    fs::write(member.root.join("etc/dbclaim/api/token"), "second-token\n").unwrap();
    fs::write(
        member.root.join("etc/dbclaim/pod/annotations"),
        "platform.acme.com/wanted=\"2\"\n",
    )
    .unwrap();
    wait(
        Duration::from_secs(20),
        "a report for the operator's call",
        || {
            let count = server.received().len() - before;
            if count == 1 {
                Ok(())
            } else {
                Err(format!("{count} reports"))
            }
        },
    );
    assert!(
        server
            .received()
            .pop()
            .unwrap()
            .head
            .contains("authorization: Bearer second-token\r\n")
    );
    for pair in server.received().windows(2) {
        let called = !pair[0].head.contains("second-token") && pair[1].head.contains("second-token");
        assert!(
            called || pair[0].report != pair[1].report,
            "the same report twice: {:?}",
            pair[0].report
        );
    }
}

fn what_is_in_force_is_reported(needs: &Prerequisites) {
    let server = Server::start();
    let mut member = server.member(needs);
    member.start();
    server.wait("a report that it runs", |report| {
        report.phase == MemberPhase::Running
    });
    member.write_config(
        |config| config["generation"] = "g2".into(),
        "max_connections = 77",
    );
    server.wait("the new configuration", |report| {
        report.applied.config == "g2" && report.pending_restart == ["max_connections"]
    });
    member.write_config(
        |config| config["generation"] = "g3".into(),
        "max_connections = 77\nnonsense = 1",
    );
    server.wait("what is wrong with it", |report| {
        let trouble = report
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.message.contains("nonsense"));
        trouble && report.applied.config == "g2" && report.phase == MemberPhase::Running
    });
    member.write_credentials(r#"{"v":1,"generation":3,"password":"third"}"#);
    server.wait("the new password", |report| report.applied.credentials == 3);
    member.stop();
    server.wait("the stop", |report| report.phase == MemberPhase::Stopping);
}

/// The newest report of a new member.
fn says_all_there_is(server: &Server, member: &Member) {
    let Received { head, report } = server.received().pop().unwrap();
    let target =
        "PATCH /api/v1/namespaces/shop/configmaps/orders-db-1-report?fieldManager=dbclaim-agent HTTP/1.1";
    assert_eq!(head.lines().next(), Some(target));
    assert!(head.contains("authorization: Bearer first-token\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/merge-patch+json\r\n"),
        "{head}"
    );
    assert_eq!(
        report.initialized.unwrap().system_identifier,
        member.identity()["initialized"]["systemIdentifier"]
    );
    assert_eq!((&*report.applied.config, report.applied.credentials), ("g1", 1));
    assert_eq!(report.write_test.map(|test| test.ok), Some(true));
    assert_eq!((report.trouble, &*report.pod_uid), (None, "pod-3"));
    assert!(
        report
            .version
            .unwrap()
            .starts_with(&format!("{}.", member.needs.major))
    );
}

fn an_api_server_that_refuses_disturbs_nothing(needs: &Prerequisites) {
    let server = Server::start();
    server.answer(403);
    let mut member = server.member(needs);
    member.start();
    member.wait_log("the API server answered 403: not today");
    member.wait_ready();
    let postmaster = member.postmaster();
    server.answer(200);
    server.wait("a report that it runs", |report| {
        report.phase == MemberPhase::Running
    });
    assert!(member.metric("dbclaim_agent_report_failures_total") >= Some(1.0));
    assert_eq!(member.postmaster(), postmaster);
    assert_eq!(
        member.log().matches("answered 403").count(),
        1,
        "said once, not at every try"
    );
}

fn a_server_of_another_ca_is_told_nothing(needs: &Prerequisites) {
    let (server, other) = (Server::start(), Server::start());
    let mut member = server.member(needs);
    fs::write(member.root.join("etc/dbclaim/api/ca.crt"), &other.ca).unwrap();
    member.start();
    member.wait_log("invalid peer certificate");
    member.wait_ready();
    assert!(server.received().is_empty());
    // CAs rotate: the file is read anew at each try.
    fs::write(member.root.join("etc/dbclaim/api/ca.crt"), &server.ca).unwrap();
    server.wait("a report that it runs", |report| {
        report.phase == MemberPhase::Running
    });
}
