//! Tail latency: how long the clients of nginx wait, at parts of the load that it can carry at most.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask_support::{children, process};

use crate::attached::attach;
use crate::figures::{Comparison, Pair, Round, median};
use crate::options::{Plan, SETTLING};
use crate::programs::Programs;
use crate::tool::{Level, Tool};
use crate::web::{self, Web};

/// Parts of nginx's maximum, and whether the budget has bounds for them.
const PARTS: [(f64, bool); 3] = [(0.3, true), (0.5, false), (0.7, true)];
/// How often the maximum is measured, for a second each.
const MAXIMA: usize = 3;
/// Connections that the requests share: as many as there are for the maximum.
const CONNECTIONS: &str = "32";
/// A request for the file.
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// The largest part of the requests that may wait because no connection was free, or may fail: beyond it the load is
/// not the one that is asked for.
const UNANSWERED: f64 = 0.01;

/// A point of a distribution of latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    P50,
    P99,
    P999,
    Max,
}

impl Point {
    /// All, in the page's order.
    pub(crate) const ALL: [Self; 4] = [Self::P50, Self::P99, Self::P999, Self::Max];

    /// Its name on the page.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
        }
    }

    /// Its name in the result of `stress`.
    fn key(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Max => "max",
        }
    }
}

/// The latencies of a load with a tool, against those with nothing attached.
pub(crate) struct Latencies {
    /// Part of nginx's maximum.
    pub(crate) part: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// What was attached.
    pub(crate) tool: Tool,
    /// For each point: microseconds, and their ratio.
    pub(crate) points: [(Point, Comparison); 4],
}

/// Measures all parts of the maximum with each tool.
///
/// # Errors
/// When a program fails, or does not carry the load.
pub(crate) fn measure(plan: &Plan, programs: &Programs, bpftrace: bool) -> Result<Vec<Latencies>> {
    let web = Web::start()?;
    let load = Stress { bytes: response_bytes()?, programs };
    process::announce("nginx, latency: its maximum");
    let maxima: Vec<f64> =
        (0..MAXIMA).map(|_| Ok(web.run(Duration::from_secs(1))?.per_second)).collect::<Result<_>>()?;
    let maximum = median(&maxima).context("no maximum was measured")?;
    let tools = tools(bpftrace);
    let mut measured = Vec::new();
    for (part, is_bounded) in PARTS {
        let rate = maximum * part;
        let mut rounds = Vec::new();
        let number_of_rounds = if is_bounded { plan.latencies } else { plan.latencies.div_ceil(2) };
        for number in 1..=number_of_rounds {
            let percent = part * 100.0;
            process::announce(&format!("nginx, latency at {percent:.0} %: round {number} of {number_of_rounds}"));
            rounds.push(round(&tools, &load, rate, plan)?);
        }
        for tool in &tools {
            measured.push(Latencies { part, rate, tool: *tool, points: compare(&rounds, *tool)? });
        }
    }
    Ok(measured)
}

/// What is attached in turn. Nothing comes first, and again at the end of a round.
fn tools(bpftrace: bool) -> Vec<Tool> {
    let mut tools = vec![Tool::Nothing, Tool::Listentop, Tool::Level(Level::Accepts), Tool::Level(Level::Queues)];
    if bpftrace {
        tools.push(Tool::Bpftrace);
    }
    if process::find("ss").is_some() {
        tools.push(Tool::Ss);
    }
    tools
}

/// Latencies in microseconds, by [`Point::ALL`].
type Run = [f64; 4];

/// One run of each tool, then one more in reverse order, with nothing attached at both ends and in the middle.
fn round(tools: &[Tool], load: &Stress<'_>, rate: f64, plan: &Plan) -> Result<Vec<(Tool, Run)>> {
    let mut runs = Vec::new();
    let there = tools.iter().chain([&Tool::Nothing]);
    for tool in there.clone().chain(there.rev()) {
        let attached = attach(*tool, load.programs)?;
        load.run(rate, SETTLING)?;
        runs.push((*tool, load.run(rate, plan.requests)?));
        if let Some(attached) = attached {
            attached.finish().with_context(|| tool.name())?;
        }
    }
    Ok(runs)
}

/// The comparison of a tool with nothing at each point: ratios are taken within a round.
fn compare(rounds: &[Vec<(Tool, Run)>], tool: Tool) -> Result<[(Point, Comparison); 4]> {
    let at = |index: usize| {
        let of = |round: &Vec<(Tool, Run)>| {
            let runs = round.iter().map(|(tool, run)| (*tool, run[index])).collect();
            Round { runs }.pair(tool, Tool::Nothing)
        };
        let pairs: Option<Vec<Pair>> = rounds.iter().map(of).collect();
        let comparison = pairs.as_deref().and_then(Comparison::of).context("no rounds were run")?;
        anyhow::Ok((Point::ALL[index], comparison))
    };
    Ok([at(0)?, at(1)?, at(2)?, at(3)?])
}

/// `stress` as a client of nginx.
struct Stress<'a> {
    /// Length of nginx's answer.
    bytes: usize,
    programs: &'a Programs,
}

impl Stress<'_> {
    /// Sends so many requests per second, at times as of independent users.
    fn run(&self, rate: f64, length: Duration) -> Result<Run> {
        let mut command: Command = children::bound_to_us(&self.programs.stress);
        command.args(["--quiet", "--nodelay", "--target", web::ADDRESS, "--pool", CONNECTIONS]);
        command.args(["--arrivals", "poisson", "--request-text", REQUEST]);
        command.args(["--rate", &rate.to_string(), "--response-bytes", &self.bytes.to_string()]);
        command.args(["--for", &length.as_secs_f64().to_string()]).stdin(Stdio::null());
        parse(&process::capture(&mut command, "stress")?)
    }
}

/// Reads what `stress` prints.
fn parse(json: &str) -> Result<Run> {
    let value: Value = serde_json::from_str(json.trim()).context("stress' result is not JSON")?;
    let count = |key: &str| value[key].as_u64().with_context(|| format!("stress' result lacks {key}: {value}"));
    let (due, completed) = (count("due")?, count("completed")?);
    ensure!(
        due > 0 && completed as f64 >= due as f64 * (1.0 - UNANSWERED),
        "nginx answered {completed} of {due} requests: {value}"
    );
    let at = |point: Point| {
        let latency = value["response_us"][point.key()].as_f64();
        latency.filter(|latency| *latency > 0.0).with_context(|| format!("no {} in {value}", point.key()))
    };
    let [p50, p99, p999, max] = Point::ALL.map(at);
    Ok([p50?, p99?, p999?, max?])
}

/// The length of nginx's answer, which is the same each time.
fn response_bytes() -> Result<usize> {
    let mut stream = TcpStream::connect(web::ADDRESS).context("nginx does not listen")?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).context("SO_RCVTIMEO")?;
    stream.write_all(REQUEST.as_bytes()).context("nginx takes no request")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).context("nginx does not answer")?;
        ensure!(count > 0, "nginx closed the connection instead of answering");
        answer.extend_from_slice(&buffer[..count]);
        if let Some(length) = whole(&String::from_utf8_lossy(&answer))? {
            return Ok(length);
        }
    }
}

/// The length of an answer with its headers; `None` while they are not complete.
fn whole(answer: &str) -> Result<Option<usize>> {
    let Some((headers, _)) = answer.split_once("\r\n\r\n") else { return Ok(None) };
    ensure!(headers.starts_with("HTTP/1.1 200 "), "nginx does not serve its file: {headers}");
    let mut lines = headers.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.trim().parse::<usize>().ok());
    Ok(Some(headers.len() + 4 + length.context("nginx's answer has no length")?))
}

/// The section on latencies.
pub(crate) fn section(latencies: &[Latencies], skipped: Option<&str>) -> String {
    let mut page = String::from(
        "\n## Latency\n\n\
         nginx, as above, at a part of the requests per second that it carries at most (by wrk, with nothing attached). `stress` sends them \
         over 32 connections at times as of independent users (Poisson), whether or not nginx keeps up, and a latency counts from when the \
         request was due. So client and server have idle CPU time, but share both CPUs, and what delays one request delays those behind \
         it. Microseconds: nothing attached / attached (ratio), medians of the rounds; the ratio is taken within a round.\n\n\
         | load | per second | attached |",
    );
    for point in Point::ALL {
        let _ = write!(page, " {} |", point.name());
    }
    page.push_str("\n|--:|--:|---|---|---|---|---|\n");
    for Latencies { part, rate, tool, points } in latencies {
        let _ = write!(page, "| {:.0} % | {rate:.0} | {} |", part * 100.0, tool.name());
        for (_, Comparison { without, with, ratio, error, .. }) in points {
            let _ = write!(page, " {without:.0} / {with:.0} ({ratio:.3} ± {error:.3}) |");
        }
        page.push('\n');
    }
    if let Some(reason) = skipped {
        let _ = writeln!(page, "| | | skipped: {reason} | | | | |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{Point, compare, parse, whole};
    use crate::tool::Tool;

    #[test]
    fn the_result_of_stress_is_read_or_refused() {
        let result = |completed: u64| {
            format!(
                "{{\"due\":1000,\"completed\":{completed},\
                 \"response_us\":{{\"count\":1,\"p50\":60,\"p90\":70,\"p99\":90,\"p999\":200,\"max\":1000}}}}\n"
            )
        };
        assert_eq!(parse(&result(1000)).unwrap(), [60.0, 90.0, 200.0, 1000.0]);
        assert!(parse(&result(989)).unwrap_err().to_string().starts_with("nginx answered 989 of 1000"));
        assert!(parse("{\"due\":0,\"completed\":0}").is_err() && parse("no").is_err());
    }

    #[test]
    fn an_answer_is_as_long_as_its_headers_say() {
        let headers = "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 1024";
        assert_eq!(whole(headers).unwrap(), None);
        assert_eq!(whole(&format!("{headers}\r\n\r\nxxx")).unwrap(), Some(headers.len() + 4 + 1024));
        assert!(whole("HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n").is_err());
        assert!(whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn ratios_are_those_of_a_round() {
        let run = |p50| [p50, 2.0 * p50, 3.0 * p50, 4.0 * p50];
        // The machine gets slower from round to round; the tool costs a tenth every time.
        let round =
            |of: f64| vec![(Tool::Nothing, run(of)), (Tool::Listentop, run(of * 1.1)), (Tool::Nothing, run(of))];
        let points = compare(&[round(100.0), round(200.0), round(400.0)], Tool::Listentop).unwrap();
        for (place, (point, comparison)) in points.iter().enumerate() {
            assert_eq!(*point, Point::ALL[place]);
            assert!((comparison.ratio - 1.1).abs() < 1e-9, "{comparison:?}");
            assert!((comparison.without - 200.0 * (place as f64 + 1.0)).abs() < 1e-9, "{comparison:?}");
        }
        assert!(compare(&[round(100.0)], Tool::Ss).is_err(), "it was not attached");
    }
}
