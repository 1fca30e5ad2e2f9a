//! `cargo xtask kernels`: the kernel tests on Debian's kernels, in virtual machines.

use std::process::ExitCode;

fn main() -> ExitCode {
    listentop_kernels::main()
}
