//! The `fanline` binary.
fn main() {}
