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
    after_help = "Exit status: 0 done, 1 failed, 2 unusable command line, 3 it cannot measure here, 4 (doctor) only some of it, \
                        128+N the dashboard was ended by signal N."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) top: Top,
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
    /// Time between two refreshes (250ms, 1s); keys change it
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = refresh)]
    pub(super) refresh: Duration,
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

/// How the probes are set up.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Probes")]
pub(super) struct Probing {
    /// Listeners that can be tracked [default: twice as many as are found, 1024 at least]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_listeners: Option<u32>,
    /// Connections that can be tracked at a time, at least: those beyond are counted, and tracked from their accept on if there is room then
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_CONNECTIONS,
          value_parser = clap::value_parser!(u32).range(1..=1 << 23))]
    max_connections: u32,
    /// Threads that can be told apart: the work of those beyond is counted for the listener only
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_THREADS,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_threads: u32,
    /// Have the kernel time every run of the probes, not just some: exact, and each run a little dearer
    #[arg(long, global = true)]
    probe_stats: bool,
    /// Print the probes' log on stderr: listeners that open and close, and what is lost. The dashboard wants it elsewhere (2>FILE)
    #[arg(long, global = true)]
    pub(super) log_probes: bool,
    /// Where to measure; one that is named and cannot run here is an error (exit status 3)
    #[arg(long, global = true, value_enum, default_value_t = Probes::Auto)]
    probes: Probes,
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
    /// The hooks that `auto` finds, with programs that return at once: the floor under the cost of any probe
    #[value(hide = true)]
    Empty,
}

impl Probing {
    pub(super) fn options(&self) -> source::Options {
        let probes = match self.probes {
            Probes::Auto => source::Probes::Auto,
            Probes::Fentry => source::Probes::Fentry,
            Probes::Tracepoint | Probes::Empty => source::Probes::Tracepoint,
            Probes::SockDiag => source::Probes::SockDiag,
        };
        let live = live::Options {
            max_listeners: self.max_listeners,
            max_connections: self.max_connections,
            max_threads: self.max_threads,
            max_dropped_clients: limits::DROPPED_CLIENTS,
            probe_stats: self.probe_stats,
            empty: self.probes == Probes::Empty,
            log_probes: self.log_probes,
            // The source that is chosen says.
            kind: None,
            refuse: Vec::new(),
        };
        source::Options { probes, live }
    }
}

/// `500ms`, `10s`, `2m`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if parsed.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(parsed) }
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
        for bad in ["", "0", "-1", "soon", "1e30", "nan"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(refresh("1ms").is_err());
        assert!(refresh("2m").is_err());
    }

    #[test]
    fn filters_work_before_and_behind_the_command() {
        for line in ["listentop --port 80 report", "listentop report --port 80"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
            assert_eq!(cli.filter.port, [80]);
        }
        assert!(Cli::try_parse_from(["listentop", "--port", "70000"]).is_err());
    }
}
