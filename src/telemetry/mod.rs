//! Logs and the operator's own HTTP server. Uses nothing but `api`.

pub mod http;
pub mod logs;
