//! A client that has nothing but the binding Secret, as an application has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

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

    /// Connects by `uri`, at the address that its host name resolves to.
    pub async fn connect(&self, address: IpAddr, port: u16) -> anyhow::Result<tokio_postgres::Client> {
        let mut config: tokio_postgres::Config =
            self.get("uri")?.parse().context("uri is not a PostgreSQL URI")?;
        config
            .hostaddr(address)
            .connect_timeout(std::time::Duration::from_secs(5));
        if !config.get_ports().contains(&port) {
            config = with_port(&config, port);
        }
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        // It ends when the client is dropped.
        tokio::spawn(connection);
        Ok(client)
    }
}

/// The same database through a port that was forwarded to this machine.
fn with_port(config: &tokio_postgres::Config, port: u16) -> tokio_postgres::Config {
    let mut other = tokio_postgres::Config::new();
    other.host("localhost").port(port);
    config.get_hostaddrs().iter().for_each(|address| {
        other.hostaddr(*address);
    });
    config.get_user().map(|user| other.user(user));
    config.get_password().map(|password| other.password(password));
    config.get_dbname().map(|name| other.dbname(name));
    other
}
