//! `cargo xtask demo`: from a fresh checkout to the dashboard on a running lab.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{cargo, root, setup};

/// The options of `lab`, known here so that a mistyped one is refused before anything is built.
#[derive(Args)]
pub(crate) struct Options {
    /// What to show; `--list` names the scenarios [default: patterns]
    scenario: Option<OsString>,
    /// List the scenarios and exit
    #[arg(long)]
    list: bool,
    /// No dashboard: run for a bounded time and print the report on stdout
    #[arg(long)]
    headless: bool,
    /// Form of the report
    #[arg(long, value_parser = ["table", "json"], requires = "headless")]
    format: Option<String>,
    /// End after so many seconds [default: 10 with --headless, otherwise when the dashboard is left]
    #[arg(long = "for", value_name = "SECONDS")]
    duration: Option<OsString>,
    /// SYN cookies in the lab; alone it means `on`
    #[arg(long, value_name = "WHEN", value_parser = ["off", "on", "always"], require_equals = true, num_args = 0..=1,
          default_missing_value = "on")]
    cookies: Option<String>,
    /// Set tcp_abort_on_overflow in the lab: clients are reset instead of left waiting
    #[arg(long)]
    abort_on_overflow: bool,
    /// Seed of the load's random arrivals
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Further options for the lab, after `--`
    #[arg(last = true)]
    rest: Vec<OsString>,
}

impl Options {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = self.scenario.iter().cloned().collect();
        let flags =
            [(self.list, "--list"), (self.headless, "--headless"), (self.abort_on_overflow, "--abort-on-overflow")];
        arguments.extend(flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.into()));
        let values = [
            ("--format", self.format.as_ref().map(OsString::from)),
            ("--for", self.duration.clone()),
            ("--seed", self.seed.map(|seed| seed.to_string().into())),
        ];
        for (flag, value) in values {
            arguments.extend(value.into_iter().flat_map(|value| [flag.into(), value]));
        }
        arguments.extend(self.cookies.iter().map(|when| format!("--cookies={when}").into()));
        arguments.extend(self.rest.iter().cloned());
        arguments
    }
}

/// The scenarios, each a file of its own, sorted.
fn scenarios(root: &Path) -> Result<Vec<String>> {
    let dir = root.join("demo-servers/src/lab/scenarios");
    let context = || format!("cannot read {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(context)? {
        let name = entry.with_context(context)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned));
    }
    names.retain(|name| name != "mod");
    names.sort_unstable();
    Ok(names)
}

/// Refuses what the lab would refuse, before minutes go into building it.
fn check(options: &Options) -> Result<()> {
    if let Some(scenario) = &options.scenario {
        let known = scenarios(&cargo::root())?;
        ensure!(
            known.iter().any(|name| **name == *scenario),
            "unknown scenario '{}': the scenarios are {}",
            scenario.display(),
            known.join(", ")
        );
    }
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    ensure!(
        options.list || options.headless || on_terminal,
        "the dashboard needs a terminal: use --headless for a report"
    );
    Ok(())
}

/// Sets up, builds, becomes root and turns into the lab; returns only when that fails.
///
/// # Errors
/// When an option cannot be meant, a step fails or root is out of reach.
pub(crate) fn run(options: &Options) -> Result<()> {
    check(options)?;
    if !options.list {
        root::ensure_reachable("the demo")?;
    }
    setup::run()?;
    let binaries = cargo::build_release()?;
    let mut lab = if options.list {
        std::process::Command::new(&binaries.lab)
    } else {
        match root::command(&binaries.lab)? {
            Ok(lab) => lab,
            Err(reason) => bail!(root::unreachable("the demo", &reason)),
        }
    };
    lab.args(options.arguments()).arg("--listentop").arg(&binaries.listentop);
    // Replaced rather than waited for: signals and the terminal are the lab's from here on.
    Err(lab.exec()).with_context(|| format!("cannot run {}", lab.get_program().display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Options, check, scenarios};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn options_reach_the_lab() {
        let given = "demo overflow --headless --format json --for 3 --cookies --seed 7 -- --extra";
        let passed: Vec<_> =
            "overflow --headless --format json --for 3 --seed 7 --cookies=on --extra".split(' ').collect();
        assert_eq!(Cli::parse_from(given.split(' ')).options.arguments(), passed);
    }

    #[test]
    fn an_unknown_scenario_is_refused_before_the_build() {
        let known = scenarios(&crate::cargo::root()).unwrap();
        assert!(known.iter().any(|name| name == "overflow") && known.iter().all(|name| name != "mod"), "{known:?}");
        let options = |given: &str| Cli::parse_from(given.split(' ')).options;
        check(&options("demo overflow --headless")).unwrap();
        let error = check(&options("demo nosuch --headless")).unwrap_err().to_string();
        assert_eq!(error, format!("unknown scenario 'nosuch': the scenarios are {}", known.join(", ")));
    }

    #[test]
    fn mistakes_are_refused() {
        for given in [
            "demo --nonsense",
            "demo --cookies=maybe",
            "demo --headless --format xml",
            "demo --format json",
            "demo --seed x",
        ] {
            assert!(Cli::try_parse_from(given.split(' ')).is_err(), "{given}");
        }
    }
}
