//! The certificate that clients get to see: the one that was delivered, as soon as that is any good; until then
//! the one before. What is broken, expired or for other names is said and changes nothing.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::life::now;
use crate::agent::engine::{Engine, EngineError};
use crate::agent::files::Certificate;
use crate::agent::process::Process;
use crate::api::protocol::{TlsReport, path};
use crate::certificate::{self, Flaw};

/// How long the engine may take to show another certificate after it was told to.
const TAKES: Duration = Duration::from_secs(5);

/// Brings the newest good certificate to the clients, and says what they get to see; also whether the engine was
/// made to read its files again.
pub(super) async fn certify(
    engine: &Engine,
    process: &Process,
    given: Option<&Certificate>,
    problem: Option<&str>,
    host: &str,
) -> Result<(TlsReport, bool), EngineError> {
    let mut shown = engine.shown().await?;
    let Some(given) = given else {
        let shown = shown.as_deref().map(certificate::fingerprint).unwrap_or_default();
        let report = TlsReport {
            certificate: shown,
            due: Some(Timestamp::UNIX_EPOCH.to_string()),
            ..TlsReport::default()
        };
        return Ok((report, false));
    };
    let newest = certificate::first(&given.leaf).ok();
    let is_newest = |shown: &Option<Vec<u8>>| shown.is_some() && shown.as_deref() == newest.as_deref();
    let (mut trouble, mut told) = (problem.map(str::to_owned), false);
    if !is_newest(&shown) {
        match usable(given, host, shown.is_none()) {
            Ok(()) => {
                trouble = tell(engine, process, given).await?;
                told = true;
                shown = engine.shown().await?;
                if trouble.is_none() && !is_newest(&shown) {
                    trouble =
                        Some("the engine does not show the certificate in tls.crt; its log says why".into());
                }
            }
            Err(flaw) => trouble = Some(said(&flaw)),
        }
    }
    let verdict = match &shown {
        Some(shown) => certificate::accepted(&shown.as_slice().into(), &given.ca, names(host), now()),
        None => Err(Flaw::Unreadable),
    };
    if let (Err(flaw), None) = (&verdict, &trouble) {
        trouble = Some(said(flaw));
    }
    // What cannot be read is due whatever was there before.
    let due = match problem {
        Some(_) => Timestamp::UNIX_EPOCH,
        None => certificate::next(&given.ca, &given.leaf).at,
    };
    let report = TlsReport {
        certificate: shown.as_deref().map(certificate::fingerprint).unwrap_or_default(),
        ca: certificate::fingerprint(given.ca.as_bytes()),
        verified: verdict.is_ok(),
        trouble,
        due: Some(due.to_string()),
    };
    Ok((report, told))
}

/// Stores what was delivered for an engine that is about to start, if that is any good.
pub(super) fn prepare(engine: &Engine, given: &Certificate, host: &str) {
    let stored = usable(given, host, true).map(|()| engine.store(given));
    match stored {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "certificate not stored"),
        Err(flaw) => tracing::error!(problem = said(&flaw), "certificate not usable"),
    }
}

/// Whether it may take the place of what clients see. Where they see nothing, one that is not accepted now is
/// better: not every client checks, and a clock may be wrong.
fn usable(given: &Certificate, host: &str, is_first: bool) -> Result<(), Flaw> {
    certificate::belong(&given.leaf, &given.key)?;
    let leaf = certificate::first(&given.leaf)?;
    match certificate::accepted(&leaf, &given.ca, names(host), now()) {
        Err(_) if is_first => Ok(()),
        verdict => verdict,
    }
}

/// Stores a certificate and waits until clients get to see it, or why they do not.
async fn tell(
    engine: &Engine,
    process: &Process,
    given: &Certificate,
) -> Result<Option<String>, EngineError> {
    if let Err(error) = engine.store(given) {
        return Ok(Some(format!("the certificate cannot be stored: {error}")));
    }
    engine.take_over(process).await?;
    let newest = certificate::first(&given.leaf).ok();
    // The engine answers while it still reads.
    let shows = async {
        while engine
            .shown()
            .await
            .is_ok_and(|it| it.as_deref() != newest.as_deref())
        {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let _ = timeout(TAKES, shows).await;
    Ok(None)
}

/// An operator that knows nothing of certificates names no host.
fn names(host: &str) -> Option<&str> {
    Some(host).filter(|it| !it.is_empty())
}

fn said(flaw: &Flaw) -> String {
    format!(
        "the certificate in {}/{} {flaw}",
        path::CREDENTIALS,
        path::CERTIFICATE_FILE
    )
}
