//! What can be said on the command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use listentop_abi::limits;

use super::filter::Filter;
use crate::source::{self, live};

/// top(1) for listening sockets: how servers drain the kernel's SYN, accept and receive queues, and what overflows.
#[derive(Debug, Parser)]
#[command(name = "listentop", version, about, args_conflicts_with_subcommands = false)]
#[command(
    after_help = "The dashboard needs a terminal of at least 80x24. NO_COLOR in the environment, if it is not empty, turns colours off.\n\n\
                        Exit status: 0 done, 1 failed, or no terminal that the dashboard fits, 2 unusable command line, or a filter that \
                        nothing can pass, 3 it cannot measure here, 4 (doctor) only some of it, 128+N the dashboard was ended by signal N."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    top: Top,
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    pub(super) probing: Probing,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the dashboard (the default)
    Top(Top),
    /// Measure for a time and print what was seen
    Report(Report),
    /// Try every hook, and say what can be measured here, what cannot, why, and what would help
    #[command(after_help = "It leaves nothing attached. It needs no rights, and says more with them.\n\n\
                            Exit status: 0 complete, every measure can be had; 4 partial, some cannot; 3 impossible, no probes run \
                            here; 1 failed; 2 unusable command line.")]
    Doctor(Doctor),
}

/// Options of the dashboard.
#[derive(Debug, Clone, Args)]
pub(super) struct Top {
    /// Time between two refreshes (500ms, 1s) [default: 250ms]; the keys + and - change it
    #[arg(long, value_name = "TIME", value_parser = refresh)]
    refresh: Option<Duration>,
}

/// Options of the report.
#[derive(Debug, Clone, Args)]
pub(super) struct Report {
    /// How long to measure (10s, 500ms, 2m); SIGINT and SIGTERM end it early, and what was measured is printed
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) duration: Duration,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
}

/// Options of the doctor.
#[derive(Debug, Clone, Args)]
pub(super) struct Doctor {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs: schema 1, see docs/schema.md
    Json,
}

impl Cli {
    /// Time between two refreshes of the dashboard, wherever it was said.
    pub(super) fn refresh(&self) -> Duration {
        let of_command = match &self.command {
            Some(Command::Top(top)) => top.refresh,
            _ => None,
        };
        of_command.or(self.top.refresh).unwrap_or(Duration::from_millis(250))
    }

    /// An option that was given and that the command has no use for.
    pub(super) fn useless(&self) -> Option<String> {
        let (command, filters) = match &self.command {
            None | Some(Command::Top(_)) => return None,
            Some(Command::Report(_)) => ("report", false),
            Some(Command::Doctor(_)) => ("doctor", !self.filter.is_empty()),
        };
        let option = match (self.top.refresh, filters) {
            (Some(_), _) => "--refresh".to_owned(),
            (None, true) => self.filter.to_string(),
            (None, false) => return None,
        };
        Some(format!("{option} is not for '{command}'"))
    }
}

/// How the probes are set up.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Probes")]
pub(super) struct Probing {
    /// Listeners that can be tracked [default: twice as many as are found, 1024 at least]
    #[arg(long, global = true, value_name = "N", value_parser = listeners)]
    max_listeners: Option<u32>,
    /// Connections that can be tracked at a time, at least: those beyond are counted, and tracked from their accept on
    /// if there is room then
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_CONNECTIONS, value_parser = connections)]
    max_connections: u32,
    /// Threads that can be told apart: the work of those beyond is counted for the listener only
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_THREADS, value_parser = threads)]
    max_threads: u32,
    /// Have the kernel time every run of the probes, not just some: exact, and each run a little dearer
    #[arg(long, global = true)]
    probe_stats: bool,
    /// Print the probes' log on stderr: listeners that open and close, and what is lost. The dashboard wants it
    /// elsewhere (2>FILE)
    #[arg(long, global = true)]
    pub(super) log_probes: bool,
    /// Where to measure; one that is named and cannot run here is an error (exit status 3)
    #[arg(long, global = true, value_enum, default_value_t = Probes::Auto)]
    probes: Probes,
    /// Attach programs that return at once, to the same hooks: the floor under the cost of any probe
    #[arg(long, global = true, hide = true)]
    empty_programs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Probes {
    /// The best that runs here
    Auto,
    /// Functions (fentry, fexit): Linux 5.10 and later, where the kernel allows them
    Fentry,
    /// BTF and system call tracepoints: Linux 6.3 and later
    Tracepoint,
    /// No probes, no rights: depths and drops only, sampled from the kernel's list of sockets
    #[value(name = "sock_diag")]
    SockDiag,
}

impl Probing {
    pub(super) fn options(&self) -> source::Options {
        let probes = match self.probes {
            Probes::Auto => source::Probes::Auto,
            Probes::Fentry => source::Probes::Fentry,
            Probes::Tracepoint => source::Probes::Tracepoint,
            Probes::SockDiag => source::Probes::SockDiag,
        };
        let live = live::Options {
            max_listeners: self.max_listeners,
            max_connections: self.max_connections,
            max_threads: self.max_threads,
            max_dropped_clients: limits::DROPPED_CLIENTS,
            probe_stats: self.probe_stats,
            empty: self.empty_programs,
            log_probes: self.log_probes,
            // The source that is chosen says.
            kind: None,
            refuse: Vec::new(),
        };
        source::Options { probes, live }
    }
}

/// Nobody measures longer. (The clock's own end is far beyond, but not beyond what can be typed.)
const LONGEST: Duration = Duration::from_hours(8760);

/// `500ms`, `10s`, `2m`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) if seconds > LONGEST.as_secs_f64() => Some(Duration::MAX),
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(Duration::ZERO) => Err("it must be longer than nothing".to_owned()),
        Some(time) if time > LONGEST => Err("it must be at most a year (365d)".to_owned()),
        Some(time) => Ok(time),
        None => Err("a time is expected, such as 500ms, 10s or 2m; a bare number is seconds".to_owned()),
    }
}

/// A refresh between 20 times a second and once a minute: faster than eyes or slower than patience is a typing error.
fn refresh(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if (Duration::from_millis(50)..=Duration::from_secs(60)).contains(&parsed) {
        Ok(parsed)
    } else {
        Err("it must be from 50ms to 60s".to_owned())
    }
}

/// A whole number from 1 to `most`.
pub(super) fn number(text: &str, what: &str, most: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{what} is expected, a whole number from 1 to {most}")),
    }
}

fn listeners(text: &str) -> Result<u32, String> {
    number(text, "a number of listeners", 1 << 20)
}

fn connections(text: &str) -> Result<u32, String> {
    number(text, "a number of connections", 1 << 23)
}

fn threads(text: &str) -> Result<u32, String> {
    number(text, "a number of threads", 1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units_or_are_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("365d"), Ok(LONGEST));
        for (bad, words) in [
            ("", "a time is expected"),
            ("soon", "such as 500ms, 10s or 2m"),
            ("-1", "a time is expected"),
            ("nan", "a time is expected"),
            ("0", "longer than nothing"),
            ("366d", "at most a year"),
            ("1e19", "at most a year"),
            ("1e30", "at most a year"),
            ("inf", "at most a year"),
            ("18446744073709551615s", "at most a year"),
        ] {
            let error = duration(bad).expect_err(bad);
            assert!(error.contains(words), "{bad}: {error}");
        }
        // The clock can be asked for the end of every time that is let through.
        assert!(std::time::Instant::now().checked_add(LONGEST).is_some());
        assert!(refresh("1ms").is_err());
        assert!(refresh("2m").is_err());
    }

    #[test]
    fn filters_work_before_and_behind_the_command() {
        for line in ["listentop --port 80 report", "listentop report --port 80"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
            assert_eq!(cli.filter.port, [80]);
        }
    }

    #[test]
    fn a_refresh_works_before_and_behind_the_command() {
        for (line, milliseconds) in [
            ("listentop", 250),
            ("listentop top", 250),
            ("listentop --refresh 2s", 2_000),
            ("listentop --refresh 2s top", 2_000),
            ("listentop top --refresh 2s", 2_000),
            ("listentop --refresh 1s top --refresh 2s", 2_000),
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
            assert_eq!((cli.refresh(), cli.useless()), (Duration::from_millis(milliseconds), None), "{line}");
        }
    }

    #[test]
    fn what_a_command_has_no_use_for_is_not_ignored() {
        for (line, says) in [
            ("listentop --refresh 2s report", "--refresh is not for 'report'"),
            ("listentop --refresh 2s doctor", "--refresh is not for 'doctor'"),
            ("listentop --port 80 doctor", "--port 80 is not for 'doctor'"),
            ("listentop doctor --comm nginx", "--comm nginx is not for 'doctor'"),
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
            assert_eq!(cli.useless().as_deref(), Some(says));
        }
        assert!(Cli::try_parse_from(["listentop", "report", "--refresh", "2s"]).is_err());
    }

    #[test]
    fn a_number_that_is_none_says_what_is_expected() {
        for (argument, says) in [
            ("--port=x", "a port is expected, a whole number from 1 to 65535"),
            ("--port=70000", "a whole number from 1 to 65535"),
            ("--port=0", "a whole number from 1 to 65535"),
            ("--pid=nginx", "a process id is expected, a whole number from 1 to 4194304"),
            ("--max-listeners=many", "a number of listeners is expected, a whole number from 1 to 1048576"),
            ("--max-connections=0", "a number of connections is expected, a whole number from 1 to 8388608"),
            ("--max-threads=-1", "a number of threads is expected, a whole number from 1 to 1048576"),
        ] {
            let error = Cli::try_parse_from(["listentop", argument]).expect_err(argument).to_string();
            assert!(error.contains(says), "{argument}: {error}");
        }
    }
}
