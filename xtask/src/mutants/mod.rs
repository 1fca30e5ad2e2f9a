//! `cargo xtask mutants`: how many mutants of the code the tests catch.
//!
//! A mutant is the code with one small change, such as `<` instead of `<=`. cargo-mutants builds each mutant and runs
//! the unit tests and the snapshot tests on it. Exclusions are in `.cargo/mutants.toml`.

mod groups;
mod outcomes;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use xtask_support::exit::usage;
use xtask_support::{cargo, process, setup, toolchain, tools};

use groups::{GROUPS, Group};
use outcomes::Outcomes;

/// cargo-mutants exits with these codes when it has tested everything: all caught, some missed, some timed out.
const TESTED: [i32; 3] = [0, 2, 3];

/// What to mutate.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this group of code; can be given more than once [default: all]
    #[arg(long = "group", value_name = "NAME", value_parser = groups::names())]
    groups: Vec<String>,
    /// Only this package
    #[arg(long, value_name = "NAME")]
    package: Option<String>,
    /// Only these files of the groups, such as userspace/model/src/histogram.rs; can be given more than once
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only the K-th of N equal parts of each group, counted from 0
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Mutants that are built and tested at the same time [default: one for each CPU, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: Option<u8>,
}

/// Tests all mutants of the chosen groups, and prints the caught shares.
///
/// # Errors
/// When a group's share is under its bound, or its mutants cannot be tested.
pub(crate) fn run(options: &Options) -> Result<()> {
    let groups = options.groups()?;
    let root = cargo::root();
    // listentop's build script needs it, in the copies too.
    setup::run()?;
    let program = tools::MUTANTS.install(&root)?;
    let mut results = Vec::new();
    for group in groups {
        process::announce(&format!("mutants: {} ({})", group.name, group.package));
        results.push((group, test(group, options, &program, &root)?));
    }
    let missed = results.iter().flat_map(|(_, outcomes)| &outcomes.missed_names);
    missed.for_each(|name| println!("missed: {name}"));
    print!("\n{}", table(&results));
    conclude(&results)
}

impl Options {
    /// The groups to test.
    fn groups(&self) -> Result<Vec<&'static Group>> {
        let chosen = |group: &&Group| {
            (self.groups.is_empty() || self.groups.iter().any(|name| name == group.name))
                && self.package.as_ref().is_none_or(|package| package == group.package)
        };
        let groups: Vec<&Group> = GROUPS.iter().filter(chosen).collect();
        if groups.is_empty() {
            let known: Vec<String> = GROUPS.iter().map(|group| format!("{} ({})", group.name, group.package)).collect();
            return Err(usage(format!("no group of code fits: the groups are {}", known.join(", "))));
        }
        Ok(groups)
    }

    /// cargo-mutants' arguments for a group, but for the output.
    fn arguments(&self, group: &Group) -> Vec<String> {
        let jobs = self.jobs.map_or_else(usual_jobs, usize::from);
        let mut arguments = vec![format!("--jobs={jobs}"), format!("--package={}", group.package)];
        arguments.extend(group.files.iter().map(|glob| format!("--file={glob}")));
        arguments.extend(group.excluded.iter().map(|glob| format!("--exclude={glob}")));
        arguments.extend(group.test_packages.iter().map(|package| format!("--test-package={package}")));
        arguments.extend(group.test_targets.iter().map(|target| format!("--cargo-test-arg=--test={target}")));
        arguments.extend(self.shard.iter().map(|shard| format!("--shard={shard}")));
        if !self.files.is_empty() {
            // cargo-mutants joins files by "or". The groups' own globs would let everything in.
            arguments.retain(|argument| !argument.starts_with("--file="));
            arguments.extend(self.files.iter().map(|file| format!("--file={}", file.display())));
        }
        arguments
    }
}

/// Builds use a CPU each, most of the time; more than 8 would need more memory than machines have.
fn usual_jobs() -> usize {
    thread::available_parallelism().map_or(1, |cpus| cpus.get().clamp(1, 8))
}

/// Runs cargo-mutants on a group. Where no mutant fits the options, all counts are 0.
fn test(group: &Group, options: &Options, program: &Path, root: &Path) -> Result<Outcomes> {
    let directory = root.join("target/mutants").join(group.name);
    let results = directory.join("mutants.out");
    if results.exists() {
        // cargo-mutants leaves them when it finds no mutants, and they would count.
        fs::remove_dir_all(&results).with_context(|| format!("cannot remove {}", results.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut command = Command::new(program);
    toolchain::forget_outer_build(&mut command);
    command.current_dir(root).env(toolchain::TOOLS_VARIABLE, toolchain::tools_dir(root));
    command.arg("mutants").args(options.arguments(group)).arg("--output").arg(&directory);
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    let tested = status.code().is_some_and(|code| TESTED.contains(&code));
    ensure!(tested, "cargo-mutants could not test the mutants of {} ({status})", group.name);
    let path = results.join("outcomes.json");
    if !path.exists() {
        return Ok(Outcomes::default());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Outcomes::parse(&text).with_context(|| format!("{} has an unknown form", path.display()))
}

fn table(results: &[(&Group, Outcomes)]) -> String {
    let mut text = format!(
        "{:<12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
        "group", "viable", "caught", "missed", "unviable", "share", "bound"
    );
    for (group, outcomes) in results {
        let share = outcomes.share().map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let _ = writeln!(
            text,
            "{:<12} {:>8} {:>8} {:>8} {:>8} {share:>8} {:>6.1} %",
            group.name,
            outcomes.viable(),
            outcomes.caught,
            outcomes.missed,
            outcomes.unviable,
            group.bound * 100.0
        );
    }
    text
}

/// Fails when a group is under its bound. A group without viable mutants has no share.
fn conclude(results: &[(&Group, Outcomes)]) -> Result<()> {
    let under = |(group, outcomes): &&(&Group, Outcomes)| outcomes.share().is_some_and(|share| share < group.bound);
    let under: Vec<&str> = results.iter().filter(under).map(|(group, _)| group.name).collect();
    if !under.is_empty() {
        bail!("the tests catch too few mutants of: {}", under.join(", "));
    }
    process::announce("mutants: the tests catch enough");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::groups::GROUPS;
    use super::outcomes::Outcomes;
    use super::{Options, conclude, table};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(given: &str) -> Options {
        Cli::parse_from(given.split(' ')).options
    }

    fn outcomes(caught: u64, missed: u64) -> Outcomes {
        Outcomes { caught, missed, unviable: 4, missed_names: Vec::new() }
    }

    #[test]
    fn a_share_at_the_bound_is_enough_and_one_below_is_not() {
        let model = &GROUPS[0];
        assert!((model.bound - 0.95).abs() < 1e-9);
        conclude(&[(model, outcomes(95, 5))]).unwrap();
        let error = conclude(&[(model, outcomes(949, 51)), (&GROUPS[1], outcomes(9, 1))]).unwrap_err();
        assert_eq!(error.to_string(), "the tests catch too few mutants of: model");
        conclude(&[(model, outcomes(0, 0))]).unwrap();
    }

    #[test]
    fn the_table_has_the_share_of_viable_mutants() {
        let text = table(&[(&GROUPS[0], outcomes(19, 1)), (&GROUPS[1], outcomes(0, 0))]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["model", "20", "19", "1", "4", "95.0", "%", "95.0", "%"]);
        assert_eq!(lines[2], ["words", "0", "0", "0", "4", "-", "90.0", "%"]);
    }

    #[test]
    fn groups_are_chosen_by_name_and_package() {
        let names = |given| options(given).groups().unwrap().iter().map(|group| group.name).collect::<Vec<_>>();
        assert_eq!(names("mutants").len(), GROUPS.len());
        assert_eq!(names("mutants --package listentop-model"), ["model", "words"]);
        assert_eq!(names("mutants --group words --group report"), ["words", "report"]);
        assert!(options("mutants --group words --package listentop").groups().is_err());
        assert!(Cli::try_parse_from(["mutants", "--group", "kernel"]).is_err());
    }

    #[test]
    fn files_replace_those_of_the_group_and_exclusions_stay() {
        let arguments = options("mutants --file a.rs --file b.rs --shard 0/4 --jobs 3").arguments(&GROUPS[0]);
        assert_eq!(
            arguments,
            [
                "--jobs=3",
                "--package=listentop-model",
                "--exclude=userspace/model/src/words/**",
                "--shard=0/4",
                "--file=a.rs",
                "--file=b.rs"
            ]
        );
    }
}
