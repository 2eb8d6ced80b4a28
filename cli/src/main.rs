//! The `gavel` executable; everything is in the library beside it.

use std::process::ExitCode;

/// Every transaction is some dozens of small allocations that one thread makes and another frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gavel_cli::main()
}
