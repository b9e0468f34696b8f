//! Where an engine finds its certificate, and what a client gets to see of it: a handshake that accepts any
//! certificate and shows it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::files::Certificate;
use crate::certificate;

/// How long the server may take to end a connection.
const GOODBYE: Duration = Duration::from_secs(1);
/// Directory of certificates below the run directory.
const DIRECTORY: &str = "tls";

/// Copies a certificate and its key below the run directory, under names of their own, so that no engine ever
/// reads one with the other of another, and a Secret that is spoiled later does not keep it from starting.
pub(super) fn store(run: &Path, given: &Certificate) -> io::Result<[PathBuf; 2]> {
    let directory = run.join(DIRECTORY);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)?;
    let name = certificate::first(&given.leaf).map(|it| certificate::fingerprint(&it));
    let name = name.map_err(io::Error::other)?;
    let [crt, key] = ["crt", "key"].map(|kind| directory.join(format!("{name}.{kind}")));
    write(&key, &given.key)?;
    write(&crt, &given.leaf)?;
    Ok([crt, key])
}

/// Removes all but these, which the engine has been told to read.
pub(super) fn forget_others(run: &Path, kept: &[PathBuf]) {
    let entries = fs::read_dir(run.join(DIRECTORY)).into_iter().flatten().flatten();
    for entry in entries.filter(|it| !kept.contains(&it.path())) {
        let _ = fs::remove_file(entry.path());
    }
}

/// Whole or not at all, and for nobody else.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
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

/// The certificate that a server shows on a connection that is ready for the handshake, in DER.
pub(super) async fn shown(stream: TcpStream) -> io::Result<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut session = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (_, connection) = session.get_ref();
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.map(|it| it.to_vec());
    // In good order, or the server's log would tell of each look.
    let end = async {
        session.shutdown().await?;
        tokio::io::copy(&mut session, &mut tokio::io::sink()).await
    };
    let _ = timeout(GOODBYE, end).await;
    leaf.ok_or_else(|| io::Error::other("the server shows no certificate"))
}

/// Accepts every certificate, because it is what is asked for; nothing is ever sent on such a connection. That
/// the server has the certificate's key is checked.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
