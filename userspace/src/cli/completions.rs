//! `listentop completions`.

use clap::{Args, ValueEnum};

use super::Failure;

/// Options of the completions.
#[derive(Debug, Clone, Args)]
#[cfg_attr(not(feature = "manual"), expect(dead_code, reason = "this build only says what it lacks"))]
pub(super) struct Options {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// A shell that completes command lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// GNU Bash
    Bash,
    /// Elvish
    Elvish,
    /// fish
    Fish,
    /// Z shell
    Zsh,
}

/// This build has none.
#[cfg(not(feature = "manual"))]
pub(super) fn run(_: &Options) -> Result<u8, Failure> {
    Err(Failure::Usage(super::man::lacking("completions")))
}

/// Prints them.
#[cfg(feature = "manual")]
pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    use clap::CommandFactory as _;

    let shell = match options.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Elvish => clap_complete::Shell::Elvish,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::options::Cli::command(), "listentop", &mut script);
    super::print("standard output", &String::from_utf8_lossy(&script))?;
    Ok(super::OK)
}
