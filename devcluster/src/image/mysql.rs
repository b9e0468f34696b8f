//! The recipe of the MySQL image. Debian has MySQL only in `sid`, and only its newest series.

use super::engine::Recipe;
use super::oci::RunConfig;

pub(super) const MYSQL_9_7: Mysql = Mysql {
    reference: "docker.io/library/mysql:9.7",
    suite: "sid",
    series: "9.7",
};

/// One MySQL image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mysql {
    reference: &'static str,
    /// The Debian suite that has this series.
    suite: &'static str,
    series: &'static str,
}

const ESSENTIAL_HOOK: &str = include_str!("mysql-essential.sh");
const CUSTOMIZE_HOOK: &str = include_str!("mysql-customize.sh");

impl Recipe for Mysql {
    fn reference(&self) -> &'static str {
        self.reference
    }

    fn name(&self) -> String {
        format!("mysql-{}", self.series)
    }

    fn run_config(&self) -> RunConfig {
        RunConfig {
            env: vec![
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
                format!("MYSQL_MAJOR={}", self.series),
            ],
            ..RunConfig::default()
        }
    }

    fn packages(&self) -> String {
        "mysql-server-core,mysql-client-core".into()
    }

    fn suite(&self) -> &'static str {
        self.suite
    }

    fn hooks(&self) -> [&'static str; 2] {
        [ESSENTIAL_HOOK, CUSTOMIZE_HOOK]
    }

    fn excluded(&self) -> &'static [&'static str] {
        &[]
    }

    fn text(&self) -> String {
        format!("{self:?}")
    }
}
