//! Cargo's own tools, such as cargo-deny, pinned and installed inside the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, process, toolchain};

/// A program from crates.io that `cargo install` builds.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Its name, which is that of its package too.
    pub name: &'static str,
    /// The version that this checkout uses.
    pub version: &'static str,
    /// How long its build takes, for the announcement.
    pub takes: &'static str,
}

/// Fuzzes the BTF reader.
pub const FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", takes: "a minute" };
/// Checks dependencies.
pub const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", takes: "one to three minutes" };
/// Mutates the code.
pub const MUTANTS: Tool = Tool { name: "cargo-mutants", version: "27.1.0", takes: "one to three minutes" };

impl Tool {
    /// Its path, after it was installed if it is missing or has another version. A finished installation stays.
    ///
    /// # Errors
    /// When it cannot be built; the first time it needs the network.
    pub fn install(&self, root: &Path) -> Result<PathBuf> {
        let tools = toolchain::tools_dir(root);
        let program = tools.join("bin").join(self.name);
        let version = Command::new(&program).args(self.version_arguments()).output();
        if version.is_ok_and(|output| self.is_pinned(&String::from_utf8_lossy(&output.stdout))) {
            return Ok(program);
        }
        let Self { name, version, takes } = self;
        process::announce(&format!("installing {name} {version} inside the checkout ({takes}, once)"));
        let build = tools.join("build").join(name);
        let mut install = Command::new(cargo::program());
        toolchain::forget_outer_build(&mut install);
        // Without optimizations, which take longer than they save: each runs for seconds, or waits for cargo.
        install.current_dir(root).args(["install", name, "--debug", "--locked", "--force", "--quiet", "--version"]);
        install.arg(format!("={version}")).arg("--root").arg(&tools).arg("--target-dir").arg(&build);
        // Otherwise cargo advises to add the directory to PATH, which nothing here needs.
        install.env("PATH", crate::setup::path_with(&tools.join("bin"))?);
        let what = format!("installing {name}");
        process::run(&mut install, &what).context("the first time it needs the network")?;
        // Only after success: an interrupted build goes on where it stopped.
        std::fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
        Ok(program)
    }

    /// A subcommand of cargo that is run directly takes its own name first.
    fn version_arguments(&self) -> &'static [&'static str] {
        if self.name == MUTANTS.name { &["mutants", "--version"] } else { &["--version"] }
    }

    fn is_pinned(&self, version: &str) -> bool {
        version.trim() == format!("{} {}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::FUZZ;

    #[test]
    fn another_version_is_replaced() {
        assert!(FUZZ.is_pinned("cargo-fuzz 0.13.2\n"));
        assert!(!FUZZ.is_pinned("cargo-fuzz 0.12.0\n") && !FUZZ.is_pinned(""));
    }
}
