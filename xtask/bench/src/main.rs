//! `cargo xtask bench`: what listentop costs, against the budget.

mod attached;
mod background;
mod blame;
mod bound;
mod budget;
mod dashboard;
mod figures;
mod first_frame;
mod instructions;
mod latency;
mod listeners;
mod load;
mod machine;
mod million;
mod namespace;
mod options;
mod probe_stats;
mod probe_time;
mod programs;
mod report;
mod rounds;
mod suite;
mod terminal;
mod tool;
mod usage;
mod web;
mod work;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use xtask_support::{cargo, exit, root, setup};

use options::Options;
use programs::Programs;

/// Exit status when a figure got worse than the committed one.
const WORSE: u8 = 3;

const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 unusable command line, 3 worse than before: the figures miss \
                           a bound that the committed ones meet, or the probes execute more instructions";

/// Measure what listentop costs and compare it with the budget, as root, in a network namespace of its own
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench", after_help = EXIT_STATUS, max_term_width = 120)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    inside: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// The bench itself, inside its namespaces
    #[command(hide = true)]
    Inside {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: Programs,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return exit::unusable(&error.to_string(), "cargo xtask bench --help"),
        Err(help) => help.exit(),
    };
    let done = match &cli.inside {
        Some(Task::Inside { options, programs }) => suite::run(options, programs),
        None => run(&cli.options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let status = exit::failure(&error);
            let worse = error.is::<suite::Missed>() || error.is::<instructions::Heavier>();
            if worse { ExitCode::from(WORSE) } else { status }
        }
    }
}

/// Builds as the user, then goes on as root in its own namespaces.
///
/// # Errors
/// When a step fails or root is out of reach.
fn run(options: &Options) -> Result<()> {
    if options.instructions {
        return instructions::run(options.write);
    }
    root::ensure_reachable("the bench")?;
    setup::run()?;
    let mut arguments: Vec<OsString> = vec!["inside".into()];
    arguments.extend(options.flags().into_iter().map(OsString::from));
    arguments.extend(programs::arguments(cargo::build_release(cargo::Extent::Whole, &[])?));
    namespace::enter(&env::current_exe().context("cannot find this program's own file")?, &arguments)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Cli, Task};

    #[test]
    fn options_and_programs_reach_the_bench_inside() {
        let inside = "bench inside --quick --listentop /l --demo-server /d --storm /s --stress /t";
        let Some(Task::Inside { options, programs }) = Cli::parse_from(inside.split(' ')).inside else {
            panic!("not parsed as the bench inside");
        };
        assert_eq!(options.flags(), ["--quick"]);
        assert_eq!((programs.listentop.to_str(), programs.stress.to_str()), (Some("/l"), Some("/t")));
    }

    #[test]
    fn kinds_of_measurements_exclude_each_other() {
        let load = "bench inside --quick --load keep-alive --listentop /l --demo-server /d --storm /s --stress /t";
        let Some(Task::Inside { options, .. }) = Cli::parse_from(load.split(' ')).inside else {
            panic!("not parsed as the bench inside");
        };
        assert_eq!(options.flags(), ["--quick", "--load", "keep-alive"]);
        for given in ["bench --million --quick", "bench --dashboard --write", "bench --instructions --million"] {
            assert!(Cli::try_parse_from(given.split(' ')).is_err(), "{given}");
        }
    }
}
