//! The built-in class: sizes, versions and images. It resolves what a claim leaves open.
//! Pure; knows nothing of Kubernetes objects.

use crate::api::v1::{EngineName, SizeName};
use crate::claim::quantity::{Bytes, Millicores};
use crate::claim::{EngineImage, Size};

/// Name of the class that serves where there is no `DatabaseClass`.
pub const BUILT_IN: &str = "built-in";

/// All sizes, the smallest first: each has more of everything than the one before.
pub const SIZES: [SizeName; 3] = [SizeName::Small, SizeName::Medium, SizeName::Large];

/// What the built-in class has for a size.
pub fn size(name: SizeName) -> Size {
    let gib = |n| Bytes(n * Bytes::GIB);
    match name {
        SizeName::Small => Size {
            name: "small",
            cpu_request: Millicores(250),
            cpu_limit: Millicores(1000),
            memory: Bytes(512 * Bytes::MIB),
            storage: gib(5),
        },
        SizeName::Medium => Size {
            name: "medium",
            cpu_request: Millicores(1000),
            cpu_limit: Millicores(2000),
            memory: gib(2),
            storage: gib(20),
        },
        SizeName::Large => Size {
            name: "large",
            cpu_request: Millicores(4000),
            cpu_limit: Millicores(8000),
            memory: gib(16),
            storage: gib(100),
        },
    }
}

/// Series of versions, oldest first, and the default. MySQL: the ones with long-term support.
pub fn majors(engine: EngineName) -> (&'static [&'static str], &'static str) {
    match engine {
        EngineName::Postgres => (&["17", "18"], "17"),
        EngineName::Mysql => (&["8.4", "9.7"], "9.7"),
    }
}

/// The official image of a version (`17` or `17.5`, `9.7` or `9.7.4`). The Debian-based PostgreSQL images and
/// the MySQL images use uid and gid 999: <https://github.com/docker-library/postgres>,
/// <https://github.com/docker-library/mysql>.
pub fn image(engine: EngineName, version: &str) -> EngineImage {
    let repository = match engine {
        EngineName::Postgres => "postgres",
        EngineName::Mysql => "mysql",
    };
    EngineImage {
        reference: format!("docker.io/library/{repository}:{version}"),
        uid: 999,
        gid: 999,
    }
}
