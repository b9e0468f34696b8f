//! devcluster.
fn main() {}
