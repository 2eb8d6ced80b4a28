//! The `gavel` executable; everything is in the library beside it.

fn main() {}
