//! Where the server finds its certificate, and how it is asked for it.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Postgres;
use crate::agent::engine::EngineError;
use crate::agent::files::Certificate;
use crate::agent::tls;
use crate::engine::postgres::TLS_FILE;

/// `SSLRequest` of the protocol: its length and a number that no version has.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// How long the whole question may take.
const LIMIT: Duration = Duration::from_secs(5);

impl Postgres {
    /// A copy, and a configuration file that names it, which the server includes.
    pub(in crate::agent) fn store(&self, given: &Certificate) -> io::Result<()> {
        let stored = tls::store(&self.run, given)?;
        let [crt, key] = &stored;
        let text = format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            crt.display(),
            key.display()
        );
        tls::write(&self.run.join(TLS_FILE), &text)?;
        tls::forget_others(&self.run, &stored);
        Ok(())
    }

    pub(in crate::agent) async fn shown(&self) -> Result<Option<Vec<u8>>, EngineError> {
        let (port, _) = self.address()?;
        let asked = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.write_all(&SSL_REQUEST).await?;
            if stream.read_u8().await? != b'S' {
                return Ok(None);
            }
            tls::shown(stream).await.map(Some)
        };
        match timeout(LIMIT, asked).await {
            Ok(answer) => answer.map_err(|error: io::Error| EngineError::Statement {
                attempt: "look at the certificate that clients get",
                message: error.to_string(),
            }),
            Err(_) => Err(EngineError::Timeout(LIMIT)),
        }
    }
}
