//! `cargo xtask kernels`: the kernel tests on Debian's kernels from 5.10 to 7.x, each in a virtual machine of its own.

mod apt;
pub mod architecture;
mod archive;
mod boot;
mod expected;
pub mod guest;
pub mod image;
pub mod machine;
mod modules;
mod outcome;
pub mod packages;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use apt::Apt;
use architecture::Architecture;
use boot::{Boot, Booted, Kind};
use expected::{Entry, Expected};
use guest::Programs;
use image::Image;
use packages::Kernel;
use xtask_support::{cargo, exit, process};

/// The kernels that are tested by default.
const SERIES: [&str; 6] = ["5.10", "6.1", "6.12", "6.12-rt", "6.18", "7"];

/// The kernel that also boots with many possible CPUs.
const MANY_CPUS: &str = "6.18";

/// Run the kernel tests on Debian's kernels from 5.10 to 7.x, in virtual machines
#[derive(Parser)]
#[command(bin_name = "cargo xtask kernels", max_term_width = 120)]
struct Options {
    /// Kernels, such as 6.12 or 6.1.0-50: the newest that Debian has of each; 6.12-rt: a real-time one; 6.12-arm64: one
    /// for Arm [default: 5.10 6.1 6.12 6.12-rt 6.18 7]
    versions: Vec<String>,
    /// Write the results to xtask/kernels.toml and docs/kernels.md, instead of comparing them
    #[arg(long, conflicts_with = "test")]
    write: bool,
    /// Run no tests: only find out what each source can measure on each kernel
    #[arg(long, conflicts_with = "test")]
    measures: bool,
    /// Run only tests whose name contains this
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// Use only this source of samples
    #[arg(long, value_name = "NAME", value_parser = boot::BACKENDS)]
    probes: Option<String>,
    /// Run all tests, also those that do not depend on the kernel
    #[arg(long)]
    all: bool,
    /// Machines that run at a time, with 2 GiB of memory each [default: three for two CPUs, at most 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: Option<u8>,
    /// Debian mirror for the kernels [default: the one that this machine's apt uses]
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => return exit::unusable(&error.to_string(), "cargo xtask kernels --help"),
        Err(help) => help.exit(),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failure(&error),
    }
}

/// Runs the tests in every machine, prints the table, and compares it with the committed one.
///
/// # Errors
/// When something is missing, a test fails, or a kernel differs from the table.
fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let architectures = architectures(&series(options));
    for &architecture in &architectures {
        machine::ensure_available(architecture)?;
    }
    let root = cargo::root();
    let mut expected = Expected::read(&root)?;
    let dir = root.join("target/kernels");
    let boots = boots(options, &dir)?;
    let programs: Vec<(Architecture, Programs)> = architectures
        .into_iter()
        .map(|architecture| Ok((architecture, Programs::build(architecture)?)))
        .collect::<Result<_>>()?;
    let booted = run_all(&boots, &programs, &expected, options, &dir)?;

    let mut found = Expected { measures: measures(&booted), runs: Vec::new() };
    let mut wrong = Vec::new();
    for (boot, booted) in boots.iter().zip(&booted) {
        wrong.extend(booted.trouble.iter().map(|trouble| format!("{}: {trouble}", boot.title())));
        for (backend, outcome) in &booted.outcomes {
            let name = format!("{} × {backend}", boot.title());
            wrong.extend(outcome.troubles.iter().map(|trouble| format!("{name}: {trouble}")));
            found.runs.push(Entry::of(&boot.title(), backend, outcome));
        }
    }
    println!("{}", table::plain(&found));
    if options.write {
        report(&wrong)?;
        expected.measures.clone_from(&found.measures);
        for mut entry in found.runs {
            if let Some(known) = expected.entry(&entry.kernel, &entry.backend).filter(|_| options.measures) {
                (entry.tests, entry.skipped, entry.failing) =
                    (known.tests, known.skipped.clone(), known.failing.clone());
            }
            expected.put(entry);
        }
        expected.write(&root)?;
        table::write(&root, &expected)?;
        process::announce(&format!("wrote {} and {}: review them", expected::FILE, table::DOCUMENT));
    } else {
        wrong.extend(differences(&expected, &found, options));
        if !table::is_current(&root, &expected)? {
            wrong.push(format!("{} does not show the table in {}", table::DOCUMENT, expected::FILE));
        }
        report(&wrong)?;
    }
    println!("{}", summary(&booted, start.elapsed().as_secs()));
    Ok(())
}

/// Finds a kernel, and downloads it the first time.
///
/// # Errors
/// When Debian has no such kernel, or a step fails.
pub fn obtain(series: &str, dir: &Path) -> Result<(Kernel, Image)> {
    let mut found = obtain_all(&[series], dir, None)?;
    found.pop().with_context(|| format!("Debian has no kernel {series} now"))
}

fn obtain_all(series: &[&str], dir: &Path, mirror: Option<&str>) -> Result<Vec<(Kernel, Image)>> {
    // Find all before the first download.
    let mut sources = Vec::new();
    let mut kernels = Vec::new();
    for architecture in architectures(series) {
        let place = match architecture {
            Architecture::X86 => dir.join("apt"),
            Architecture::Arm => dir.join("apt-arm64"),
        };
        let apt = Apt::new(&place, architecture, mirror)?;
        sources.push((architecture, apt.kernel_packages()?, apt));
    }
    for series in series {
        let architecture = packages::architecture_of(series);
        let source = sources.iter().find(|(other, ..)| *other == architecture);
        let (_, packages, apt) = source.context("a kernel without a source")?;
        let kernel = packages::newest(packages, series);
        kernels.push((kernel.with_context(|| format!("Debian has no kernel {series} now"))?, apt));
    }
    let images = dir.join("images");
    kernels.into_iter().map(|(kernel, apt)| image::obtain(apt, &kernel, &images).map(|image| (kernel, image))).collect()
}

/// What was asked for.
fn series(options: &Options) -> Vec<&str> {
    match &options.versions[..] {
        [] => SERIES.to_vec(),
        versions => versions.iter().map(String::as_str).collect(),
    }
}

/// The architectures of some series, each once.
fn architectures(series: &[&str]) -> Vec<Architecture> {
    let mut found: Vec<Architecture> = Vec::new();
    for series in series {
        let architecture = packages::architecture_of(series);
        if !found.contains(&architecture) {
            found.push(architecture);
        }
    }
    found
}

/// Finds the kernels, downloads missing ones, and returns all boots.
fn boots(options: &Options, dir: &Path) -> Result<Vec<Boot>> {
    let mut boots = Vec::new();
    for (kernel, image) in obtain_all(&series(options), dir, options.mirror.as_deref())? {
        let many = kernel.series == MANY_CPUS;
        let boot = |kind| Boot { kernel: kernel.clone(), image: image.clone(), kind };
        boots.push(boot(if kernel.is_real_time() { Kind::RealTime } else { Kind::Usual }));
        if many {
            boots.push(boot(Kind::ManyCpus));
        }
    }
    Ok(boots)
}

/// Runs all machines, some at a time. Those that take longest are first, so that no long one is left over at the end.
fn run_all(
    boots: &[Boot],
    programs: &[(Architecture, Programs)],
    expected: &Expected,
    options: &Options,
    dir: &Path,
) -> Result<Vec<Booted>> {
    let logs: PathBuf = dir.join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    // A machine leaves a third of its CPU idle: attaching and detaching functions mostly waits.
    let usual = || thread::available_parallelism().map_or(1, |cpus| (cpus.get() * 3 / 2).clamp(1, 6));
    let jobs = options.jobs.map_or_else(usual, usize::from);
    process::announce(&format!(
        "booting {} machines, {jobs} at a time; the logs are in {}",
        boots.len(),
        logs.display()
    ));
    let mut shortest_first: Vec<usize> = (0..boots.len()).collect();
    shortest_first.sort_by_key(|&at| boots[at].duration(expected));
    let waiting: Mutex<Vec<usize>> = Mutex::new(shortest_first);
    let done: Mutex<Vec<Option<Result<Booted>>>> = Mutex::new(boots.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(next) = next else { return };
                    let architecture = boots[next].kernel.architecture();
                    let programs = programs.iter().find(|(other, _)| *other == architecture);
                    let booted = programs
                        .context("there are no programs for this architecture")
                        .and_then(|(_, programs)| boots[next].run(programs, expected, options, &logs));
                    done.lock().unwrap_or_else(PoisonError::into_inner)[next] = Some(booted);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().map(|booted| booted.context("a machine was never started")?).collect()
}

/// All measures, in the tool's order.
fn measures(booted: &[Booted]) -> Vec<String> {
    let outcomes = booted.iter().flat_map(|booted| &booted.outcomes);
    let longest = outcomes.map(|(_, outcome)| &outcome.measures).max_by_key(|measures| measures.len());
    longest.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// The differences between the run and the committed table.
fn differences(expected: &Expected, found: &Expected, options: &Options) -> Vec<String> {
    let mut differences = Vec::new();
    for entry in &found.runs {
        let name = format!("{} × {}", entry.kernel, entry.backend);
        match expected.entry(&entry.kernel, &entry.backend) {
            Some(expected) => {
                let mut expected = expected.clone();
                if options.measures {
                    expected.skipped.clear();
                    expected.failing.clear();
                }
                if options.measures || options.test.is_some() || options.all {
                    expected.tests = entry.tests;
                }
                if let Some(test) = &options.test {
                    expected.skipped.retain(|name, _| name.contains(test.as_str()));
                    expected.failing.retain(|name, _| name.contains(test.as_str()));
                }
                differences.extend(expected.differences(entry).into_iter().map(|text| format!("{name}: {text}")));
            }
            // The table has no entries for other kernels: no test may fail there.
            None if !SERIES.iter().any(|series| entry.kernel.split(' ').next() == Some(series)) => {
                differences.extend(entry.failing.iter().map(|(test, why)| format!("{name}: {test} failed: {why}")));
            }
            None => differences.push(format!("{name}: {} has no entry for it: use --write", expected::FILE)),
        }
    }
    differences
}

/// Lists what is wrong; fails if the list is not empty.
fn report(wrong: &[String]) -> Result<()> {
    for what in wrong {
        println!("WRONG {what}");
    }
    ensure!(wrong.is_empty(), "the kernels differ from what is expected in {} points: see above", wrong.len());
    Ok(())
}

/// The closing line.
fn summary(booted: &[Booted], seconds: u64) -> String {
    let outcomes = || booted.iter().flat_map(|booted| &booted.outcomes).map(|(_, outcome)| outcome);
    let (running, refused): (Vec<_>, Vec<_>) = outcomes().partition(|outcome| outcome.refused.is_none());
    let passed: usize = running.iter().map(|outcome| outcome.passed.len()).sum();
    let skipped: usize = running.iter().map(|outcome| outcome.skipped.len()).sum();
    let failed: usize = running.iter().map(|outcome| outcome.failed.len()).sum();
    format!(
        "xtask kernels: {} machines, {} combinations of kernel and probes, {} refused as expected; {passed} tests passed, {failed} failed \
         as known, {skipped} skipped as expected, in {seconds} s",
        booted.len(),
        running.len(),
        refused.len(),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::expected::{Entry, Expected};
    use super::outcome::Outcome;
    use super::{Booted, Options, differences, summary};

    #[test]
    fn programs_are_built_once_for_each_architecture() {
        use super::{Architecture, architectures, series};
        assert_eq!(architectures(&series(&options("kernels"))), [Architecture::X86]);
        let both = options("kernels 6.12 6.12-arm64 6.1-arm64");
        assert_eq!(architectures(&series(&both)), [Architecture::X86, Architecture::Arm]);
    }

    fn options(given: &str) -> Options {
        Options::parse_from(given.split(' '))
    }

    fn table(kernel: &str, skipped: &[&str]) -> Expected {
        let entry = Entry {
            kernel: kernel.to_owned(),
            backend: "fentry".to_owned(),
            skipped: skipped.iter().map(|name| ((*name).to_owned(), "why".to_owned())).collect(),
            ..Entry::default()
        };
        Expected { measures: Vec::new(), runs: vec![entry] }
    }

    #[test]
    fn a_usual_kernel_needs_an_entry() {
        let nothing = Expected::default();
        let missing = differences(&nothing, &table("6.12", &[]), &options("kernels"));
        assert_eq!(missing, ["6.12 × fentry: xtask/kernels.toml has no entry for it: use --write"]);
        assert_eq!(differences(&nothing, &table("6.18 with 64 possible CPUs", &[]), &options("kernels")).len(), 1);
        assert!(differences(&nothing, &table("6.17", &[]), &options("kernels 6.17")).is_empty(), "no entry is needed");
    }

    #[test]
    fn a_selection_of_tests_is_compared_with_that_selection() {
        let expected = table("6.12", &["drops::a", "times::b"]);
        let found = table("6.12", &["times::b"]);
        assert_eq!(differences(&expected, &found, &options("kernels --test times::")), [""; 0]);
        let all = differences(&expected, &found, &options("kernels"));
        assert_eq!(all, ["6.12 × fentry: drops::a should be skipped, but is not"]);
        let none = table("6.12", &[]);
        assert_eq!(differences(&expected, &none, &options("kernels --measures")), [""; 0]);
    }

    #[test]
    fn a_selection_of_tests_is_not_written() {
        assert!(Options::try_parse_from(["kernels", "--write", "--test", "x"]).is_err());
        assert!(Options::try_parse_from(["kernels", "--probes", "kprobes"]).is_err());
    }

    #[test]
    fn the_closing_line_counts() {
        let outcome = |passed: &[&str]| Outcome {
            passed: passed.iter().map(|name| (*name).to_owned()).collect(),
            ..Outcome::default()
        };
        let refused = Outcome { refused: Some("no".to_owned()), ..outcome(&[]) };
        let outcomes = vec![("fentry", outcome(&["a", "b"])), ("tracepoint", refused)];
        let line = summary(&[Booted { outcomes, trouble: None }], 7);
        assert_eq!(
            line,
            "xtask kernels: 1 machines, 1 combinations of kernel and probes, 1 refused as expected; 2 tests passed, 0 failed \
             as known, 0 skipped as expected, in 7 s"
        );
    }
}
