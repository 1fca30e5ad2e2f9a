//! The command `listentop`.

use std::process::ExitCode;

fn main() -> ExitCode {
    listentop::cli::main()
}
