//! `cargo xtask`: everything a newcomer or a developer runs on this checkout. `cargo xtask --help` lists it.

mod bench;
mod cargo;
mod demo;
#[path = "../../demo-servers/src/duration.rs"]
mod duration;
mod fuzz;
mod kernels;
mod lint;
mod process;
mod root;
mod setup;
mod testing;
mod toolchain;

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 unusable command line, 3 (bench) a step back: a bound is missed that was met before, or the probes are heavier; demo ends \
                           with listentop's own, and 128+N when it was ended by signal N";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, after_help = EXIT_STATUS, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what a build of the probes needs and is missing: rust-src, and a bpf-linker inside the checkout
    Setup,
    /// Build listentop, the demo servers, the load generators and the lab in release
    Build {
        /// Build listentop alone, as one file that runs on every Linux of this architecture
        #[arg(long = "static")]
        alone: bool,
    },
    /// Show listentop at work: a lab of servers under load, in a network namespace of its own
    Demo(demo::Options),
    /// Run all tests: unit tests as the user you are, kernel tests as root
    Test,
    /// Look for input that breaks the reader of the kernel's BTF
    Fuzz(fuzz::Options),
    /// Run the kernel tests on Debian's kernels from 5.10 to 7.x, in virtual machines
    Kernels(kernels::Options),
    /// Check formatting, clippy for host and BPF target, and the documentation
    Lint,
    /// Measure what listentop costs, against the budget; as root, in a network namespace of its own
    Bench(bench::Options),
    #[command(hide = true)]
    BenchInside(bench::Inside),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let text = error.to_string();
            // What follows the first paragraph repeats the usage.
            let line = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("xtask: {line} (`cargo xtask --help` and `cargo xtask TASK --help` tell more)");
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    let done = match cli.task {
        Task::Setup => setup::run_and_tell(),
        Task::Build { alone: false } => setup::run().and_then(|()| cargo::build_release()).map(drop),
        Task::Build { alone: true } => setup::run_static().and_then(|()| cargo::build_static()).map(|path| {
            println!("{}", path.display());
        }),
        Task::Demo(options) => demo::run(&options),
        Task::Test => testing::run(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Kernels(options) => kernels::run(&options),
        Task::Lint => lint::run(),
        Task::Bench(options) => bench::run(&options),
        Task::BenchInside(inside) => bench::run_inside(&inside),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            match error {
                error if error.is::<Usage>() => ExitCode::from(2),
                error if error.is::<bench::Missed>() || error.is::<bench::Heavier>() => ExitCode::from(3),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// A request that the command line expresses but that cannot be carried out.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// A [`Usage`] error as `anyhow::Error`.
pub(crate) fn usage(message: String) -> anyhow::Error {
    Usage(message).into()
}
