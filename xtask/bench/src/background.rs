//! What runs for months: a recorder and an exporter, with many listeners.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask_support::children::{self, Guarded};
use xtask_support::process;

use crate::figures::Uncertain;
use crate::listeners::{self, PORT};
use crate::programs::Programs;
use crate::usage;

/// How many listeners there are. Each has served a connection.
pub(crate) const LISTENERS: usize = 1_000;
/// Time between two scrapes, as Prometheus has it in its examples.
pub(crate) const SCRAPING: Duration = Duration::from_secs(15);
/// How long both are watched: so many scrapes, and as many samples as there are at least from one whole sample in a
/// recording to the next.
pub(crate) const WATCHING: Duration = Duration::from_secs(60);
/// Scrapes that follow one another, for their times.
const SCRAPES: usize = 20;
/// Wait before the measurement: the work after the start, and after the use of the listeners, is done by then.
const SETTLING: Duration = Duration::from_secs(5);
/// Where the exporter listens. In the bench's own namespace every port is free.
const ADDRESS: &str = "127.0.0.1:9753";

/// What the recorder and the exporter use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Background {
    /// Of a core, by the recorder.
    pub(crate) record_share: f64,
    /// Resident memory of the recorder, in bytes.
    pub(crate) record_resident: u64,
    /// What the recording grows by in an hour, in bytes.
    pub(crate) record_per_hour: f64,
    /// Of a core, by the exporter.
    pub(crate) serve_share: f64,
    /// Resident memory of the exporter, in bytes.
    pub(crate) serve_resident: u64,
    /// Time of a scrape, in seconds.
    pub(crate) scrape: Uncertain,
    /// What a scrape brings, in bytes.
    pub(crate) scrape_bytes: usize,
}

/// A file that is removed when this is dropped.
struct Recording(PathBuf);

impl Drop for Recording {
    fn drop(&mut self) {
        // What stays is in the directory for temporary files.
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs a recorder and an exporter beside 1,000 listeners that are used.
///
/// # Errors
/// When one of them does not start or fails, or the exporter does not show the listeners.
pub(crate) fn measure(programs: &Programs) -> Result<Background> {
    process::announce(&format!("a recorder and an exporter with {LISTENERS} listeners"));
    let listeners = listeners::open(LISTENERS)?;
    let path = std::env::temp_dir().join(format!("listentop-bench-{}.recording", std::process::id()));
    let recording = Recording(path);
    let file = recording.0.to_str().context("the directory for temporary files has a name that is not UTF-8")?;
    let begun = Instant::now();
    let recorder = start(programs, &["record", file], "recording to")?;
    let exporter = start(programs, &["serve", "--web.listen-address", ADDRESS], "serving at")?;
    let measured = listeners::in_use(&listeners, || watch(&recorder, &exporter, &recording.0, begun))?;
    for (name, mut program) in [("record", recorder), ("serve", exporter)] {
        program.interrupt()?;
        let status = program.wait()?;
        ensure!(status.success(), "listentop {name} failed ({status})");
    }
    Ok(measured)
}

fn start(programs: &Programs, arguments: &[&str], ready: &'static str) -> Result<Guarded> {
    let mut command = children::bound_to_us(&programs.listentop);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run setpriv (of util-linux)")?;
    let stderr = child.stderr.take().context("listentop has no stderr")?;
    let process = Guarded::new(child);
    children::wait_for_line(stderr, move |line| line.contains(ready)).with_context(|| arguments[0].to_owned())?;
    Ok(process)
}

fn watch(recorder: &Guarded, exporter: &Guarded, recording: &Path, recording_since: Instant) -> Result<Background> {
    thread::sleep(SETTLING);
    scrape()?;
    let pids = [recorder.pid(), exporter.pid()];
    let before = [usage::cpu_time(pids[0])?, usage::cpu_time(pids[1])?];
    let begun = Instant::now();
    while begun.elapsed() < WATCHING {
        thread::sleep(SCRAPING);
        scrape()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let share = |which: usize| -> Result<f64> {
        Ok(usage::cpu_time(pids[which])?.saturating_sub(before[which]).as_secs_f64() / seconds)
    };
    let (record_share, serve_share) = (share(0)?, share(1)?);
    let bytes = fs::metadata(recording).context("there is no recording")?.len();
    let hour = 3600.0 / recording_since.elapsed().as_secs_f64();
    let mut scrapes = Vec::new();
    let mut scrape_bytes = 0;
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        scrape_bytes = scrape()?;
        scrapes.push(begun.elapsed().as_secs_f64());
    }
    Ok(Background {
        record_share,
        record_resident: usage::resident(pids[0])?,
        record_per_hour: bytes as f64 * hour,
        serve_share,
        serve_resident: usage::resident(pids[1])?,
        scrape: Uncertain::of(&scrapes).context("nothing was scraped")?,
        scrape_bytes,
    })
}

/// Asks for all figures, as Prometheus does. Returns the length of the answer.
fn scrape() -> Result<usize> {
    let mut stream = TcpStream::connect(ADDRESS).context("the exporter does not listen")?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).context("SO_RCVTIMEO")?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("the exporter takes no request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the exporter does not answer")?;
    check(&answer)?;
    Ok(answer.len())
}

/// Whether an answer has the listeners.
fn check(answer: &str) -> Result<()> {
    let first = answer.lines().next().unwrap_or_default();
    ensure!(first.starts_with("HTTP/1.1 200 "), "the exporter refuses a scrape: {first}");
    let port = format!("port=\"{PORT}\"");
    let shown = answer.lines().filter(|line| line.starts_with("listentop_accepts_total{") && line.contains(&port));
    let shown = shown.count();
    ensure!(shown == LISTENERS, "the exporter shows {shown} of {LISTENERS} listeners");
    Ok(())
}

/// The section on both.
pub(crate) fn section(measured: &Background) -> String {
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    format!(
        "\n## Recorder and exporter\n\n\
         Side by side for {} seconds, with {LISTENERS} listeners that have served one connection each: `listentop record`, a sample \
         each second, and `listentop serve`, scraped every {} seconds. The recording's first sample, which is whole, is part of its \
         growth: another whole one follows after 60 to 300 samples. The time of a scrape is the median of {SCRAPES} that follow one \
         another.\n\n\
         | | share of a core | resident memory | |\n|---|--:|--:|---|\n\
         | `listentop record` | {:.2} % | {:.0} MiB | {:.1} MiB on the disk per hour |\n\
         | `listentop serve` | {:.2} % | {:.0} MiB | {:.1} ± {:.1} ms and {:.1} MiB per scrape |\n",
        WATCHING.as_secs(),
        SCRAPING.as_secs(),
        measured.record_share * 100.0,
        mebibytes(measured.record_resident as f64),
        mebibytes(measured.record_per_hour),
        measured.serve_share * 100.0,
        mebibytes(measured.serve_resident as f64),
        measured.scrape.value * 1e3,
        measured.scrape.error * 1e3,
        mebibytes(measured.scrape_bytes as f64)
    )
}

#[cfg(test)]
mod tests {
    use super::{Background, LISTENERS, check, section};
    use crate::figures::Uncertain;

    #[test]
    fn a_scrape_without_the_listeners_is_refused() {
        let series = |port: u16| format!("listentop_accepts_total{{address=\"127.0.1.1\",port=\"{port}\"}} 1\n");
        let answer = |status: &str, series: &str| format!("HTTP/1.1 {status}\r\nContent-Type: text\r\n\r\n{series}");
        let all = series(20_000).repeat(LISTENERS);
        assert!(check(&answer("200 OK", &all)).is_ok());
        assert!(check(&answer("403 Forbidden", &all)).is_err());
        assert!(check(&answer("200 OK", &all[1..])).is_err(), "one is missing");
        assert!(check(&answer("200 OK", &series(20_001).repeat(LISTENERS))).is_err(), "other listeners");
    }

    #[test]
    fn each_has_its_row() {
        let measured = Background {
            record_share: 0.007,
            record_resident: 37 << 20,
            record_per_hour: 11.0 * 1_048_576.0,
            serve_share: 0.0082,
            serve_resident: 40 << 20,
            scrape: Uncertain { value: 0.0312, error: 0.0004 },
            scrape_bytes: 3 << 19,
        };
        let section = section(&measured);
        for row in [
            "| `listentop record` | 0.70 % | 37 MiB | 11.0 MiB on the disk per hour |\n",
            "| `listentop serve` | 0.82 % | 40 MiB | 31.2 ± 0.4 ms and 1.5 MiB per scrape |\n",
        ] {
            assert!(section.contains(row), "{row} is not in {section}");
        }
    }
}
