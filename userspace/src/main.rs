//! The command `listentop`.

mod memory;

use std::process::ExitCode;

fn main() -> ExitCode {
    memory::share_heaps();
    listentop::cli::main()
}
