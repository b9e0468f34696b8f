//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677) as PostgreSQL stores them.
//!
//! Computed here, so that no password is ever part of an SQL statement, and compared here, so that a password
//! that is in force already is not set again.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const ITERATIONS: u32 = 4096;

/// What the server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl Verifier {
    /// The verifier of a password, with a salt that was never used before.
    pub fn new(password: &str, salt: &[u8]) -> Self {
        Self::derive(password, salt, ITERATIONS)
    }

    /// Reads what `pg_authid.rolpassword` holds; `None` for anything but SCRAM-SHA-256.
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        Some(Self {
            iterations: iterations.parse().ok().filter(|iterations| *iterations > 0)?,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: STANDARD.decode(stored).ok()?.try_into().ok()?,
            server_key: STANDARD.decode(server).ok()?.try_into().ok()?,
        })
    }

    /// Whether it was made of this password.
    pub fn is_of(&self, password: &str) -> bool {
        *self == Self::derive(password, &self.salt, self.iterations)
    }

    fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        // As libpq and the server do: what SASLprep prohibits is used as it is.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let salted = salted_password(prepared.as_bytes(), salt, iterations);
        let client_key = mac(&salted, &[b"Client Key"]);
        Self {
            iterations,
            salt: salt.to_owned(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: mac(&salted, &[b"Server Key"]),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    // Whoever has the keys may try passwords offline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// `Hi` of RFC 5802: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = mac(password, &[salt, &1_u32.to_be_bytes()]);
    let mut result = block;
    for _ in 1..iterations {
        block = mac(password, &[&block]);
        for (sum, byte) in result.iter_mut().zip(block) {
            *sum ^= byte;
        }
    }
    result
}

fn mac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length, so the error cannot happen; it yields a key that verifies nothing.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    for part in message {
        hmac.update(part);
    }
    hmac.finalize().into_bytes().into()
}
