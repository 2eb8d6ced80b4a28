//! The `gavel` executable; everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    gavel_cli::main()
}
