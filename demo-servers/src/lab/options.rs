//! Command line of `lab`.

use crate::duration;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Format {
    /// As listentop's option.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
        }
    }
}

/// net.ipv4.tcp_syncookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cookies {
    /// 0: a full SYN queue drops
    Off,
    /// 1: a full SYN queue answers with cookies
    On,
    /// 2: every SYN is answered with a cookie
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

/// Servers under load in a network namespace of their own, with listentop watching them.
///
/// Needs root. Nothing is left behind: the namespace has no name and all processes end with the lab.
#[derive(Debug, Clone, Parser)]
#[command(name = "lab", version)]
pub struct Options {
    /// What to show [default: patterns]; --list names the scenarios
    pub scenario: Option<String>,
    /// List the scenarios and exit
    #[arg(long)]
    pub list: bool,
    /// No dashboard: run for a bounded time and print listentop's report on stdout
    #[arg(long)]
    pub headless: bool,
    /// Form of the report [default: table]
    #[arg(long, value_enum, requires = "headless")]
    pub format: Option<Format>,
    /// End after this time, such as 30s or 2m [default: 10s with --headless, otherwise when the dashboard is left]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// End the load after this time and go on watching: once all is served, what listentop shows is what the programs
    /// counted
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub load_for: Option<Duration>,
    /// listentop's binary [default: beside the lab's]
    #[arg(long, value_name = "PATH")]
    pub listentop: Option<PathBuf>,
    /// SYN cookies in the lab's namespace, `on` if without a value [default: as the scenario wants]
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub cookies: Option<Cookies>,
    /// Set tcp_abort_on_overflow in the lab's namespace: clients are reset instead of left waiting
    #[arg(long)]
    pub abort_on_overflow: bool,
    /// Seed of the load's random arrivals
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// For tests: panic when the load runs
    #[arg(long, hide = true)]
    pub panic: bool,
}

impl Options {
    /// How long a headless run measures.
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
        parse(arguments).map_err(|refusal| refusal.line)
    }

    #[test]
    fn cookies_need_no_value() {
        assert_eq!(options("overflow --cookies --headless").unwrap().cookies, Some(Cookies::On));
        assert_eq!(options("overflow --cookies=always").unwrap().cookies, Some(Cookies::Always));
        assert_eq!(options("--cookies overflow").unwrap().scenario.as_deref(), Some("overflow"));
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
        ] {
            let error = options(bad).expect_err(bad);
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
