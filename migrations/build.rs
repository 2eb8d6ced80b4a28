//! Tells Cargo that a new migration file changes this crate: `migrate!` cannot.

fn main() {
    println!("cargo:rerun-if-changed=sql");
}
