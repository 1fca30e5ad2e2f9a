//! `cargo xtask`: every task that a newcomer or a developer runs on this checkout. `cargo xtask --help` lists them.

mod delegate;
mod demo;
mod fuzz;
mod lint;
mod mutants;
mod sources;
mod testing;

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use xtask_support::{cargo, exit, setup};

const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 unusable command line, 3 (bench) worse than the committed figures. The demo \
                           exits with listentop's status, or with 128+N when signal N ended it.";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, after_help = EXIT_STATUS, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what a build of the probes needs: rust-src, and bpf-linker inside the checkout
    Setup,
    /// Build listentop, the demo servers, the load generators and the lab in release
    Build {
        /// Build only listentop, as one file that runs on every Linux of this architecture
        #[arg(long = "static")]
        alone: bool,
    },
    /// Show listentop at work: servers under load, in a network namespace of their own
    Demo(demo::Options),
    /// Run all tests: unit tests as the current user, kernel tests as root
    Test(testing::Options),
    /// Search for input that breaks the readers of the kernel's BTF and of recordings
    Fuzz(fuzz::Options),
    /// Run the kernel tests on Debian's kernels from 5.10 to 7.x, in virtual machines
    Kernels(delegate::Arguments),
    /// Check formatting, comments, clippy for host and BPF target, documentation, and dependencies
    Lint,
    /// Mutate the code and check that the tests catch the mutants (an hour or more)
    Mutants(mutants::Options),
    /// Make what users install: Debian package, RPM, tarball, checksums and bill of materials
    Dist(delegate::Arguments),
    /// Measure what listentop costs and compare it with the budget, as root, in a network namespace of its own
    Bench(delegate::Arguments),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return exit::unusable(&error.to_string(), "cargo xtask --help");
        }
        Err(help) => help.exit(),
    };
    match run(&cli.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failure(&error),
    }
}

fn run(task: &Task) -> Result<()> {
    match task {
        Task::Setup => setup::run_and_announce(),
        Task::Build { alone: false } => {
            setup::run().and_then(|()| cargo::build_release(cargo::Extent::Whole, &[])).map(drop)
        }
        Task::Build { alone: true } => {
            setup::run_static().and_then(|()| cargo::build_static(std::env::consts::ARCH)).map(|path| {
                println!("{}", path.display());
            })
        }
        Task::Demo(options) => demo::run(options),
        Task::Test(options) => testing::run(options),
        Task::Fuzz(options) => fuzz::run(options),
        Task::Kernels(arguments) => delegate::run("listentop-kernels", arguments).map(drop),
        Task::Lint => lint::run(),
        Task::Mutants(options) => mutants::run(options),
        Task::Dist(arguments) => delegate::run("listentop-dist", arguments).map(drop),
        Task::Bench(arguments) => delegate::run("listentop-bench", arguments).map(drop),
    }
}
