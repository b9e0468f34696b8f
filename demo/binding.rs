//! A client that has nothing but the binding Secret, as an application has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What stands in the Secret `<claim>-db-app`.
pub struct Binding {
    entries: BTreeMap<String, String>,
}

impl Binding {
    /// Reads the Secret.
    pub async fn read(client: &Client, namespace: &str, claim: &str) -> anyhow::Result<Self> {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let name = format!("{claim}-db-app");
        let secret = secrets
            .get(&name)
            .await
            .with_context(|| format!("cannot read Secret {namespace}/{name}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let entries = secret.data.unwrap_or_default().into_iter();
        Ok(Self {
            entries: entries.map(|(key, value)| (key, text(value.0))).collect(),
        })
    }

    /// One entry.
    pub fn get(&self, key: &str) -> anyhow::Result<&str> {
        self.entries
            .get(key)
            .map(String::as_str)
            .with_context(|| format!("the Secret has no key {key}"))
    }

    /// Connects by `uri`, at this address. The server must prove that it is `host`, by a certificate of the authority
    /// in `ca.crt` (what libpq calls `verify-full`).
    pub async fn connect_as(
        &self,
        host: &str,
        address: IpAddr,
        port: u16,
    ) -> anyhow::Result<tokio_postgres::Client> {
        let uri: tokio_postgres::Config = self.get("uri")?.parse().context("uri is not a PostgreSQL URI")?;
        let mut config = tokio_postgres::Config::new();
        config
            .host(host)
            .hostaddr(address)
            .port(port)
            .ssl_mode(SslMode::Require)
            .connect_timeout(std::time::Duration::from_secs(5));
        uri.get_user().map(|user| config.user(user));
        uri.get_password().map(|password| config.password(password));
        uri.get_dbname().map(|name| config.dbname(name));
        let tls = MakeRustlsConnect::new(self.trust()?);
        let (client, connection) = config.connect(tls).await?;
        // It ends when the client is dropped.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Trusts the authority of this claim and nobody else.
    fn trust(&self) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(self.get("ca.crt")?.as_bytes()) {
            roots.add(authority.context("ca.crt is not PEM")?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}
