//! What differs per engine, as methods of one enum. Pure; names no Kubernetes object.

pub mod mysql;
pub mod postgres;
pub mod setting;

use std::collections::BTreeMap;

use crate::api::protocol::second_login;
use crate::api::v1::EngineName;
use crate::claim::quantity::Bytes;
use setting::Parameter;

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
}

/// Makes configuration files from memory, parameters, extensions, and whether TLS can be done without.
type ConfigFiles = fn(Bytes, &BTreeMap<String, String>, &[String], bool) -> BTreeMap<&'static str, String>;

/// What is to be known of an engine; each engine's file has one.
#[derive(Debug)]
struct Facts {
    /// Spelling in the claim, in labels and on the volume.
    name: &'static str,
    /// TCP port.
    port: u16,
    /// `type` of the Service Binding specification, and scheme of its URIs.
    binding_type: &'static str,
    /// How many numbers name a series of versions that share a data format: `17`, `9.7`.
    series_numbers: usize,
    /// A series and an exact version of it, for messages.
    version_examples: [&'static str; 2],
    /// Configuration files by name, from the memory that the engine may use, and what the claim says.
    config_files: ConfigFiles,
    /// Parameters that a claim may set, by name.
    parameters: &'static [Parameter],
    /// Why a parameter that exists is not among them.
    kept_back: fn(&str) -> Option<&'static str>,
    /// The most that a parameter may be, where memory decides that.
    most: fn(&str, Bytes) -> Option<Bytes>,
    /// Parameters that the engine's use of memory grows with.
    take_memory: &'static [&'static str],
    /// Extensions that a claim may list.
    extensions: &'static [&'static str],
    /// Whether it takes over the settings of a larger size while it runs.
    grows_live: bool,
    /// Command that writes all data to its standard output, run beside the engine as its user.
    dump_command: fn() -> String,
    /// Whether rotated credentials have another login, since a role has one password only.
    two_logins: bool,
    /// What URIs ask for where TLS is required, and where it is not.
    uri_options: [&'static str; 2],
    /// The same of JDBC's URLs.
    jdbc_options: [&'static str; 2],
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
            EngineName::Mysql => Self::Mysql,
        }
    }
}

impl Engine {
    fn facts(self) -> &'static Facts {
        match self {
            Self::Postgres => &postgres::FACTS,
            Self::Mysql => &mysql::FACTS,
        }
    }

    /// Spelling in the claim, in labels and on the volume.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// TCP port of the database.
    pub fn port(self) -> u16 {
        self.facts().port
    }

    /// `type` of the Service Binding specification.
    pub fn binding_type(self) -> &'static str {
        self.facts().binding_type
    }

    /// How many numbers name a series of versions that share a data format: one (`17`), or two (`9.7`).
    pub fn series_numbers(self) -> usize {
        self.facts().series_numbers
    }

    /// A series and an exact version of it, for messages.
    pub fn version_examples(self) -> [&'static str; 2] {
        self.facts().version_examples
    }

    /// Configuration files by name, from the memory that the engine may use. `parameters` and `extensions` are of
    /// those that may be set, and valid. `plaintext`: connections over the network are let in without TLS as well.
    pub fn config_files(
        self,
        memory: Bytes,
        parameters: &BTreeMap<String, String>,
        extensions: &[String],
        plaintext: bool,
    ) -> BTreeMap<&'static str, String> {
        (self.facts().config_files)(memory, parameters, extensions, plaintext)
    }

    /// Extensions that a claim may list: those of the stock image that give no way out of the database.
    pub fn extensions(self) -> &'static [&'static str] {
        self.facts().extensions
    }

    /// Parameters that a claim may set, by name.
    pub fn parameters(self) -> &'static [Parameter] {
        self.facts().parameters
    }

    /// Why a parameter may not be set to a value; `None` if it may. `memory` is what the engine may use.
    pub fn refuses(self, name: &str, value: &str, memory: Bytes) -> Option<String> {
        let facts = self.facts();
        if let Some(rule) = (facts.kept_back)(name) {
            return Some(format!("cannot be set: {rule}"));
        }
        let Some(parameter) = facts.parameters.iter().find(|it| it.name == name) else {
            return Some(format!(
                "is not one of the parameters of {} that can be set; they are listed in docs/parameters.md",
                facts.name
            ));
        };
        if !parameter.takes.accepts(value) {
            return Some(format!("is {value:?} and must be {}", parameter.takes));
        }
        let most = (facts.most)(name, memory).filter(|most| parameter.takes.more_than(value, most.0))?;
        Some(format!(
            "is {value:?} and must be at most {most}, of the {memory} that the size leaves to the engine"
        ))
    }

    /// Whether the engine's use of memory grows with a parameter.
    pub fn takes_memory(self, name: &str) -> bool {
        self.facts().take_memory.contains(&name)
    }

    /// Whether it takes over the settings of a larger size while it runs, so that it needs no restart for one. What it
    /// does not take over may wait.
    pub fn grows_live(self) -> bool {
        self.facts().grows_live
    }

    /// Command that writes all data to its standard output, run beside the engine as its user.
    pub fn dump_command(self) -> String {
        (self.facts().dump_command)()
    }

    /// Login of rotated credentials, by that of the ones before. `username`: the application role.
    pub fn next_login(self, username: &str, login: &str) -> String {
        if self.facts().two_logins && login == username {
            return second_login(username);
        }
        username.to_owned()
    }

    /// URI for the engine's own drivers and tools; every part percent-encoded. It asks for encryption where that
    /// is required. It cannot ask for verification, which takes a file with the authority whose path only the
    /// client knows.
    pub fn uri(self, to: &Connection<'_>) -> String {
        let (scheme, port, host) = (self.binding_type(), self.port(), to.host);
        let [user, password, database] = to.encoded();
        let options = match asked(self.facts().uri_options, to) {
            "" => String::new(),
            options => format!("?{options}"),
        };
        format!("{scheme}://{user}:{password}@{host}:{port}/{database}{options}")
    }

    /// URL for JDBC drivers.
    pub fn jdbc_uri(self, to: &Connection<'_>) -> String {
        let (scheme, port, host) = (self.binding_type(), self.port(), to.host);
        let [user, password, database] = to.encoded();
        let options = asked(self.facts().jdbc_options, to);
        format!("jdbc:{scheme}://{host}:{port}/{database}?user={user}&password={password}&{options}")
    }

    /// The TLS mode by the name that libpq gives it, as its own entry for libraries that build their own address from
    /// the parts. `None` where the engine's addresses have no such mode.
    pub fn sslmode(self, to: &Connection<'_>) -> Option<&'static str> {
        asked(self.facts().uri_options, to).strip_prefix("sslmode=")
    }
}

fn asked([required, otherwise]: [&'static str; 2], to: &Connection<'_>) -> &'static str {
    if to.plaintext { otherwise } else { required }
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
        assert_eq!(
            Engine::Mysql.uri(&to),
            "mysql://a%40b:p%40ss%3A%2F%3F%23%5B%5D%25%20%C3%A9%26@h.example:3306/app"
        );
        assert_eq!(
            Engine::Mysql.jdbc_uri(&to),
            "jdbc:mysql://h.example:3306/app?user=a%40b&password=p%40ss%3A%2F%3F%23%5B%5D%25%20%C3%A9%26&sslMode=REQUIRED"
        );
    }
}
