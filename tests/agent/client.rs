//! The application's side: a connection over TCP with a password.

use std::fmt::Write as _;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use tokio::sync::Mutex;

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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let session = match member.needs.engine {
            Engine::Postgres => runtime.block_on(postgres(member, password))?,
            Engine::Mysql => {
                let options = mysql_async::OptsBuilder::default()
                    .ip_or_hostname("127.0.0.1")
                    .tcp_port(member.port)
                    .user(Some("shopkeeper"))
                    .pass(Some(password))
                    .db_name(Some(member.database()))
                    .prefer_socket(false);
                let connected = runtime.block_on(async {
                    tokio::time::timeout(PATIENCE, mysql_async::Conn::new(options)).await
                });
                let connected = connected.map_err(|_| "no connection in time")?;
                Session::Mysql(Mutex::new(connected.map_err(|error| words(&error))?))
            }
        };
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

async fn postgres(member: &Member, password: &str) -> Result<Session, String> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(member.port)
        .user("shopkeeper")
        .password(password)
        .dbname(member.database());
    let (client, connection) = config
        .connect(tokio_postgres::NoTls)
        .await
        .map_err(|error| said(&error))?;
    tokio::spawn(connection);
    Ok(Session::Postgres(client))
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
        .map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn words(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(error) => error.message.clone(),
        other => other.to_string(),
    }
}
