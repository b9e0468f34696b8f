//! Keys and certificates of a claim: whether they serve, and what is to be renewed when. Pure; the time is an
//! argument. It makes none, and knows neither engines nor Kubernetes. Operator and agent judge alike by it.

mod der;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Keys and certificates of a claim, as PEM. What is empty is not there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Certificates of the authorities that clients are to trust, the newest first.
    pub ca: String,
    /// Private key of the newest of them.
    pub ca_key: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
}

impl std::fmt::Debug for Keys {
    // A private key must never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Why a certificate does not serve.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Flaw {
    /// No certificate, or none that can be read.
    #[error("cannot be read as a certificate in PEM")]
    Unreadable,
    /// No private key, or one of another certificate.
    #[error("does not belong to the private key beside it")]
    OtherKey,
    /// Its time is over.
    #[error("has expired")]
    Expired,
    /// Its time has not come; clocks may differ.
    #[error("is not valid yet; is the clock right?")]
    NotYet,
    /// It is for other names.
    #[error("is not for the name {0}")]
    OtherName(String),
    /// Clients that trust `ca.crt` do not trust it.
    #[error("was not issued by an authority in ca.crt")]
    Untrusted,
}

/// What is to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A new authority, beside the one there is.
    Authority,
    /// A new certificate of the server, by the newest authority.
    Server,
    /// All authorities but the newest are to go.
    Forget,
}

/// What is to be renewed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// What.
    pub work: Work,
    /// When.
    pub at: Timestamp,
}

/// What comes next for these authorities and this server's certificate, whoever looks.
///
/// Either is renewed at two thirds of its life. A new authority signs only after clients have had a sixth of a
/// server certificate's life to learn of it; the former one goes when nothing in force is signed by it.
pub fn next(ca: &str, certificate: &str) -> Due {
    let at_once = |work| Due {
        work,
        at: Timestamp::UNIX_EPOCH,
    };
    let authorities = all(ca);
    let Some(newest) = authorities.first().and_then(|it| der::outline(it)) else {
        return at_once(Work::Authority);
    };
    let leaf = first(certificate).ok();
    let Some(server) = leaf.as_ref().and_then(|it| der::outline(it)) else {
        return at_once(Work::Server);
    };
    let current = server.issuer == newest.subject;
    let mature = newest.from + (server.until.duration_since(server.from) / 6);
    let dues = [
        Some((Work::Forget, Timestamp::UNIX_EPOCH)).filter(|_| current && authorities.len() > 1),
        Some((Work::Server, two_thirds(server.from, server.until))).filter(|_| current),
        Some((Work::Server, mature)).filter(|_| !current),
        Some((Work::Authority, two_thirds(newest.from, newest.until))),
    ];
    let earliest = dues.into_iter().flatten().min_by_key(|(_, at)| *at);
    earliest.map_or(at_once(Work::Server), |(work, at)| Due { work, at })
}

fn two_thirds(from: Timestamp, until: Timestamp) -> Timestamp {
    let third: SignedDuration = until.duration_since(from) / 3;
    until - third
}

/// When the newest authority begins to be valid, in seconds; `None` without one that can be read.
pub fn begins(ca: &str) -> Option<i64> {
    let first = first(ca).ok()?;
    der::outline(&first).map(|it| it.from.as_second())
}

/// When the newest authority ends.
pub fn ends(ca: &str) -> Option<Timestamp> {
    let first = first(ca).ok()?;
    der::outline(&first).map(|it| it.until)
}

/// Number of authorities that are trusted.
pub fn authorities(ca: &str) -> usize {
    all(ca).len()
}

/// Whether `ca` has the newest authority of `newer`.
pub fn knows(ca: &str, newer: &str) -> bool {
    first(newer).is_ok_and(|newest| all(ca).contains(&newest))
}

/// Name of a certificate by its content: the first 64 bits of its SHA-256.
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der)
        .iter()
        .take(8)
        .fold(String::with_capacity(16), |text, byte| {
            text + &format!("{byte:02x}")
        })
}

/// The first certificate of a PEM text.
///
/// # Errors
/// [`Flaw::Unreadable`].
pub fn first(pem: &str) -> Result<CertificateDer<'static>, Flaw> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Flaw::Unreadable)
}

fn all(pem: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    certificates.map_while(Result::ok).collect()
}

/// Whether a certificate and a private key belong together.
///
/// # Errors
/// What is wrong.
pub fn belong(certificate: &str, key: &str) -> Result<(), Flaw> {
    let certificate = first(certificate)?;
    der::outline(&certificate).ok_or(Flaw::Unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| Flaw::OtherKey)?;
    let pair = CertifiedKey::from_der(vec![certificate], key, &provider());
    pair.map(drop).map_err(|_| Flaw::OtherKey)
}

/// Whether a client that trusts `ca` accepts this certificate now, under each of the names.
///
/// # Errors
/// What is wrong.
pub fn accepted<'a>(
    certificate: &CertificateDer<'_>,
    ca: &str,
    names: impl IntoIterator<Item = &'a str>,
    now: Timestamp,
) -> Result<(), Flaw> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(all(ca));
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider())).build();
    let verifier = verifier.map_err(|_| Flaw::Untrusted)?;
    let since = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(since));
    for name in names {
        // Any name that the wildcard stands for.
        let asked = name.replacen('*', "any", 1);
        let asked = ServerName::try_from(asked).map_err(|_| Flaw::OtherName(name.to_owned()))?;
        verifier
            .verify_server_cert(certificate, &[], &asked, &[], now)
            .map_err(|error| flaw(&error, name))?;
    }
    Ok(())
}

fn flaw(error: &rustls::Error, name: &str) -> Flaw {
    let rustls::Error::InvalidCertificate(error) = error else {
        return Flaw::Untrusted;
    };
    match error {
        CertificateError::BadEncoding => Flaw::Unreadable,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Flaw::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Flaw::NotYet,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Flaw::OtherName(name.to_owned())
        }
        _ => Flaw::Untrusted,
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}
