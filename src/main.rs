//! The `portcullis` binary: wiring and printing only.

fn main() {}
