//! OpenHDV.
fn main() {}
