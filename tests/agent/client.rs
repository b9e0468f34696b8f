//! The application's side: a connection over TCP with a password.

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::member::Member;

/// A connection of the application.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Client {
    pub(crate) fn connect(member: &Member, password: &str) -> Result<Self, String> {
        Self::with(&config(member, password, "127.0.0.1"), tokio_postgres::NoTls)
    }

    /// Accepts only a server that proves to be `host` by a certificate of an authority in `ca`.
    pub(crate) fn verified(member: &Member, password: &str, ca: &str, host: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let authorities = CertificateDer::pem_slice_iter(ca.as_bytes());
        roots.add_parsable_certificates(authorities.map(|it| it.unwrap()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let tls = builder.with_root_certificates(roots).with_no_client_auth();
        let mut config = config(member, password, host);
        config.hostaddr([127, 0, 0, 1].into()).ssl_mode(SslMode::Require);
        Self::with(&config, MakeRustlsConnect::new(tls))
    }

    fn with<T>(config: &Config, tls: T) -> Result<Self, String>
    where
        T: MakeTlsConnect<Socket> + 'static,
        T::Stream: Send,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (client, connection) = runtime
            .block_on(config.connect(tls))
            .map_err(|error| said(&error))?;
        runtime.spawn(connection);
        Ok(Self { runtime, client })
    }

    pub(crate) fn sql(&self, statement: &str) -> Result<String, String> {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(statement))
            .map_err(|error| said(&error))?;
        let mut text = String::new();
        for message in messages {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                let cells: Vec<&str> = (0..row.len()).map(|cell| row.get(cell).unwrap_or("")).collect();
                let _ = writeln!(text, "{}", cells.join("|"));
            }
        }
        Ok(text.trim_end().to_owned())
    }
}

fn config(member: &Member, password: &str, host: &str) -> Config {
    let mut config = Config::new();
    config
        .host(host)
        .port(member.port)
        .user("shopkeeper")
        .password(password)
        .dbname("orders");
    config
}

fn said(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| format!("{error:?}"), |error| error.message().to_owned())
}
