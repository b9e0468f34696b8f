//! The recipes of the PostgreSQL images.

use super::engine::Recipe;
use super::maven::Artefact;
use super::oci::RunConfig;

/// One PostgreSQL image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Postgres {
    reference: &'static str,
    /// The Debian suite that has this major version.
    suite: &'static str,
    major: &'static str,
    /// An older version of it, which Debian has no more.
    older: Option<Older>,
    /// Where the official image keeps its data; it moved with version 18.
    data: &'static str,
}

/// A version that is had as an artefact: server and extensions, without clients.
#[derive(Debug, Clone, Copy)]
struct Older {
    version: &'static str,
    /// Libraries that it does not bring along, as Debian packages.
    needs: &'static str,
}

pub(super) const POSTGRES_17: Postgres = Postgres {
    reference: "docker.io/library/postgres:17",
    suite: "trixie",
    major: "17",
    older: None,
    data: "/var/lib/postgresql/data",
};

/// For upgrades within the series.
pub(super) const POSTGRES_17_5: Postgres = Postgres {
    reference: "docker.io/library/postgres:17.5",
    older: Some(Older {
        version: "17.5",
        needs: "tzdata",
    }),
    ..POSTGRES_17
};

pub(super) const POSTGRES_18: Postgres = Postgres {
    reference: "docker.io/library/postgres:18",
    suite: "sid",
    major: "18",
    older: None,
    data: "/var/lib/postgresql/18/docker",
};

const ESSENTIAL_HOOK: &str = include_str!("postgres-essential.sh");
const CUSTOMIZE_HOOK: &str = include_str!("postgres-customize.sh");
const UNPACK_HOOK: &str = include_str!("postgres-unpack.sh");

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
        format!("postgres-{}", self.older.map_or(self.major, |it| it.version))
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
        match self.older {
            Some(older) => older.needs.to_owned(),
            None => format!("postgresql-{}", self.major),
        }
    }

    fn artefact(&self) -> Option<Artefact> {
        let version = self.older?.version;
        let platform = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64v8",
            other => other,
        };
        Some(Artefact {
            coordinates: format!(
                "io.zonky.test.postgres:embedded-postgres-binaries-linux-{platform}:{version}.0"
            ),
            hook: UNPACK_HOOK,
        })
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
