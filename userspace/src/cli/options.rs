//! The options of the command line.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use listentop_abi::limits;
use listentop_model::model::Severity;
use serde::Deserialize;

use super::{
    completions,
    filter::Filter,
    man,
    moment::{self, Moment},
    recorded::Part,
    still::Still,
    values,
};
#[cfg(feature = "otlp")]
use crate::serve::otlp::{Histograms, Protocol, Settings};
use crate::{
    export, report,
    source::{self, live},
};

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

/// Options of the dashboard. They are set in the configuration file, too.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Top {
    /// Time between two refreshes (500ms, 1s) [default: 250ms]; the keys + and - change it
    #[arg(long, value_name = "TIME", value_parser = values::refresh)]
    pub(super) refresh: Option<Duration>,
    /// Colours: for a dark or a light background, the 16 of the terminal, or none [default: auto, which asks the
    /// terminal for its background]
    #[arg(long, value_enum)]
    pub(super) theme: Option<ThemeChoice>,
    /// Ring the terminal's bell when clients of one more listener are refused or wait too long
    #[arg(long)]
    pub(super) bell: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub(super) no_mouse: bool,
    /// Sizes in KiB (1024 bytes) or kB (1000 bytes) [default: iec]
    #[arg(long, value_enum)]
    pub(super) units: Option<UnitsChoice>,
    /// Configuration file [default: listentop/config.toml in $XDG_CONFIG_HOME or ~/.config; under sudo, of who called
    /// it]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// A choice of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ThemeChoice {
    /// As the terminal's background is
    Auto,
    /// For a dark background
    Dark,
    /// For a light background
    Light,
    /// The sixteen colours of the terminal's own palette
    #[serde(rename = "16")]
    #[value(name = "16")]
    Sixteen,
    /// No colours
    None,
}

/// A choice of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum UnitsChoice {
    /// KiB, MiB: by 1024
    Iec,
    /// kB, MB: by 1000
    Si,
}

impl Top {
    /// The first of the options that was given, if any was.
    fn given(&self) -> Option<&'static str> {
        let given = [
            (self.refresh.is_some(), "--refresh"),
            (self.theme.is_some(), "--theme"),
            (self.bell, "--bell"),
            (self.no_mouse, "--no-mouse"),
            (self.units.is_some(), "--units"),
            (self.config.is_some(), "--config"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }

    /// These, and `other` where these are not given.
    fn or(self, other: Self) -> Self {
        Self {
            refresh: self.refresh.or(other.refresh),
            theme: self.theme.or(other.theme),
            bell: self.bell || other.bell,
            no_mouse: self.no_mouse || other.no_mouse,
            units: self.units.or(other.units),
            config: self.config.or(other.config),
        }
    }
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
    /// List so many connections of each listener at the end: those that wait longest to be accepted, and those whose
    /// bytes wait longest to be read, with their clients' addresses (1 to 16)
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
    /// Output format
    #[arg(long, value_enum, default_value_t = BlameFormat::Text)]
    pub(super) format: BlameFormat,
    /// Compare with an earlier run, which '--format json' printed into this file
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
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
    /// Record so many connections of each listener, too: those that wait longest to be accepted, and those whose bytes
    /// wait longest to be read, with their clients' addresses (1 to 16)
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

/// Options of the exporter.
#[derive(Debug, Clone, Args)]
#[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "this build only says what it lacks"))]
pub(super) struct Serve {
    /// Where to listen; ':9753' is every address
    #[arg(long = "web.listen-address", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9753")]
    pub(super) address: String,
    /// The path of the figures
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub(super) path: String,
    /// TLS, and users with their passwords: a web configuration as the exporters of Prometheus have it
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The most series of listeners in a scrape. Those of the listeners that opened last are left out, and counted
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = values::series)]
    pub(super) max_series: u32,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::refresh)]
    pub(super) every: Duration,
    #[cfg(feature = "otlp")]
    #[command(flatten)]
    pub(super) otlp: Otlp,
}

/// Options of pushing.
#[cfg(feature = "otlp")]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "OTLP")]
pub(super) struct Otlp {
    /// Push the same figures to this collector [default: that of the environment, or http://localhost:4318]
    #[arg(long = "otlp", value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    url: Option<String>,
    /// How to speak to it [default: grpc at port 4317, http/protobuf at others]
    #[arg(long = "otlp-protocol", value_name = "PROTOCOL", requires = "url", value_parser = otlp_protocol())]
    protocol: Option<Protocol>,
    /// Time between two pushes [default: 15s]
    #[arg(long = "otlp-interval", value_name = "TIME", requires = "url", value_parser = values::interval)]
    interval: Option<Duration>,
    /// Headers of the requests, such as a password: a line 'NAME: VALUE' each
    #[arg(long = "otlp-headers-file", value_name = "FILE", requires = "url")]
    headers: Option<PathBuf>,
    /// The authorities that may have signed the collector's certificate [default: those of the machine]
    #[arg(long = "otlp-ca-file", value_name = "FILE", requires = "url")]
    authorities: Option<PathBuf>,
    /// Distributions with bounds that every backend knows, or with the probes' own resolution [default: explicit]
    #[arg(long = "otlp-histograms", value_name = "KIND", requires = "url", value_parser = otlp_histograms())]
    histograms: Option<Histograms>,
}

#[cfg(feature = "otlp")]
impl Otlp {
    /// How to push, if that is asked for.
    pub(super) fn settings(&self) -> Option<Settings> {
        let url = self.url.as_ref()?;
        Some(Settings {
            url: Some(url.clone()).filter(|url| !url.is_empty()),
            protocol: self.protocol,
            interval: self.interval,
            headers: self.headers.clone(),
            authorities: self.authorities.clone(),
            histograms: self.histograms,
        })
    }
}

/// The protocols of OTLP.
#[cfg(feature = "otlp")]
fn otlp_protocol() -> impl TypedValueParser<Value = Protocol> {
    let names = Protocol::ALL.map(|protocol| PossibleValue::new(protocol.name()));
    PossibleValuesParser::new(names).map(
        |name| {
            if name == Protocol::Grpc.name() { Protocol::Grpc } else { Protocol::Http }
        },
    )
}

/// The kinds of distributions.
#[cfg(feature = "otlp")]
fn otlp_histograms() -> impl TypedValueParser<Value = Histograms> {
    PossibleValuesParser::new(["explicit", "exponential"])
        .map(|name| if name == "explicit" { Histograms::Explicit } else { Histograms::Exponential })
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

/// How the probes are set up.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Probes")]
pub(super) struct Probing {
    /// Largest number of listeners to track [default: twice as many as are found, at least 1024]
    #[arg(long, global = true, value_name = "N", value_parser = values::listeners)]
    max_listeners: Option<u32>,
    /// Number of connections to track at the same time, at least. Further ones are counted, and tracked from their
    /// accept on if there is room then
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_CONNECTIONS, value_parser = values::connections)]
    max_connections: u32,
    /// Largest number of threads to track. The work of further ones is counted for the listener only
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_THREADS, value_parser = values::threads)]
    max_threads: u32,
    /// Let the kernel time every run of the probes, not only some: exact, but slows each run slightly
    #[arg(long, global = true)]
    probe_stats: bool,
    /// Print the probes' log on stderr: listeners that open and close, and what is lost. With the dashboard, redirect
    /// stderr to a file
    #[arg(long, global = true)]
    pub(super) log_probes: bool,
    /// Method of measuring. One that is named but cannot run here is an error (exit status 3)
    #[arg(long, global = true, value_enum, default_value_t = Probes::Auto)]
    probes: Probes,
    /// How much to measure, and to pay for. What is left out is unavailable, as 'coverage' says
    #[arg(long, global = true, value_enum, default_value_t = Extent::All)]
    measure: Extent,
    /// Run without the sandbox, which refuses system calls and files that are not needed once measuring has begun
    #[arg(long, global = true)]
    pub(super) no_sandbox: bool,
    /// Attach programs that return at once to the same hooks: the least that any probe costs
    #[arg(long, global = true, hide = true)]
    empty_programs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Probes {
    /// The best method that runs here
    Auto,
    /// Functions (fentry, fexit): Linux 5.10 and later, where the kernel allows them
    Fentry,
    /// BTF and system call tracepoints: Linux 6.3 and later
    Tracepoint,
    /// Without probes and privileges: only depths and drops, sampled from the kernel's list of sockets
    #[value(name = "sock_diag")]
    SockDiag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Extent {
    /// Queues, handshakes and refused attempts: no system call, no read and no write is traced
    Queues,
    /// Accepts, waits and threads as well
    Accepts,
    /// Reads and writes as well: residency, answers, what waits unread
    All,
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
            // The chosen source sets it.
            kind: None,
            level: match self.measure {
                Extent::Queues => live::Level::Queues,
                Extent::Accepts => live::Level::Accepts,
                Extent::All => live::Level::All,
            },
            blame: false,
            refuse: Vec::new(),
        };
        source::Options { probes, live }
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
    fn filters_work_before_and_behind_the_command() {
        for line in ["listentop --port 80 report", "listentop report --port 80"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
            assert_eq!(cli.filter.port, [80]);
        }
    }

    #[test]
    fn a_refresh_works_before_and_behind_the_command() {
        for (line, milliseconds) in [
            ("listentop", 0),
            ("listentop top", 0),
            ("listentop --refresh 2s", 2_000),
            ("listentop --refresh 2s top", 2_000),
            ("listentop top --refresh 2s", 2_000),
            ("listentop --refresh 1s top --refresh 2s", 2_000),
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
            let refresh = cli.top().refresh.unwrap_or_default();
            assert_eq!((refresh, cli.misplaced()), (Duration::from_millis(milliseconds), None), "{line}");
        }
    }

    #[test]
    fn an_option_that_is_not_for_the_command_is_not_ignored() {
        for (line, says) in [
            ("listentop --refresh 2s report", "--refresh is not for 'report'"),
            ("listentop --refresh 2s doctor", "--refresh is not for 'doctor'"),
            ("listentop --theme light report", "--theme is not for 'report'"),
            ("listentop --bell report", "--bell is not for 'report'"),
            ("listentop --no-mouse doctor", "--no-mouse is not for 'doctor'"),
            ("listentop --units si report", "--units is not for 'report'"),
            ("listentop --config x doctor", "--config is not for 'doctor'"),
            ("listentop --port 80 doctor", "--port 80 is not for 'doctor'"),
            ("listentop doctor --comm nginx", "--comm nginx is not for 'doctor'"),
            ("listentop record x --port 80", "--port 80 is not for 'record'"),
            ("listentop --refresh 1s events", "--refresh is not for 'events'"),
            ("listentop --refresh 2s serve", "--refresh is not for 'serve'"),
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("valid");
            assert_eq!(cli.misplaced().as_deref(), Some(says));
        }
        assert!(Cli::try_parse_from(["listentop", "report", "--refresh", "2s"]).is_err());
    }

    #[test]
    fn a_wrong_number_is_answered_with_what_is_expected() {
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

    #[test]
    fn the_report_has_the_formats_of_the_registry() {
        for format in report::FORMATS {
            let cli = Cli::try_parse_from(["listentop", "report", "--format", format.name]).expect("valid");
            let Some(Command::Report(options)) = cli.command else { panic!("another command") };
            assert_eq!(options.format.name, format.name);
        }
        let error = Cli::try_parse_from(["listentop", "report", "--format", "xml"]).expect_err("no such format");
        assert!(error.to_string().contains("[possible values: table, json, html"), "{error}");
    }
}
