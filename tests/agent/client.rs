//! The application's side: a connection over TCP with a password.

use std::fmt::Write as _;

use crate::member::Member;

/// A connection of the application.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Client {
    pub(crate) fn connect(member: &Member, password: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(member.port)
            .user("shopkeeper")
            .password(password)
            .dbname("orders");
        let (client, connection) = runtime
            .block_on(config.connect(tokio_postgres::NoTls))
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

fn said(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
