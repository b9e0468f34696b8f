//! The client's side of MySQL's protocol, as much of it as the agent needs: a login over the socket, and
//! statements whose answers are text.
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>)
//!
//! Several statements in one are not negotiated, so the server takes none. What the server sends is bounded and
//! never trusted to be well-formed.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest packet that is read; the longest that we ask for is a line of text.
const LONGEST: usize = 1 << 20;
/// 4.1 protocol, long passwords, transaction states, and named authentication plugins.
const CAPABILITIES: u32 = 0x0000_0001 | 0x0000_0200 | 0x0000_2000 | 0x0000_8000 | 0x0008_0000;
/// Capability: the connection can be turned into one of TLS.
const TLS: u16 = 0x0800;
/// `utf8mb4_0900_ai_ci`.
const UTF8: u8 = 255;
const COM_QUERY: u8 = 3;
/// The server asks for the password itself, because it has no digest of it in memory.
const FULL_AUTHENTICATION: u8 = 4;
const DENIED: u16 = 1045;
/// Said to a client whose password is right: the account is locked, its password has expired, the server is offline.
const REFUSED_LATER: [u16; 3] = [3118, 1862, 3032];

/// A row of text; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// Something did not come as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The socket is not there, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server refused; its own words, never the statement's.
    #[error("{message} ({code})")]
    Server { code: u16, message: String },
    /// Not what the protocol says.
    #[error("the server's answer cannot be understood: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// The password is right, and something else keeps the account out.
    pub(super) fn is_refused_later(&self) -> bool {
        matches!(self, Self::Server { code, .. } if REFUSED_LATER.contains(code))
    }

    /// Wrong user name or password.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Server { code: DENIED, .. })
    }
}

/// A connection to the local server; closed when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
    /// Number of the next packet of this exchange.
    sequence: u8,
    /// An answer was not read to its end: what comes next would be taken for another's.
    unread: bool,
}

impl Connection {
    /// Logs in: as the process that we are where there is no password.
    pub(super) async fn open(socket: &Path, user: &str, password: Option<&str>) -> Result<Self, Error> {
        let stream = BufReader::with_capacity(4096, UnixStream::connect(socket).await?);
        let mut connection = Self {
            stream,
            sequence: 0,
            unread: false,
        };
        let greeting = connection.read().await?;
        let nonce = nonce(&greeting)?;
        let plugin = if password.is_some() {
            "caching_sha2_password"
        } else {
            "auth_socket"
        };
        let proof = password.map(|password| scramble(password, &nonce));
        connection
            .write(&login(user, &proof.unwrap_or_default(), plugin))
            .await?;
        connection.authenticate(password).await?;
        Ok(connection)
    }

    async fn authenticate(&mut self, password: Option<&str>) -> Result<(), Error> {
        loop {
            let packet = self.read().await?;
            match (packet.split_first(), password) {
                (Some((0x00, _)), _) => return Ok(()),
                // Another plugin than we named: the account's own.
                (Some((0xfe, rest)), Some(password)) => {
                    let end = rest
                        .iter()
                        .position(|byte| *byte == 0)
                        .ok_or(Error::Malformed("plugin"))?;
                    let nonce = rest.get(end + 1..).unwrap_or_default();
                    let nonce = nonce.strip_suffix(b"\0").unwrap_or(nonce);
                    self.write(&scramble(password, nonce)).await?;
                }
                (Some((0xfe, _)), None) => self.write(&[]).await?,
                // Over a socket nobody listens.
                (Some((0x01, [FULL_AUTHENTICATION])), Some(password)) => {
                    let mut clear = password.as_bytes().to_vec();
                    clear.push(0);
                    self.write(&clear).await?;
                }
                (Some((0x01, _)), _) => {}
                _ => return Err(Error::Malformed("login")),
            }
        }
    }

    /// One statement; its rows, if it has any. After an error other than the server's the connection is lost.
    pub(super) async fn query(&mut self, statement: &str) -> Result<Vec<Row>, Error> {
        if self.unread {
            return Err(Error::Malformed("an earlier answer was not waited for"));
        }
        // It stays so if this is cancelled half-way.
        self.unread = true;
        let answer = self.exchange(statement).await;
        self.unread = !matches!(answer, Ok(_) | Err(Error::Server { .. }));
        answer
    }

    async fn exchange(&mut self, statement: &str) -> Result<Vec<Row>, Error> {
        self.sequence = 0;
        let mut packet = vec![COM_QUERY];
        packet.extend_from_slice(statement.as_bytes());
        self.write(&packet).await?;
        let answer = self.read().await?;
        let columns = match answer.first() {
            Some(0x00) => return Ok(Vec::new()),
            None | Some(0xfb) => return Err(Error::Malformed("answer")),
            Some(_) => Cursor(&answer).length()?.ok_or(Error::Malformed("columns"))?,
        };
        for _ in 0..columns {
            self.read().await?;
        }
        if !is_end(&self.read().await?) {
            return Err(Error::Malformed("end of the columns"));
        }
        let mut rows = Vec::new();
        loop {
            let packet = self.read().await?;
            if is_end(&packet) {
                return Ok(rows);
            }
            rows.push(row(&packet, columns)?);
        }
    }

    /// The next packet; an error of the server is one of ours.
    async fn read(&mut self) -> Result<Vec<u8>, Error> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let [low, middle, high, sequence] = header;
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if length > LONGEST {
            return Err(Error::Malformed("packet that is too long"));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet).await?;
        match packet.split_first() {
            Some((0xff, rest)) => Err(refusal(rest)),
            _ => Ok(packet),
        }
    }

    async fn write(&mut self, payload: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if payload.len() > LONGEST {
            return Err(Error::Malformed("statement that is too long"));
        }
        let [low, middle, high, _] = length.to_le_bytes();
        let mut packet = vec![low, middle, high, self.sequence];
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.get_mut().write_all(&packet).await?;
        Ok(())
    }
}

/// Whether a server that greets like this can do TLS.
pub(super) fn offers_tls(greeting: &[u8]) -> Result<bool, Error> {
    let mut cursor = Cursor(greeting);
    if cursor.take(1)? != [10] {
        return Err(Error::Malformed("protocol version"));
    }
    let version = cursor.0.iter().position(|byte| *byte == 0);
    cursor.take(version.ok_or(Error::Malformed("greeting"))? + 1)?;
    // Number of the thread, half of the nonce, filler.
    cursor.take(4 + 8 + 1)?;
    match cursor.take(2)? {
        [low, high] => Ok(u16::from_le_bytes([*low, *high]) & TLS != 0),
        _ => Err(Error::Malformed("capabilities")),
    }
}

/// The packet after which the handshake begins.
pub(super) fn tls_request() -> Vec<u8> {
    let capabilities = CAPABILITIES | u32::from(TLS);
    let mut packet = vec![32, 0, 0, 1];
    packet.extend_from_slice(&capabilities.to_le_bytes());
    packet.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    packet.push(UTF8);
    packet.extend_from_slice(&[0; 23]);
    packet
}

/// The random bytes of the server's greeting (protocol version 10).
fn nonce(greeting: &[u8]) -> Result<Vec<u8>, Error> {
    let mut cursor = Cursor(greeting);
    if cursor.take(1)? != [10] {
        return Err(Error::Malformed("protocol version"));
    }
    let version = cursor.0.iter().position(|byte| *byte == 0);
    cursor.take(version.ok_or(Error::Malformed("greeting"))? + 1)?;
    let mut nonce = {
        let after_thread = cursor.take(4 + 8)?;
        after_thread.get(4..).unwrap_or_default().to_vec()
    };
    // Filler, capabilities, character set, status, capabilities, length of the nonce, reserved.
    cursor.take(1 + 2 + 1 + 2 + 2 + 1 + 10)?;
    nonce.extend_from_slice(cursor.take(12)?);
    Ok(nonce)
}

fn login(user: &str, proof: &[u8], plugin: &str) -> Vec<u8> {
    let mut packet = CAPABILITIES.to_le_bytes().to_vec();
    packet.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    packet.push(UTF8);
    packet.extend_from_slice(&[0; 23]);
    packet.extend_from_slice(user.replace('\0', "").as_bytes());
    packet.push(0);
    packet.push(u8::try_from(proof.len()).unwrap_or_default());
    packet.extend_from_slice(proof);
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

/// Proves that the password is known, to a server that has a digest of it in memory.
fn scramble(password: &str, nonce: &[u8]) -> Vec<u8> {
    let first = Sha256::digest(password.as_bytes());
    let second = Sha256::digest(first);
    let keyed = Sha256::new().chain_update(second).chain_update(nonce).finalize();
    first
        .iter()
        .zip(keyed.iter())
        .map(|(one, other)| one ^ other)
        .collect()
}

fn refusal(packet: &[u8]) -> Error {
    let [low, high, rest @ ..] = packet else {
        return Error::Malformed("error");
    };
    // A mark and five characters of SQLSTATE, where the login has come so far.
    let message = match rest.split_first() {
        Some((b'#', state)) => state.get(5..).unwrap_or_default(),
        _ => rest,
    };
    Error::Server {
        code: u16::from_le_bytes([*low, *high]),
        message: String::from_utf8_lossy(message).into_owned(),
    }
}

/// The packet after the last column, and after the last row.
fn is_end(packet: &[u8]) -> bool {
    packet.len() < 9 && packet.first() == Some(&0xfe)
}

fn row(packet: &[u8], columns: u64) -> Result<Row, Error> {
    let mut cursor = Cursor(packet);
    let mut row = Vec::new();
    for _ in 0..columns {
        row.push(match cursor.length()? {
            None => None,
            Some(length) => {
                let length = usize::try_from(length).map_err(|_| Error::Malformed("length"))?;
                Some(String::from_utf8_lossy(cursor.take(length)?).into_owned())
            }
        });
    }
    Ok(row)
}

/// What is left of a packet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Error::Malformed("packet that is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A length-encoded number; `None` is NULL.
    fn length(&mut self) -> Result<Option<u64>, Error> {
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let more = match first {
            0xfb => return Ok(None),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xff => return Err(Error::Malformed("length")),
            small => return Ok(Some(small.into())),
        };
        let bytes = self.take(more)?;
        Ok(Some(
            bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As MySQL 9.7 sends it.
    const GREETING: &[u8] = b"\n9.7.4-2\x00\t\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf\x15\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00ijklmnopqrst\x00caching_sha2_password\x00";

    #[test]
    fn the_nonce_is_put_together_from_both_halves() {
        assert_eq!(nonce(GREETING).unwrap(), b"abcdefghijklmnopqrst");
    }

    #[test]
    fn tls_is_offered_by_a_capability_and_asked_for_by_a_packet_of_32_bytes() {
        assert!(offers_tls(GREETING).unwrap());
        let nonce = GREETING.windows(8).position(|it| it == b"abcdefgh").unwrap();
        let mut without = GREETING.to_vec();
        without[nonce + 10] &= !0x08;
        assert!(!offers_tls(&without).unwrap());
        assert_eq!(tls_request().len(), 36);
    }

    #[test]
    fn rows_hold_text_and_nulls() {
        let text = "x".repeat(300);
        let mut packet = vec![2, b'h', b'i', 0xfb, 0xfc, 44, 1];
        packet.extend_from_slice(text.as_bytes());
        assert_eq!(
            row(&packet, 3).unwrap(),
            [Some("hi".to_owned()), None, Some(text)]
        );
    }

    #[test]
    fn a_refusal_keeps_code_and_words() {
        let error = refusal(b"\x15\x04#28000Access denied");
        assert!(error.is_denied());
        assert_eq!(error.to_string(), "Access denied (1045)");
        assert_eq!(
            refusal(b"\x10\x04Too many connections").to_string(),
            "Too many connections (1040)"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_server_end_the_agent(bytes in proptest::collection::vec(any::<u8>(), 0..200), columns in 0_u64..9) {
            let _ = nonce(&bytes);
            let _ = offers_tls(&bytes);
            let _ = row(&bytes, columns);
            let _ = refusal(&bytes);
            let _ = Cursor(&bytes).length();
        }
    }
}
