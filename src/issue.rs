//! Makes keys and certificates: what the planner has ordered, nothing else. It decides nothing, writes nothing,
//! and is the only module that uses randomness for keys.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use thiserror::Error;

use crate::certificate::{self, Keys};
use crate::claim::ClaimId;
use crate::plan::Order;

/// Clocks of clients may be behind by this much, where lives are long.
const SKEW: Duration = Duration::from_secs(3600);

/// How long certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a claim's certificate authority.
    pub authority: Duration,
    /// Of the server's certificate.
    pub server: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        Self {
            authority: Duration::from_secs(3650 * DAY),
            server: Duration::from_secs(90 * DAY),
        }
    }
}

/// A key or certificate could not be made.
#[derive(Debug, Error)]
#[error("cannot make {what}: {source}")]
pub struct Error {
    what: &'static str,
    source: rcgen::Error,
}

/// Carries out an order for a claim.
///
/// # Errors
/// When the kernel has no randomness to give.
pub fn carry_out(order: &Order, id: &ClaimId, lifetimes: Lifetimes, now: Timestamp) -> Result<Keys, Error> {
    match order {
        Order::Keep(keys) => Ok(keys.clone()),
        Order::Authority(keys) => authority(keys, id, lifetimes, now),
        Order::Server(keys) => match server(keys, id, lifetimes, now)? {
            Some(keys) => Ok(keys),
            // An authority that is not of our making.
            None => authority(keys, id, lifetimes, now),
        },
        Order::Forget(keys) => Ok(Keys {
            ca: newest(&keys.ca).to_owned(),
            ..keys.clone()
        }),
    }
}

/// A new authority before those there are. The first one signs at once: nobody knows another.
fn authority(keys: &Keys, id: &ClaimId, lifetimes: Lifetimes, now: Timestamp) -> Result<Keys, Error> {
    let key = KeyPair::generate().map_err(failed("a key"))?;
    let life = Life::new(now, lifetimes.authority);
    let made = authority_params(id, life.from, life.until).self_signed(&key);
    let made = made.map_err(failed("the certificate of an authority"))?;
    let with = Keys {
        ca: made.pem() + &keys.ca,
        ca_key: key.serialize_pem(),
        ..keys.clone()
    };
    if !keys.ca.is_empty() {
        return Ok(with);
    }
    Ok(server(&with, id, lifetimes, now)?.unwrap_or(with))
}

/// A new certificate by the newest authority; `None` if nobody who trusts that would accept it.
fn server(keys: &Keys, id: &ClaimId, lifetimes: Lifetimes, now: Timestamp) -> Result<Option<Keys>, Error> {
    let (Some(from), Some(until)) = (certificate::begins(&keys.ca), certificate::ends(&keys.ca)) else {
        return Ok(None);
    };
    let Ok(ca_key) = KeyPair::from_pem(&keys.ca_key) else {
        return Ok(None);
    };
    let issuer = Issuer::new(authority_params(id, from, until.as_second()), ca_key);
    let life = Life::new(now, lifetimes.server);
    let what = "a certificate";
    let mut params = CertificateParams::new(id.hosts()).map_err(failed(what))?;
    params.distinguished_name = named(id.base());
    lasting(&mut params, life.from, life.until.min(until.as_second()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(failed("a key"))?;
    let made = params.signed_by(&key, &issuer).map_err(failed(what))?;
    let hosts = id.hosts();
    let names = hosts.iter().map(String::as_str);
    if certificate::accepted(made.der(), newest(&keys.ca), names, now).is_err() {
        return Ok(None);
    }
    Ok(Some(Keys {
        certificate: made.pem(),
        key: key.serialize_pem(),
        ..keys.clone()
    }))
}

/// What an authority is made with, and what those that it issues say of it. Its name tells it from its
/// successors.
fn authority_params(id: &ClaimId, from: i64, until: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(format!("{}-ca-{from}", id.base()));
    lasting(&mut params, from, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// The first certificate of a PEM text, as text.
fn newest(ca: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    ca.split_inclusive(END).next().unwrap_or_default()
}

/// Begin and end in seconds since 1970.
struct Life {
    from: i64,
    until: i64,
}

impl Life {
    fn new(now: Timestamp, length: Duration) -> Self {
        let seconds = |it: Duration| i64::try_from(it.as_secs()).unwrap_or(i64::MAX / 4);
        Self {
            from: now.as_second() - seconds(SKEW.min(length / 100)),
            until: now.as_second() + seconds(length),
        }
    }
}

fn lasting(params: &mut CertificateParams, from: i64, until: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    params.not_before = epoch + since(from);
    params.not_after = epoch + since(until);
}

fn failed(what: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |source| Error { what, source }
}
