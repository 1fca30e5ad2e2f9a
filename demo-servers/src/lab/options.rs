//! Command line of `lab`.

use crate::cli::usage;
use crate::duration;
use clap::{Parser, ValueEnum};
use lessons::real::Kind;
use std::path::PathBuf;
use std::time::Duration;

/// Format of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[value(alias = "text")]
    Table,
    /// JSON for programs.
    Json,
}

impl Format {
    /// The value of listentop's option.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
        }
    }
}

/// When the kernel answers SYNs with cookies (sysctl net.ipv4.tcp_syncookies).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cookies {
    /// tcp_syncookies=0: a full SYN queue drops SYNs
    Off,
    /// tcp_syncookies=1: a full SYN queue answers SYNs with cookies
    On,
    /// tcp_syncookies=2: every SYN is answered with a cookie
    Always,
}

impl Cookies {
    /// The value of the sysctl.
    #[must_use]
    pub fn value(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::On => "1",
            Self::Always => "2",
        }
    }
}

/// Starts demo servers, clients that load them, and listentop, which shows what happens: a lesson.
///
/// Needs root. Servers and clients run in a network namespace of their own, so the machine's network is not affected.
/// All of it ends with the lab.
#[derive(Debug, Clone, Parser)]
#[command(name = "lab", version)]
pub struct Options {
    /// The lesson to show: see --list; or `course` for the menu [default: patterns]
    pub lesson: Option<String>,
    /// List the lessons in course order and exit
    #[arg(long)]
    pub list: bool,
    /// Run the lesson without the dashboard for its own length, and check what it expects: exit status 1 if an
    /// expectation does not hold
    #[arg(long, conflicts_with_all = ["headless", "list", "duration", "load_for"])]
    pub check: bool,
    /// With --check: in the short form, for tests
    #[arg(long, requires = "check")]
    pub short: bool,
    /// Start the lesson with its deliberate mistake, which its expectations must notice
    #[arg(long)]
    pub spoil: bool,
    /// Run the lesson's load against a real server that is installed: nginx, haproxy or redis, where the lesson has a
    /// place for it. It counts in its own way, so what the lesson expects of its counters is unknown
    #[arg(long, value_name = "KIND", value_parser = Kind::parse, conflicts_with_all = ["check", "spoil"])]
    pub server: Option<Kind>,
    /// Start a program of the lesson with other options, such as 'load:default --pieces 3' or 'server:old --backlog 4':
    /// they take the place of the lesson's own of the same name. May be given several times
    #[arg(long, value_name = "PROGRAM OPTIONS")]
    pub with: Vec<String>,
    /// Do not ask for a prediction first
    #[arg(long)]
    pub no_quiz: bool,
    /// Predict this answer of the lesson's question, by its number: nobody is asked, and the outcome says what became
    /// of it
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["no_quiz", "headless", "list"])]
    pub predict: Option<usize>,
    /// Write the outcome to this file at the end, as JSON: prediction, expectations, totals, Little's law
    #[arg(long, value_name = "FILE", conflicts_with_all = ["headless", "list"])]
    pub outcome: Option<PathBuf>,
    /// Without the dashboard: measure for the time of --for, then print listentop's report on stdout
    #[arg(long)]
    pub headless: bool,
    /// Format of the report, of the list or of what --check prints [default: table]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// End after this time, such as 30s or 2m [default: 10s with --headless, otherwise when you quit the dashboard]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// End the clients after this time, and go on measuring. When all connections are served, listentop's counts equal
    /// those of the programs
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub load_for: Option<Duration>,
    /// The listentop program to run [default: the one in the directory of the lab's program]
    #[arg(long, value_name = "PATH")]
    pub listentop: Option<PathBuf>,
    /// SYN cookies in the lab's namespace; without a value: on [default: the lesson's choice]
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub cookies: Option<Cookies>,
    /// Set tcp_abort_on_overflow in the lab's namespace: a full accept queue resets clients instead of ignoring them
    #[arg(long)]
    pub abort_on_overflow: bool,
    /// Seed of the clients' random arrival times
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// For tests: panic when the clients run
    #[arg(long, hide = true)]
    pub panic: bool,
}

impl Options {
    /// Refuses combinations that have no meaning.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.format.is_some() && !(self.headless || self.check || self.list) {
            return Err(usage("--format is for --headless, --check and --list"));
        }
        Ok(())
    }

    /// The time that a headless run measures.
    #[must_use]
    pub fn report_duration(&self) -> Duration {
        self.duration.unwrap_or(Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn options(arguments: &str) -> Result<Options, String> {
        let arguments = std::iter::once("lab").chain(arguments.split_whitespace()).map(Into::into);
        let options: Options = parse(arguments).map_err(|refusal| refusal.line)?;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn cookies_need_no_value() {
        assert_eq!(options("overflow --cookies --headless").unwrap().cookies, Some(Cookies::On));
        assert_eq!(options("overflow --cookies=always").unwrap().cookies, Some(Cookies::Always));
        assert_eq!(options("--cookies overflow").unwrap().lesson.as_deref(), Some("overflow"));
        assert_eq!(options("").unwrap().cookies, None);
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            "--format json",
            "--for 0 --headless",
            "--for abc",
            "--load-for abc",
            "--headless --format xml",
            "one two",
            "--cookies=maybe",
            "--short",
            "--check --headless",
            "--check --for 5s",
            "overflow --predict 1 --no-quiz",
            "overflow --predict one",
            "overflow --predict 1 --headless",
            "overflow --outcome file --headless",
        ] {
            let error = options(bad).expect_err(bad);
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
