//! The engine's administrator, by the programs that come with the engine, and the application by the same.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use crate::engines::Engine;
use crate::member::Member;
use crate::mysql;

impl Member {
    /// Statements as the administrator; rows as text. PostgreSQL: in this database.
    pub(crate) fn administer(&self, database: &str, statements: &str) -> Result<String, String> {
        match self.needs.engine {
            Engine::Mysql => mysql::administer(self, self.needs.uid, statements),
            Engine::Postgres => {
                let mut psql = self.postgres_program("psql");
                psql.uid(self.needs.uid).gid(self.needs.gid);
                psql.arg("--host").arg(self.root.join("run/dbclaim"));
                psql.args([
                    "--username=postgres",
                    "--dbname",
                    database,
                    "--quiet",
                    "--no-align",
                ]);
                psql.args([
                    "--tuples-only",
                    "--no-psqlrc",
                    "--set=ON_ERROR_STOP=1",
                    "--command",
                    statements,
                ]);
                said(&psql.output().unwrap())
            }
        }
    }

    /// A program of PostgreSQL as the application, over TCP with a password.
    pub(crate) fn tool(&self, program: &str, password: &str, arguments: &[&str]) -> Result<String, String> {
        let mut tool = self.postgres_program(program);
        tool.env("PGPASSWORD", password)
            .env("PGHOST", "127.0.0.1")
            .env("PGUSER", self.login);
        said(&tool.args(arguments).output().unwrap())
    }

    fn postgres_program(&self, program: &str) -> Command {
        let mut command = Command::new(self.needs.bin.join(program));
        command
            .env_clear()
            .env("PGPORT", self.port.to_string())
            .current_dir("/");
        command
    }
}

fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}
