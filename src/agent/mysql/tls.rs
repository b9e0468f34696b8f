//! Where the server finds its certificate, and how it is asked for it.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Mysql;
use super::text::literal;
use super::wire::{self, Error};
use crate::agent::engine::EngineError;
use crate::agent::files::Certificate;
use crate::agent::tls;

/// Names the certificate, the key and the authorities that were stored last, one in a line.
const STORED: &str = "tls.paths";
/// How long the whole question may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest greeting that is read.
const GREETING: usize = 1024;

impl Mysql {
    pub(in crate::agent) fn store(&self, given: &Certificate) -> io::Result<()> {
        let stored = tls::store(&self.run, given)?;
        let [crt, key] = &stored;
        // A running server takes no certificate that it cannot verify itself.
        let ca = crt.with_extension("ca");
        tls::write(&ca, &given.ca)?;
        let paths = format!("{}\n{}\n{}\n", crt.display(), key.display(), ca.display());
        tls::write(&self.run.join(STORED), &paths)?;
        tls::forget_others(&self.run, &[crt.clone(), key.clone(), ca]);
        Ok(())
    }

    /// What was stored last, each by the name of its system variable.
    pub(super) fn stored(&self) -> Option<[(&'static str, PathBuf); 3]> {
        let text = std::fs::read_to_string(self.run.join(STORED)).ok()?;
        let mut lines = text.lines().map(PathBuf::from);
        let mut next = |name| Some((name, lines.next()?));
        Some([next("ssl_cert")?, next("ssl_key")?, next("ssl_ca")?])
    }

    /// The server keeps what it has where the files are no good.
    pub(in crate::agent) async fn take_over(&self) -> Result<(), EngineError> {
        let Some(stored) = self.stored() else {
            return Ok(());
        };
        let session = self.session().await?;
        for (name, path) in stored {
            let path = literal(&path.display().to_string());
            session
                .rows("name the certificate", &format!("SET GLOBAL {name} = {path}"))
                .await?;
        }
        session
            .rows("read the certificate", "ALTER INSTANCE RELOAD TLS")
            .await?;
        Ok(())
    }

    pub(in crate::agent) async fn shown(&self) -> Result<Option<Vec<u8>>, EngineError> {
        let attempt = "look at the certificate that clients get";
        let [port] = self.session().await?.one(attempt, "SELECT @@port").await?;
        let failed = |message: String| EngineError::Statement { attempt, message };
        let port: u16 = port.parse().map_err(|_| failed(format!("{port:?} is no port")))?;
        match timeout(LIMIT, ask(port)).await {
            Ok(answer) => answer.map_err(|error| failed(error.to_string())),
            Err(_) => Err(EngineError::Timeout(LIMIT)),
        }
    }
}

/// Asks for TLS as a client does, and goes when it has seen the certificate.
async fn ask(port: u16) -> Result<Option<Vec<u8>>, Error> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [low, high, ..] = header;
    let mut greeting = vec![0; usize::from(u16::from_le_bytes([low, high])).min(GREETING)];
    stream.read_exact(&mut greeting).await?;
    if !wire::offers_tls(&greeting)? {
        return Ok(None);
    }
    stream.write_all(&wire::tls_request()).await?;
    Ok(tls::shown(stream).await.map(Some)?)
}
