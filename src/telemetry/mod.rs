//! Logs, metrics, traces and the operator's own HTTP server. Uses nothing but `api`: it is told what happens and
//! does not know why.

pub mod http;
pub mod logs;
pub mod metrics;
mod page;
mod process;
pub mod requests;
pub mod traces;
