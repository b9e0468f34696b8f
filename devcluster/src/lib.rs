//! A real, throw-away Kubernetes on this machine.

pub mod image;
pub mod operator;
pub mod storage;
