//! The engines that every scenario runs on.

/// An engine.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Postgres,
}

impl Engine {
    pub const ALL: [Self; 1] = [Self::Postgres];

    /// Spelling in a claim.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
        }
    }
}
