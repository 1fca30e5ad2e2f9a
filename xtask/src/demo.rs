//! `cargo xtask demo`: from a fresh checkout to the dashboard on a running lab.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sys::termios::{FlushArg, tcflush};
use xtask_support::exit::usage;
use xtask_support::{cargo, root, setup};

/// The options of `lab`. xtask checks them before it builds anything.
#[derive(Args)]
pub(crate) struct Options {
    /// Scenario to show; `--list` lists them [default: patterns]
    scenario: Option<OsString>,
    /// List the scenarios and exit
    #[arg(long)]
    list: bool,
    /// Show no dashboard: run for a limited time and print the report on stdout
    #[arg(long)]
    headless: bool,
    /// Format of the report
    #[arg(long, value_parser = ["table", "json"], requires = "headless")]
    format: Option<String>,
    /// End after this time, such as 30s or 2m [default: 10s with --headless, otherwise when you quit the dashboard]
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    duration: Option<String>,
    /// End the load after this time but keep the servers running: when all is served, listentop's counts equal theirs
    #[arg(long, value_name = "TIME", value_parser = time)]
    load_for: Option<String>,
    /// SYN cookies in the lab; without a value `on`
    #[arg(long, value_name = "WHEN", value_parser = ["off", "on", "always"], require_equals = true, num_args = 0..=1,
          default_missing_value = "on")]
    cookies: Option<String>,
    /// Set tcp_abort_on_overflow in the lab: clients get a reset instead of waiting
    #[arg(long)]
    abort_on_overflow: bool,
    /// Seed for the random arrivals of the load
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// More options for the lab, after `--`
    #[arg(last = true)]
    rest: Vec<OsString>,
}

impl Options {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = self.scenario.iter().cloned().collect();
        let flags = [(self.headless, "--headless"), (self.abort_on_overflow, "--abort-on-overflow")];
        arguments.extend(flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.into()));
        let values = [
            ("--format", self.format.as_ref().map(OsString::from)),
            ("--for", self.duration.as_ref().map(OsString::from)),
            ("--load-for", self.load_for.as_ref().map(OsString::from)),
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

/// A time that the lab accepts, unchanged.
fn time(text: &str) -> Result<String, String> {
    duration_arg::parse(text).map(|_| text.to_owned())
}

/// A scenario, described by its source: the list needs no build.
struct Scenario {
    name: String,
    summary: String,
}

impl Scenario {
    fn read(name: &str, source: &str) -> Option<Self> {
        let line = source.lines().find_map(|line| line.trim_start().strip_prefix("summary: \""))?;
        Some(Self { name: name.to_owned(), summary: line.strip_suffix("\",")?.to_owned() })
    }
}

/// The scenarios, sorted. Each is a file of its own.
fn scenarios(root: &Path) -> Result<Vec<Scenario>> {
    let dir = root.join("demo-servers/src/lab/scenarios");
    let context = || format!("cannot read {}", dir.display());
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(&dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) else { continue };
        if name != "mod" {
            let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            scenarios
                .push(Scenario::read(name, &source).with_context(|| format!("{} has no summary", path.display()))?);
        }
    }
    scenarios.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(scenarios)
}

/// Refuses what the lab would refuse, before its build of some minutes.
fn check(options: &Options) -> Result<()> {
    if let Some(scenario) = &options.scenario {
        let known: Vec<String> = scenarios(&cargo::root())?.into_iter().map(|known| known.name).collect();
        if !known.iter().any(|name| **name == *scenario) {
            let known = known.join(", ");
            return Err(usage(format!("unknown scenario '{}': the scenarios are {known}", scenario.display())));
        }
    }
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !(options.headless || on_terminal) {
        return Err(usage("the dashboard needs a terminal: use --headless for a report".to_owned()));
    }
    Ok(())
}

/// Sets up, builds, becomes root and execs the lab. Returns only on failure.
///
/// # Errors
/// When an option is wrong, a step fails or root is out of reach.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for Scenario { name, summary } in scenarios(&cargo::root())? {
            println!("{name:<12} {summary}");
        }
        return Ok(());
    }
    check(options)?;
    root::ensure_reachable("the demo")?;
    setup::run()?;
    let binaries = cargo::build_for_demo()?;
    let mut lab = match root::command(&binaries.lab)? {
        Ok(lab) => lab,
        Err(reason) => bail!(root::unreachable("the demo", &reason)),
    };
    lab.args(options.arguments()).arg("--listentop").arg(&binaries.listentop);
    if !options.headless {
        // Keys typed during the build were not meant for the dashboard: a `q` would close it. Where they cannot be
        // discarded they reach it.
        let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    }
    // The lab replaces this process: signals and the terminal are its own from here on.
    Err(lab.exec()).with_context(|| format!("cannot run {}", lab.get_program().display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Options, Scenario, check, scenarios};
    use xtask_support::exit::Usage;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn options_reach_the_lab() {
        let given = "demo overflow --headless --format json --for 2m --load-for 3 --cookies --seed 7 -- --extra";
        let passed: Vec<_> = "overflow --headless --format json --for 2m --load-for 3 --seed 7 --cookies=on --extra"
            .split(' ')
            .collect();
        assert_eq!(Cli::parse_from(given.split(' ')).options.arguments(), passed);
    }

    #[test]
    fn an_unknown_scenario_is_refused_before_the_build() {
        let known = scenarios(&xtask_support::cargo::root()).unwrap();
        let known: Vec<&str> = known.iter().map(|scenario| &*scenario.name).collect();
        assert!(known.contains(&"overflow") && !known.contains(&"mod"), "{known:?}");
        let options = |given: &str| Cli::parse_from(given.split(' ')).options;
        check(&options("demo overflow --headless")).unwrap();
        let error = check(&options("demo nosuch --headless")).unwrap_err();
        assert!(error.is::<Usage>());
        assert_eq!(error.to_string(), format!("unknown scenario 'nosuch': the scenarios are {}", known.join(", ")));
    }

    #[test]
    fn the_summary_is_read_from_the_source() {
        let source =
            "pub(super) const SCENARIO: Scenario = Scenario {\n    name: \"one\",\n    summary: \"it: shows\",\n};\n";
        assert_eq!(Scenario::read("one", source).unwrap().summary, "it: shows");
        assert!(Scenario::read("one", "const X: u8 = 1;").is_none());
    }

    #[test]
    fn mistakes_are_refused() {
        for given in [
            "demo --nonsense",
            "demo --cookies=maybe",
            "demo --headless --format xml",
            "demo --format json",
            "demo --seed x",
            "demo --headless --for abc",
            "demo --for 0",
            "demo --load-for soon",
        ] {
            assert!(Cli::try_parse_from(given.split(' ')).is_err(), "{given}");
        }
    }
}
