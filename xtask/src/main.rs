//! listentop.
fn main() {}
