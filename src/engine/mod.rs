//! What differs per engine, as methods of one enum. Pure; names no Kubernetes object.

pub mod postgres;
pub mod setting;

use std::collections::BTreeMap;

use crate::api::protocol::path;
use crate::api::v1::EngineName;
use crate::claim::quantity::Bytes;
use setting::{Parameter, Takes};

/// Says what a value of a parameter must be, where memory decides that.
type Beyond = fn(&str, &Takes, &str, Bytes) -> Option<String>;

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
}

/// What a client needs to connect.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Fully qualified host.
    pub host: &'a str,
    /// Database.
    pub database: &'a str,
    /// User.
    pub username: &'a str,
    /// Password in clear.
    pub password: &'a str,
    /// Whether a client may do without TLS.
    pub plaintext: bool,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Postgres => Self::Postgres,
        }
    }
}

impl Engine {
    /// Spelling in the claim, in labels and on the volume.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
        }
    }

    /// TCP port of the database.
    pub fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
        }
    }

    /// `type` of the Service Binding specification.
    pub fn binding_type(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
        }
    }

    /// Configuration files by name, from the memory that the engine may use. `plaintext`: connections over the
    /// network are let in without TLS as well.
    pub fn config_files(
        self,
        memory: Bytes,
        parameters: &BTreeMap<String, String>,
        plaintext: bool,
    ) -> BTreeMap<&'static str, String> {
        match self {
            Self::Postgres => postgres::config_files(memory, parameters, plaintext),
        }
    }

    /// Parameters that a claim may set, by name.
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Postgres => postgres::parameters::PARAMETERS,
        }
    }

    /// Why a parameter may not be set to a value; `None` if it may. `memory` is what the engine may use.
    pub fn refuses(self, name: &str, value: &str, memory: Bytes) -> Option<String> {
        let (kept_back, beyond): (fn(&str) -> Option<&'static str>, Beyond) = match self {
            Self::Postgres => (
                postgres::parameters::kept_back,
                postgres::parameters::beyond_memory,
            ),
        };
        if let Some(rule) = kept_back(name) {
            return Some(format!("cannot be set: {rule}"));
        }
        let Some(parameter) = self.parameters().iter().find(|it| it.name == name) else {
            return Some(format!(
                "is not one of the parameters of {} that can be set; they are listed in docs/parameters.md",
                self.name()
            ));
        };
        if !parameter.takes.accepts(value) {
            return Some(format!("is {value:?} and must be {}", parameter.takes));
        }
        beyond(name, &parameter.takes, value, memory).map(|rule| format!("is {value:?} and must be {rule}"))
    }

    /// Command that writes all data to its standard output, run beside the engine as its user.
    pub fn dump_command(self) -> String {
        match self {
            Self::Postgres => format!("pg_dumpall -h {} -U postgres", path::RUN),
        }
    }

    /// URI for the engine's own drivers and tools; every part percent-encoded. It asks for encryption where that
    /// is required. It cannot ask for verification, which takes a file with the authority whose path only the
    /// client knows.
    pub fn uri(self, to: &Connection<'_>) -> String {
        let (scheme, port, host) = (self.binding_type(), self.port(), to.host);
        let [user, password, database] = to.encoded();
        let options = self.uri_options(to.plaintext);
        format!("{scheme}://{user}:{password}@{host}:{port}/{database}?{options}")
    }

    fn uri_options(self, plaintext: bool) -> &'static str {
        match (self, plaintext) {
            (Self::Postgres, false) => "sslmode=require",
            (Self::Postgres, true) => "sslmode=prefer",
        }
    }

    /// URL for JDBC drivers.
    pub fn jdbc_uri(self, to: &Connection<'_>) -> String {
        let (scheme, port, host) = (self.binding_type(), self.port(), to.host);
        let [user, password, database] = to.encoded();
        let options = self.uri_options(to.plaintext);
        format!("jdbc:{scheme}://{host}:{port}/{database}?user={user}&password={password}&{options}")
    }
}

impl Connection<'_> {
    /// User, password and database as they may stand in a URI.
    fn encoded(&self) -> [String; 3] {
        [self.username, self.password, self.database].map(percent)
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_survive_hostile_passwords() {
        let to = Connection {
            host: "h.example",
            database: "app",
            username: "a@b",
            password: "p@ss:/?#[]% é&",
            plaintext: false,
        };
        assert_eq!(
            Engine::Postgres.uri(&to),
            "postgresql://a%40b:p%40ss%3A%2F%3F%23%5B%5D%25%20%C3%A9%26@h.example:5432/app?sslmode=require"
        );
        assert_eq!(
            Engine::Postgres.jdbc_uri(&to),
            "jdbc:postgresql://h.example:5432/app?user=a%40b&password=p%40ss%3A%2F%3F%23%5B%5D%25%20%C3%A9%26&sslmode=require"
        );
    }
}
