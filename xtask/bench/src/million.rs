//! A million connections, each with a request and a response. Every count in listentop's report is compared with the
//! server's own or the kernel's.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::programs::Programs;
use xtask_support::children::{self, Guarded};
use xtask_support::process;

const CONNECTIONS: u64 = 1_000_000;
/// Connections per second: fewer than a usual machine can serve, so that the queue does not overflow all the time.
/// Counts are exact in either case.
const RATE: u64 = 25_000;
/// Limit of rounds. On a busy machine some connections fail; the next round replaces them.
const ROUNDS: usize = 10;

/// One count, by listentop and by another counter.
struct Row {
    what: &'static str,
    listentop: Option<u64>,
    truth: u64,
    whose: &'static str,
}

impl Row {
    fn agrees(&self) -> bool {
        self.listentop == Some(self.truth)
    }
}

/// Runs the load and prints the comparison.
///
/// # Errors
/// When a program fails, or any count differs.
pub(crate) fn run(programs: &Programs) -> Result<()> {
    let mut server = start(&programs.demo_server, &["--pattern", "multi_acceptor", "--threads", "2"])?;
    let ready: Value = serde_json::from_str(&server.line()?).context("demo-server's first line is not JSON")?;
    let port = ready["port"].as_u64().context("demo-server names no port")?;
    let before = Netstat::read()?;
    let mut listentop =
        start(&programs.listentop, &["report", "--format", "json", "--for", "1h", "--port", &port.to_string()])?;
    listentop.measuring()?;

    let (mut completed, mut rounds) = (0, 0);
    while completed < CONNECTIONS {
        rounds += 1;
        ensure!(rounds <= ROUNDS, "{completed} connections completed in {ROUNDS} rounds: this machine is too busy");
        process::announce(&format!("a million connections: {} to go, {RATE} per second", CONNECTIONS - completed));
        completed += load(programs, port, CONNECTIONS - completed)?;
    }
    // The server still closes the last connections.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let after = Netstat::read()?;
    let report: Value = serde_json::from_str(&listentop.end()?).context("listentop's report is not JSON")?;
    let truth: Value = serde_json::from_str(server.end()?.trim()).context("demo-server's counters are not JSON")?;
    let rows = compare(&report, &truth, &before, &after)?;
    print!("{}", table(&rows, completed, &report));
    let wrong = rows.iter().filter(|row| !row.agrees()).count();
    if wrong > 0 {
        bail!("{wrong} counts of {} are not exact", rows.len());
    }
    Ok(())
}

/// Starts this many connections and returns the number of completed ones.
fn load(programs: &Programs, port: u64, connections: u64) -> Result<u64> {
    let mut stress = children::bound_to_us(&programs.stress);
    let target = format!("127.0.0.1:{port}");
    stress.args(["--target", &target, "--rate", &RATE.to_string(), "--connections", &connections.to_string()]);
    // A reset leaves no port in TIME_WAIT; eight addresses have enough ports for all open connections.
    stress.args(["--rst-close", "--source-addresses", "8", "--max-open", "5000", "--quiet"]).stdin(Stdio::null());
    let summary: Value =
        serde_json::from_str(process::capture(&mut stress, "stress")?.trim()).context("stress's result is not JSON")?;
    summary["completed"].as_u64().filter(|completed| *completed > 0).context("stress completed nothing")
}

/// A program with its output piped.
struct Running {
    process: Guarded,
    stdout: std::io::BufReader<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
}

fn start(program: &std::path::Path, arguments: &[&str]) -> Result<Running> {
    let mut command = children::bound_to_us(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run setpriv (of util-linux)")?;
    let stdout = std::io::BufReader::new(child.stdout.take().context("no stdout")?);
    let stderr = child.stderr.take();
    Ok(Running { process: Guarded::new(child), stdout, stderr })
}

impl Running {
    fn line(&mut self) -> Result<String> {
        use std::io::BufRead as _;
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("cannot read what it prints")?;
        Ok(line)
    }

    fn measuring(&mut self) -> Result<()> {
        let stderr = self.stderr.take().context("its stderr was read already")?;
        children::wait_for_line(stderr, |line| line.contains("measuring")).map(drop)
    }

    /// Interrupts it and returns its output.
    fn end(mut self) -> Result<String> {
        self.process.interrupt()?;
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).context("cannot read what it prints")?;
        self.process.wait()?;
        Ok(text)
    }
}

/// The TcpExt counters of the bench's network namespace.
struct Netstat(Vec<(String, u64)>);

impl Netstat {
    fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/net/netstat").context("cannot read /proc/net/netstat")?;
        Self::parse(&text).context("/proc/net/netstat has no TcpExt counters")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = (lines.next()?.split(' '), lines.next()?.split(' '));
        names
            .zip(values)
            .map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    fn since(&self, earlier: &Self, name: &str) -> Result<u64> {
        let value = |of: &Self| of.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        let (now, then) = (value(self).context(name.to_owned())?, value(earlier).context(name.to_owned())?);
        now.checked_sub(then).with_context(|| format!("{name} went backwards"))
    }
}

fn compare(report: &Value, server: &Value, before: &Netstat, after: &Netstat) -> Result<Vec<Row>> {
    let listener = &report["listeners"][0];
    ensure!(listener.is_object() && report["listeners"][1].is_null(), "listentop does not show one listener");
    let total = &server["total"];
    let own = |name: &str| total[name].as_u64().with_context(|| format!("demo-server does not count {name}"));
    let server_row = |what, of: &Value, name: &str| -> Result<Row> {
        Ok(Row { what, listentop: of.as_u64(), truth: own(name)?, whose: "the server" })
    };
    let histogram = |of: &Value| of["count"].clone();
    let (accepts, reads, writes) = (&listener["accepts"], &listener["reads"], &listener["writes"]);
    Ok(vec![
        server_row("connections enqueued", &listener["accept_queue"]["enqueued"], "accepts")?,
        server_row("accepts", &accepts["total"], "accepts")?,
        server_row("would-block accepts", &accepts["would_block"], "would_block")?,
        server_row("reads", &reads["count"], "reads")?,
        server_row("bytes read", &reads["bytes"], "read_bytes")?,
        server_row("writes", &writes["count"], "writes")?,
        server_row("bytes written", &writes["bytes"], "write_bytes")?,
        server_row("accept waits measured", &histogram(&listener["accept_queue"]["wait_us"]), "accepts")?,
        server_row("residencies measured", &histogram(&reads["residency_us"]), "reads")?,
        server_row("connections still open", &listener["connections"]["open"], "open")?,
        Row {
            what: "refused attempts",
            listentop: listener["drops"]["total"].as_u64(),
            truth: after.since(before, "ListenDrops")?,
            whose: "the kernel",
        },
        Row {
            what: "lost events",
            listentop: report["own_cost"]["lost_events"].as_u64(),
            truth: 0,
            whose: "none may be lost",
        },
    ])
}

fn table(rows: &[Row], connections: u64, report: &Value) -> String {
    let mut text = format!("{connections} connections served, counted by listentop and by others:\n\n");
    let _ = writeln!(text, "| count | listentop | truth | counted by | |\n|---|--:|--:|---|---|");
    for row in rows {
        let listentop = row.listentop.map_or("unknown".to_owned(), |count| count.to_string());
        let verdict = if row.agrees() { "exact" } else { "**differs**" };
        let _ = writeln!(text, "| {} | {listentop} | {} | {} | {verdict} |", row.what, row.truth, row.whose);
    }
    let _ = writeln!(text, "\nProbe runs that the kernel skipped: {}.", report["own_cost"]["missed_runs"]);
    text
}

#[cfg(test)]
mod tests {
    use super::{Netstat, Row, compare, table};
    use serde_json::json;

    fn netstat(drops: u64) -> Netstat {
        Netstat::parse(&format!("TcpExt: SyncookiesSent ListenDrops\nTcpExt: 0 {drops}\nIpExt: A\nIpExt: 1\n")).unwrap()
    }

    fn rows(reads: u64, drops: u64) -> Vec<Row> {
        let report = json!({ "own_cost": { "lost_events": 0, "missed_runs": 3 }, "listeners": [{
            "accept_queue": { "enqueued": 5, "wait_us": { "count": 5 } },
            "accepts": { "total": 5, "would_block": 2 },
            "reads": { "count": reads, "bytes": 640, "residency_us": { "count": reads } },
            "writes": { "count": 5, "bytes": 320 },
            "connections": { "open": 0 },
            "drops": { "total": drops },
        }] });
        let server = json!({ "total": { "accepts": 5, "would_block": 2, "reads": 10, "read_bytes": 640, "writes": 5,
            "write_bytes": 320, "open": 0 } });
        compare(&report, &server, &netstat(7), &netstat(9)).unwrap()
    }

    #[test]
    fn counts_that_agree_are_exact() {
        let rows = rows(10, 2);
        assert!(rows.iter().all(Row::agrees));
        let text = table(&rows, 5, &json!({ "own_cost": { "missed_runs": 3 } }));
        assert!(text.contains("| reads | 10 | 10 | the server | exact |"), "{text}");
        assert!(text.contains("| refused attempts | 2 | 2 | the kernel | exact |"), "{text}");
    }

    #[test]
    fn one_too_few_differs() {
        let rows = rows(9, 1);
        let wrong: Vec<&str> = rows.iter().filter(|row| !row.agrees()).map(|row| row.what).collect();
        assert_eq!(wrong, ["reads", "residencies measured", "refused attempts"]);
        assert!(table(&rows, 5, &json!({})).contains("| reads | 9 | 10 | the server | **differs** |"));
    }

    #[test]
    fn an_unavailable_count_is_not_exact() {
        assert!(!Row { what: "", listentop: None, truth: 0, whose: "" }.agrees());
    }
}
