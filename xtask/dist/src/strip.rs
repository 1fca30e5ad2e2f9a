//! The program without what only a debugger reads.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use xtask_support::process;
use xtask_support::toolchain::Toolchain;

use crate::contents::read;

/// The program without debug information and symbols: a fifth of its size. LLVM's objcopy handles every architecture.
///
/// # Errors
/// The compiler has no objcopy, or that fails.
pub(crate) fn stripped(program: &Path, compiler: &Toolchain) -> Result<Vec<u8>> {
    let mut objcopy = compiler.objcopy().with_context(|| {
        format!("{} has no rust-objcopy, which rustup's toolchains have", compiler.sysroot.display())
    })?;
    let copy = program.with_extension("stripped");
    objcopy.arg("--strip-all").arg(program).arg(&copy);
    process::run(&mut objcopy, "stripping the program")?;
    let bytes = read(&copy)?;
    fs::remove_file(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    Ok(bytes)
}
