//! Where the server finds its certificate, and how it is asked for it.

use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Postgres;
use crate::agent::engine::EngineError;
use crate::agent::files::Certificate;
use crate::agent::tls;
use crate::certificate;
use crate::engine::postgres::TLS_FILE;

/// Directory of certificates below the run directory.
const DIRECTORY: &str = "tls";
/// `SSLRequest` of the protocol: its length and a number that no version has.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// How long the whole question may take.
const LIMIT: Duration = Duration::from_secs(5);

impl Postgres {
    /// A copy under a name of its own, and a configuration file that names it, which the server includes. So the
    /// server never reads a certificate with the key of another, and a Secret that is spoiled later does not keep
    /// it from starting.
    pub(in crate::agent) fn store(&self, given: &Certificate) -> io::Result<()> {
        let directory = self.run.join(DIRECTORY);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        let name = certificate::first(&given.leaf).map(|it| certificate::fingerprint(&it));
        let name = name.map_err(io::Error::other)?;
        let [crt, key] = ["crt", "key"].map(|kind| directory.join(format!("{name}.{kind}")));
        write(&crt, &given.leaf)?;
        write(&key, &given.key)?;
        let text = format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            crt.display(),
            key.display()
        );
        write(&self.run.join(TLS_FILE), &text)?;
        for entry in fs::read_dir(&directory)?.flatten() {
            if entry.path() != crt && entry.path() != key {
                let _ = fs::remove_file(entry.path());
            }
        }
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

/// Whole or not at all, and for nobody else.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&draft, path)
}
