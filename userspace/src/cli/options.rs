//! The options of the command line.

mod dashboard;
mod probing;
mod serving;

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use listentop_model::model::Severity;

use super::{
    completions,
    filter::Filter,
    man,
    moment::{self, Moment},
    recorded::Part,
    still::Still,
    values,
};
use crate::{export, report};

pub(super) use dashboard::{BlameOn, ThemeChoice, Top, UnitsChoice};
pub(super) use probing::Probing;
pub(super) use serving::Serve;

/// top(1) for listening sockets: how servers drain the kernel's SYN, accept and receive queues, and what overflows.
#[derive(Debug, Parser)]
#[command(name = "listentop", version = env!("LISTENTOP_VERSION"), about, args_conflicts_with_subcommands = false)]
#[command(
    after_help = "The dashboard needs a terminal of at least 80x24. A NO_COLOR in the environment that is not empty turns colours off. \
                        A locale without UTF-8 (LC_ALL, LC_CTYPE, LANG) gets ASCII. Keys, columns and colours can be set in \
                        ~/.config/listentop/config.toml (docs/dashboard.md).\n\n\
                        Exit status:\n  \
                        0      success\n  \
                        1      failure, or terminal missing or too small\n  \
                        2      wrong command line, or a filter that no listener can pass\n  \
                        3      nothing can be measured here\n  \
                        4      doctor only: some measures are unavailable\n  \
                        5      report only: no listener passed the filters; the report is printed\n  \
                        6      too few descriptors, threads or bytes of memory\n  \
                        128+N  signal N ended the dashboard\n  \
                        141    whoever read the output is gone"
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
    /// Measure for some time, then print a report; or print that of a recording
    Report(Report),
    /// Show what acceptors do while connections wait for them: the wait, charged to threads and functions
    #[command(
        after_help = "Depth × time of each accept queue is divided among its acceptors: threads that accept from it, or wait for its \
                            connections. What each is charged with is what it did then: it ran, waited for a CPU, or slept, and where; or \
                            nobody was there. The charges add up to the whole wait. It prints 'measuring' on stderr when it begins; \
                            SIGINT, SIGTERM and SIGHUP end it early. How to read it: docs/blame.md."
    )]
    Blame(Blame),
    /// Print a line for whatever begins or ends: findings, and listeners that open and close
    Events(Events),
    /// Record everything, to look at it later: a file, or a ring that holds the last hours
    #[command(after_help = "It prints 'recording to FILE' on stderr when the first sample is written. \
                            SIGINT, SIGTERM and SIGHUP end it; what was written is whole, also after SIGKILL. Nothing that is there is overwritten. \
                            Look at it with 'listentop report --from FILE' and 'listentop events --from FILE'.")]
    Record(Record),
    /// Show the dashboard on a recording: keys go back and forth in time
    #[command(
        after_help = "Keys: ← and → go a sample back and forward, { and } a minute, ( and ) to where something began or ended, \
                            0 to the end; p stops and goes on, + and - change the speed.\n\n\
                            A still is a picture of the screen, for a colleague or a document: \
                            listentop replay incident.rec --at 03:12 --view listener --listener ':443' --still incident.svg"
    )]
    Replay(Replay),
    /// Write a recording as a table: a row for each listener and sample, a column for each figure
    #[command(
        after_help = "Counts, peaks and distributions are those since the beginning of the part; what came between two rows is their \
                            difference. Durations are in microseconds. What is not known is empty or null, never 0."
    )]
    Export(Export),
    /// Serve the figures to Prometheus, or push them by OTLP, until SIGINT, SIGTERM or SIGHUP
    #[command(
        after_help = "It prints 'serving at URL' on stderr when figures can be scraped. GET /healthz says whether it \
                            measures. With --otlp the variables OTEL_EXPORTER_OTLP_*, OTEL_METRIC_EXPORT_INTERVAL, \
                            OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say what its options leave out."
    )]
    Serve(Serve),
    /// Try every hook, and show what can be measured here, what cannot, why, and what would help
    #[command(after_help = "It leaves nothing attached. It runs without privileges, and finds out more with them.\n\n\
                            Exit status:\n  \
                            0  complete: every measure is available\n  \
                            1  failure\n  \
                            2  wrong command line\n  \
                            3  impossible: no probes can run here\n  \
                            4  partial: some measures are unavailable")]
    Doctor(Doctor),
    /// Print completions of the command line, for a shell to read
    #[command(
        after_help = "Bash: listentop completions bash >/etc/bash_completion.d/listentop. Packages bring them along."
    )]
    Completions(completions::Options),
    /// Print the manual page, or write all of them
    #[command(after_help = "Packages bring them along. Otherwise: listentop man | man -l -")]
    Man(man::Options),
}

/// Options of the report.
#[derive(Debug, Clone, Args)]
pub(super) struct Report {
    /// How long to measure (10s, 500ms, 2m) [default: 10s]. SIGINT, SIGTERM and SIGHUP end it early, and the report is
    /// still printed. With --from: how long a part of the recording
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    pub(super) duration: Option<Duration>,
    /// Measure nothing: report on this recording
    #[arg(long, value_name = "FILE")]
    pub(super) from: Option<PathBuf>,
    #[command(flatten)]
    pub(super) part: Part,
    /// List so many connections of each listener at the end: those that wait longest to be accepted, those whose bytes
    /// wait longest to be read, and the oldest half-open ones, with their clients' addresses (1 to 16 of each)
    #[arg(long, value_name = "N", value_parser = values::listed())]
    pub(super) connections: Option<u32>,
    /// Output format
    #[arg(long, value_parser = report_format(), default_value = report::FORMATS[0].name)]
    pub(super) format: &'static report::Format,
}

/// Options of blame.
#[derive(Debug, Clone, Args)]
#[cfg_attr(not(feature = "blame"), expect(dead_code, reason = "this build only says what it lacks"))]
pub(super) struct Blame {
    /// How long to measure (10s, 500ms, 2m) [default: 10s]
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    pub(super) duration: Option<Duration>,
    /// Whose waiting: that of connections to be accepted, or of bytes to be read
    #[arg(long, value_enum, default_value_t = Of::Accepts)]
    pub(super) of: Of,
    /// Output format
    #[arg(long, value_enum, default_value_t = BlameFormat::Text)]
    pub(super) format: BlameFormat,
    /// Compare with an earlier run, which '--format json' printed into this file
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
}

/// What waits, for blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Of {
    /// Connections in the accept queue: charged to the threads that accept
    Accepts,
    /// Connections with unread bytes: charged to the threads that read them
    Reads,
}

/// The formats of blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BlameFormat {
    /// For people: shares, and stacks below
    Text,
    /// A stack a line, for tools that draw flame graphs; the unit is a microsecond
    Folded,
    /// A flame graph: what is wide was waited for long
    Svg,
    /// For programs: schema 1, see docs/schema.md
    Json,
}

/// Options of the events.
#[derive(Debug, Clone, Args)]
pub(super) struct Events {
    /// How long to watch (10m, 8h) [default: until SIGINT, SIGTERM or SIGHUP, or until nobody reads the output]
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    pub(super) duration: Option<Duration>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Lines::Text)]
    pub(super) format: Lines,
    /// Measure nothing: print what happened in this recording
    #[arg(long, value_name = "FILE")]
    pub(super) from: Option<PathBuf>,
    #[command(flatten)]
    pub(super) part: Part,
}

/// Options of a recording.
#[derive(Debug, Clone, Args)]
pub(super) struct Record {
    /// The file to make; with --ring, a folder
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// How long to record (10m, 8h) [default: until SIGINT, SIGTERM or SIGHUP]
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    pub(super) duration: Option<Duration>,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::refresh)]
    pub(super) every: Duration,
    /// Hold the last so much time (24h), in a folder of files of which the oldest go. A ring that is there is continued
    #[arg(long, value_name = "TIME", value_parser = values::ring)]
    pub(super) ring: Option<Duration>,
    /// The most that it may take on the disk (500M, 2G). A file ends there; a ring becomes shorter
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(super) max_size: Option<u64>,
    /// Keep five minutes before and after each finding that is so bad, when the ring goes round
    #[arg(long, value_name = "SEVERITY", value_enum)]
    pub(super) freeze_on: Option<FreezeOn>,
    /// Record so many connections of each listener, too: those that wait longest to be accepted, those whose bytes wait
    /// longest to be read, and the oldest half-open ones, with their clients' addresses (1 to 16 of each)
    #[arg(long, value_name = "N", value_parser = values::listed())]
    pub(super) connections: Option<u32>,
}

/// Options of a replay.
#[derive(Debug, Clone, Args)]
pub(super) struct Replay {
    /// The recording, or the folder of a ring
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Begin at this moment, and stop there: 03:12 (the last such), 2026-11-29T03:12:30, in UTC with a Z at its end;
    /// +10m from the start, or -5m from the end
    #[arg(long, value_name = "TIME", value_parser = moment::parse, allow_hyphen_values = true)]
    pub(super) at: Option<Moment>,
    /// How many times as fast as it was (10, 0.5)
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = values::speed)]
    pub(super) speed: f64,
    #[command(flatten)]
    pub(super) still: Still,
    #[command(flatten)]
    pub(super) top: Top,
}

/// Options of an export.
#[derive(Debug, Clone, Args)]
pub(super) struct Export {
    /// The recording, or the folder of a ring
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Output format
    #[arg(long, value_parser = export_format(), default_value = export::FORMATS[0].name)]
    pub(super) format: &'static export::Format,
    /// Write to this file, which must not be there yet [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// How long a part, from --at or --since on
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    pub(super) duration: Option<Duration>,
    #[command(flatten)]
    pub(super) part: Part,
}

/// Findings that are kept in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FreezeOn {
    /// Clients are refused or left waiting
    Critical,
    /// They may be, too
    Warning,
}

impl FreezeOn {
    /// The least severity that is kept.
    pub(super) const fn severity(self) -> Severity {
        match self {
            Self::Critical => Severity::Critical,
            Self::Warning => Severity::Warning,
        }
    }
}

/// The formats of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Lines {
    /// For people: one line each
    Text,
    /// For programs: a JSON object in each line, see docs/schema.md
    Json,
}

/// Options of the doctor.
#[derive(Debug, Clone, Args)]
pub(super) struct Doctor {
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
}

/// The formats of the report.
fn report_format() -> impl TypedValueParser<Value = &'static report::Format> {
    let names = report::FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.help));
    PossibleValuesParser::new(names).try_map(|name| report::format(&name).ok_or("there is no such format"))
}

/// The formats of the export.
fn export_format() -> impl TypedValueParser<Value = &'static export::Format> {
    let names = export::FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.help));
    PossibleValuesParser::new(names).try_map(|name| export::format(&name).ok_or("there is no such format"))
}

/// The formats of the doctor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs: schema 1, see docs/schema.md
    Json,
}

impl Cli {
    /// Options of the dashboard, given before or after the command.
    pub(super) fn top(&self) -> Top {
        match &self.command {
            Some(Command::Top(top)) => top.clone().or(self.top.clone()),
            Some(Command::Replay(replay)) => replay.top.clone().or(self.top.clone()),
            _ => self.top.clone(),
        }
    }

    /// An option that was given, but is not for the command.
    pub(super) fn misplaced(&self) -> Option<String> {
        let (command, filters) = match &self.command {
            None | Some(Command::Top(_) | Command::Replay(_)) => return None,
            Some(Command::Report(_)) => ("report", false),
            Some(Command::Blame(_)) => ("blame", false),
            Some(Command::Events(_)) => ("events", false),
            Some(Command::Export(_)) => ("export", false),
            Some(Command::Record(_)) => ("record", !self.filter.is_empty()),
            Some(Command::Serve(_)) => ("serve", false),
            Some(Command::Doctor(_)) => ("doctor", !self.filter.is_empty()),
            Some(Command::Completions(_)) => ("completions", !self.filter.is_empty()),
            Some(Command::Man(_)) => ("man", !self.filter.is_empty()),
        };
        let option = match (self.top.given(), filters) {
            (Some(option), _) => option.to_owned(),
            (None, true) => self.filter.to_string(),
            (None, false) => return None,
        };
        Some(format!("{option} is not for '{command}'"))
    }
}

#[cfg(test)]
mod tests;
