//! The command `listentop`.

mod memory;

use std::process::ExitCode;

fn main() -> ExitCode {
    listentop::cli::main()
}
