//! The recipes of the PostgreSQL images.

use super::engine::Recipe;
use super::oci::RunConfig;

/// One PostgreSQL image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Postgres {
    reference: &'static str,
    /// The Debian suite that has this major version.
    suite: &'static str,
    major: &'static str,
    /// Where the official image keeps its data; it moved with version 18.
    data: &'static str,
}

pub(super) const POSTGRES_17: Postgres = Postgres {
    reference: "docker.io/library/postgres:17",
    suite: "trixie",
    major: "17",
    data: "/var/lib/postgresql/data",
};

pub(super) const POSTGRES_18: Postgres = Postgres {
    reference: "docker.io/library/postgres:18",
    suite: "sid",
    major: "18",
    data: "/var/lib/postgresql/18/docker",
};

const ESSENTIAL_HOOK: &str = include_str!("postgres-essential.sh");
const CUSTOMIZE_HOOK: &str = include_str!("postgres-customize.sh");

/// LLVM is half of the size and only serves JIT.
const EXCLUDED: [&str; 5] = [
    "/usr/lib/*-linux-gnu/libLLVM*",
    "/usr/lib/*-linux-gnu/libz3.so*",
    "/usr/lib/postgresql/*/lib/llvmjit*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
    "/usr/lib/llvm-*",
];

impl Recipe for Postgres {
    fn reference(&self) -> &'static str {
        self.reference
    }

    fn name(&self) -> String {
        format!("postgres-{}", self.major)
    }

    fn run_config(&self) -> RunConfig {
        let Self { major, data, .. } = self;
        RunConfig {
            env: vec![
                format!(
                    "PATH=/usr/lib/postgresql/{major}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                ),
                "LANG=C.UTF-8".into(),
                format!("PG_MAJOR={major}"),
                format!("PGDATA={data}"),
            ],
            // As the official image: what runs as PID 1 in it is asked to stop with SIGINT, not SIGTERM.
            stop_signal: "SIGINT".into(),
            ..RunConfig::default()
        }
    }

    fn packages(&self) -> String {
        format!("postgresql-{}", self.major)
    }

    fn suite(&self) -> &'static str {
        self.suite
    }

    fn hooks(&self) -> [&'static str; 2] {
        [ESSENTIAL_HOOK, CUSTOMIZE_HOOK]
    }

    fn excluded(&self) -> &'static [&'static str] {
        &EXCLUDED
    }

    fn text(&self) -> String {
        format!("{self:?}")
    }
}
