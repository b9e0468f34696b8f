//! The application's side: a connection over TCP with a password.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{OptsBuilder, SslOpts};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engines::Engine;
use crate::member::Member;

/// How long an answer may take: a MySQL whose disk is full waits for space instead of refusing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection of the application.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    session: Session,
}

enum Session {
    Postgres(tokio_postgres::Client),
    Mysql(Mutex<mysql_async::Conn>),
}

impl Client {
    pub(crate) fn connect(member: &Member, password: &str) -> Result<Self, String> {
        Self::open(async {
            match member.needs.engine {
                Engine::Postgres => {
                    let config = config(member, password, "127.0.0.1");
                    postgres(&config, tokio_postgres::NoTls).await
                }
                Engine::Mysql => mysql(options(member, password)).await,
            }
        })
    }

    /// Accepts only a server that proves to be `host` by a certificate of an authority in `ca`.
    pub(crate) fn verified(member: &Member, password: &str, ca: &str, host: &str) -> Result<Self, String> {
        Self::open(async {
            match member.needs.engine {
                Engine::Postgres => {
                    let mut config = config(member, password, host);
                    config.hostaddr([127, 0, 0, 1].into()).ssl_mode(SslMode::Require);
                    postgres(&config, MakeRustlsConnect::new(trust(ca))).await
                }
                Engine::Mysql => {
                    let tls = SslOpts::default()
                        .with_root_certs(vec![ca.as_bytes().to_vec().into()])
                        .with_disable_built_in_roots(true)
                        .with_danger_tls_hostname_override(Some(host.to_owned()));
                    mysql(options(member, password).ssl_opts(tls)).await
                }
            }
        })
    }

    fn open(connect: impl Future<Output = Result<Session, String>>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connected = runtime.block_on(async { tokio::time::timeout(PATIENCE, connect).await });
        let session = connected.map_err(|_| "no connection in time")??;
        Ok(Self { runtime, session })
    }

    /// Rows of the last of these statements, as text joined with `|` and lines.
    pub(crate) fn sql(&self, statements: &str) -> Result<String, String> {
        let answer = async {
            match &self.session {
                Session::Postgres(client) => ask_postgres(client, statements).await,
                Session::Mysql(connection) => {
                    let mut connection = connection.lock().await;
                    ask_mysql(&mut connection, statements).await
                }
            }
        };
        let answered = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        answered.map_err(|_| "no answer in time".to_owned())?
    }
}

fn config(member: &Member, password: &str, host: &str) -> Config {
    let mut config = Config::new();
    config
        .host(host)
        .port(member.port)
        .user(member.login)
        .password(password)
        .dbname(member.database());
    config
}

fn options(member: &Member, password: &str) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(member.port)
        .user(Some(member.login))
        .pass(Some(password))
        .db_name(Some(member.database()))
        .prefer_socket(false)
}

fn trust(ca: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let authorities = CertificateDer::pem_slice_iter(ca.as_bytes());
    roots.add_parsable_certificates(authorities.map(|it| it.unwrap()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

async fn postgres<T>(config: &Config, tls: T) -> Result<Session, String>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await.map_err(|error| said(&error))?;
    tokio::spawn(connection);
    Ok(Session::Postgres(client))
}

async fn mysql(options: OptsBuilder) -> Result<Session, String> {
    let connected = mysql_async::Conn::new(options).await;
    Ok(Session::Mysql(Mutex::new(
        connected.map_err(|error| words(&error))?,
    )))
}

async fn ask_postgres(client: &tokio_postgres::Client, statements: &str) -> Result<String, String> {
    let messages = client
        .simple_query(statements)
        .await
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

async fn ask_mysql(connection: &mut mysql_async::Conn, statements: &str) -> Result<String, String> {
    let mut text = String::new();
    for statement in statements.split("; ") {
        text.clear();
        let rows: Vec<mysql_async::Row> = connection.query(statement).await.map_err(|error| words(&error))?;
        for row in rows {
            let cells: Vec<String> = row.unwrap().into_iter().map(cell).collect();
            let _ = writeln!(text, "{}", cells.join("|"));
        }
    }
    Ok(text.trim_end().to_owned())
}

fn cell(value: mysql_async::Value) -> String {
    match value {
        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        mysql_async::Value::NULL => String::new(),
        other => format!("{other:?}"),
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| format!("{error:?}"), |error| error.message().to_owned())
}

fn words(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(error) => error.message.clone(),
        other => format!("{other:?}"),
    }
}
