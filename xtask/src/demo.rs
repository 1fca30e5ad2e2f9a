//! `cargo xtask demo`: from a fresh checkout to the dashboard on a running lab.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lessons::Lesson;
use lessons::real::{self, Kind};
use nix::sys::termios::{FlushArg, tcflush};
use xtask_support::exit::usage;
use xtask_support::{cargo, root, setup};

/// The options of `lab`. xtask checks them before it builds anything.
#[derive(Args)]
pub(crate) struct Options {
    /// Lesson to show, or `course` for the menu of lessons; `--list` lists them [default: patterns]
    lesson: Option<String>,
    /// List the lessons in course order and exit
    #[arg(long)]
    list: bool,
    /// Run the lesson without the dashboard, and check what it expects: exit status 1 if an expectation does not hold
    #[arg(long, conflicts_with_all = ["headless", "list", "duration", "load_for"])]
    check: bool,
    /// With --check: in the short form
    #[arg(long, requires = "check")]
    short: bool,
    /// Start the lesson with its deliberate mistake, which its expectations must notice
    #[arg(long)]
    spoil: bool,
    /// Run the lesson's load against a real server that is installed: nginx, haproxy or redis
    #[arg(long, value_name = "KIND", value_parser = Kind::parse, conflicts_with_all = ["check", "spoil"])]
    server: Option<Kind>,
    /// Start a program of the lesson with other options, such as 'load:default --pieces 3'
    #[arg(long, value_name = "PROGRAM OPTIONS")]
    with: Vec<String>,
    /// Do not ask for a prediction first
    #[arg(long)]
    no_quiz: bool,
    /// Predict this answer of the lesson's question, by its number, instead of being asked
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["no_quiz", "headless", "list"])]
    predict: Option<usize>,
    /// Write the outcome to this file at the end, as JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["headless", "list"])]
    outcome: Option<OsString>,
    /// Show no dashboard: run for a limited time and print the report on stdout
    #[arg(long)]
    headless: bool,
    /// Format of the report, of the list or of what --check prints
    #[arg(long, value_parser = ["table", "text", "json"])]
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
        let mut arguments: Vec<OsString> = self.lesson.iter().map(OsString::from).collect();
        let flags = [
            (self.headless, "--headless"),
            (self.check, "--check"),
            (self.short, "--short"),
            (self.spoil, "--spoil"),
            (self.no_quiz, "--no-quiz"),
            (self.abort_on_overflow, "--abort-on-overflow"),
        ];
        arguments.extend(flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.into()));
        let values = [
            ("--format", self.format.as_ref().map(OsString::from)),
            ("--for", self.duration.as_ref().map(OsString::from)),
            ("--load-for", self.load_for.as_ref().map(OsString::from)),
            ("--seed", self.seed.map(|seed| seed.to_string().into())),
            ("--predict", self.predict.map(|number| number.to_string().into())),
            ("--outcome", self.outcome.clone()),
            ("--server", self.server.map(|kind| kind.name().into())),
        ];
        for (flag, value) in values {
            arguments.extend(value.into_iter().flat_map(|value| [flag.into(), value]));
        }
        arguments.extend(self.with.iter().flat_map(|change| ["--with".into(), change.into()]));
        arguments.extend(self.cookies.iter().map(|when| format!("--cookies={when}").into()));
        arguments.extend(self.rest.iter().cloned());
        arguments
    }
}

/// A time that the lab accepts, unchanged.
fn time(text: &str) -> Result<String, String> {
    duration_arg::parse(text).map(|_| text.to_owned())
}

/// The lesson to show. Refuses what the lab would refuse, before its build of some minutes.
fn check(options: &Options) -> Result<Option<&'static Lesson>> {
    if options.format.is_some() && !(options.headless || options.check || options.list) {
        return Err(usage("--format is for --headless, --check and --list".to_owned()));
    }
    let lesson = match options.lesson.as_deref() {
        Some(lessons::MENU) if options.headless || options.check || options.server.is_some() => {
            return Err(usage("the menu of lessons needs a terminal and no --server: name a lesson".to_owned()));
        }
        Some(lessons::MENU) => None,
        named => Some(lessons::find(named.unwrap_or(lessons::DEFAULT)).map_err(usage)?),
    };
    if let (Some(lesson), Some(kind)) = (lesson, options.server) {
        real::find(lesson, kind).map_err(usage)?;
    }
    match (lesson, options.predict) {
        (None, Some(_)) => return Err(usage("--predict is for one lesson: name it".to_owned())),
        (Some(lesson), Some(number)) => drop(lesson.answer(number).map_err(usage)?),
        _ => {}
    }
    if let Some(lesson) = lesson {
        options.with.iter().try_for_each(|change| lesson.has_program(change)).map_err(usage)?;
    }
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !(options.headless || options.check || on_terminal) {
        return Err(usage("the dashboard needs a terminal: use --check or --headless for a report".to_owned()));
    }
    Ok(lesson)
}

/// The list of lessons. It needs no build.
fn list(options: &Options) -> Result<()> {
    let text = match options.format.as_deref() {
        Some("json") => format!("{:#}\n", lessons::list_json()),
        _ => lessons::list_text(),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // `--list | head` is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// The packages to build besides the usual ones.
fn packages(lesson: &Lesson, server: Option<Kind>) -> Vec<&'static str> {
    let mut packages = lesson.extra_packages();
    let real = real::ALL.iter().filter(|real| real.lesson == lesson.name && Some(real.kind) == server);
    packages.extend(real.filter_map(|real| Some(real.load?.0.package)));
    packages
}

/// Sets up, builds, becomes root and execs the lab. Returns only on failure.
///
/// # Errors
/// When an option is wrong, a step fails or root is out of reach.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        return list(options);
    }
    let lesson = check(options)?;
    root::ensure_reachable("the demo")?;
    setup::run()?;
    let extra = lesson.map(|lesson| packages(lesson, options.server)).unwrap_or_default();
    // The menu leads to all lessons.
    let blames = lesson.is_none_or(Lesson::blames);
    let extent = if blames { cargo::Extent::DemoWithBlame } else { cargo::Extent::Demo };
    let binaries = cargo::build_release(extent, &extra)?;
    let mut lab = match root::command(&binaries.lab)? {
        Ok(lab) => lab,
        Err(reason) => bail!(root::unreachable("the demo", &reason)),
    };
    lab.args(options.arguments()).arg("--listentop").arg(&binaries.listentop);
    if !(options.headless || options.check) {
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

    use super::{Options, check};
    use xtask_support::exit::Usage;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(given: &str) -> Options {
        Cli::parse_from(given.split(' ')).options
    }

    #[test]
    fn options_reach_the_lab() {
        let given = "demo overflow --headless --format json --for 2m --load-for 3 --cookies --seed 7 -- --extra";
        let passed: Vec<_> = "overflow --headless --format json --for 2m --load-for 3 --seed 7 --cookies=on --extra"
            .split(' ')
            .collect();
        assert_eq!(options(given).arguments(), passed);
        let given = "demo overflow --check --predict 2 --outcome file";
        assert_eq!(options(given).arguments(), given.split(' ').skip(1).collect::<Vec<_>>());
        let given = "demo overflow --check --short --spoil --no-quiz";
        assert_eq!(options(given).arguments(), given.split(' ').skip(1).collect::<Vec<_>>());
    }

    #[test]
    fn an_unknown_lesson_is_refused_before_the_build() {
        assert_eq!(check(&options("demo overflow --headless")).unwrap().unwrap().name, "overflow");
        assert_eq!(check(&options("demo --check")).unwrap().unwrap().name, lessons::DEFAULT);
        let error = check(&options("demo nosuch --headless")).unwrap_err();
        assert!(error.is::<Usage>());
        assert!(error.to_string().starts_with("unknown lesson 'nosuch': the lessons are "), "{error}");
        assert!(check(&options("demo overflow --format json")).unwrap_err().is::<Usage>());
        assert!(check(&options("demo course --check")).unwrap_err().is::<Usage>());
        for wrong in ["overflow --check --predict 9", "course --predict 1", "overflow --check --with server:nobody"] {
            let error = check(&options(&format!("demo {wrong}"))).expect_err(wrong);
            assert!(error.is::<Usage>() && error.to_string().lines().count() == 1, "{error}");
        }
        assert!(check(&options("demo overflow --check --predict 1 --with load:slow_acceptor")).is_ok());
    }

    #[test]
    fn mistakes_are_refused() {
        for given in [
            "demo --nonsense",
            "demo --cookies=maybe",
            "demo --headless --format xml",
            "demo --short",
            "demo --check --headless",
            "demo --seed x",
            "demo --headless --for abc",
            "demo --for 0",
            "demo --load-for soon",
            "demo --server apache",
            "demo --server nginx --check",
        ] {
            assert!(Cli::try_parse_from(given.split(' ')).is_err(), "{given}");
        }
    }
}
