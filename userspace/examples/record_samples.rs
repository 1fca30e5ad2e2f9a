//! Records samples of a lab's listeners, one JSON object per line, for the dashboard's pictures (`tests/recorded`).
//!
//! It takes the place of listentop's report: the lab starts it, waits for it and passes its output on.
//!
//! ```sh
//! cargo build --release -p demo-servers -p listentop --bins --example record_samples
//! target/release/lab overflow --headless --for 8s --listentop target/release/examples/record_samples >overflow.jsonl
//! ```
//!
//! `RECORD_FROM=sock_diag` in the environment records without probes.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use listentop::source::{self, Options, Probes, Source};
use listentop_model::sample::Sample;

/// Time between two samples: long enough that some seconds make small files.
const EVERY: Duration = Duration::from_millis(500);

/// The part of listentop's command line that the lab uses.
#[derive(Parser)]
enum Command {
    Report {
        /// How long to record
        #[arg(long = "for", value_parser = humantime::parse_duration)]
        duration: Duration,
        /// Only this network namespace, by its inode: nothing else of the machine is recorded
        #[arg(long)]
        netns: u32,
        /// Ignored: there is only one format
        #[arg(long)]
        format: Option<String>,
    },
}

fn main() -> ExitCode {
    match record() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record_samples: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn record() -> anyhow::Result<()> {
    let Command::Report { duration, netns, .. } = Command::parse();
    let probes = match std::env::var("RECORD_FROM").as_deref() {
        Err(_) => Probes::Auto,
        Ok("sock_diag") => Probes::SockDiag,
        Ok(other) => anyhow::bail!("RECORD_FROM is sock_diag or unset, not {other}"),
    };
    let mut source = source::start(&Options { probes, ..Options::default() })?.source;
    let mut stdout = io::stdout().lock();
    let mut take = |source: &mut dyn Source| {
        let mut sample = source.sample().context("no sample")?;
        narrow(&mut sample, netns);
        serde_json::to_writer(&mut stdout, &sample)?;
        writeln!(stdout).context("cannot write to stdout")
    };
    take(&mut *source)?;
    eprintln!("measuring");
    let start = Instant::now();
    let mut due = start;
    while due < start + duration {
        due += EVERY;
        sleep(due.saturating_duration_since(Instant::now()));
        take(&mut *source)?;
    }
    Ok(())
}

/// Keeps only what belongs to one namespace, and only the version of the kernel's release.
fn narrow(sample: &mut Sample, netns: u32) {
    sample.host.kernel.truncate(sample.host.kernel.find('-').unwrap_or(sample.host.kernel.len()));
    sample.listeners.retain(|listener| listener.netns == netns);
    sample.namespaces.retain(|namespace| namespace.id.inode == netns);
}
