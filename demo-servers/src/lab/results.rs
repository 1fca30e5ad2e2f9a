//! What servers and load generators counted themselves, to hold against listentop's report.

use super::crew::{Crew, Kind};
use crate::counters::Report;
use crate::stress::summary::Summary;
use std::fmt::Write;

/// A readable summary; a program that left no result says why instead.
pub(super) fn describe(crew: &Crew) -> String {
    let mut text = String::from("what the programs counted themselves:\n");
    let mut line = |cells: [&str; 8]| {
        let _ = write!(text, "  {:<16}", cells[0]);
        for cell in &cells[1..] {
            let _ = write!(text, "{cell:>13}");
        }
        text.push('\n');
    };
    line(["server", "accepts", "would-block", "reads", "read bytes", "requests", "closed", "open"]);
    for member in crew.members.iter().filter(|member| member.kind == Kind::Server) {
        match parsed::<Report>(member.last_out.as_deref()) {
            Some(Report { total, .. }) => {
                let counts = total.counts;
                let numbers = [
                    counts.accepts,
                    counts.would_block,
                    counts.reads,
                    counts.read_bytes,
                    counts.requests,
                    total.closed,
                    total.open,
                ]
                .map(|number| number.to_string());
                let [a, b, c, d, e, f, g] = numbers.each_ref().map(String::as_str);
                line([&member.name, a, b, c, d, e, f, g]);
            }
            None => line([&member.name, "no counters", "", "", "", "", "", ""]),
        }
    }
    line(["load on", "due", "established", "completed", "failed", "SYN retries", "connect p99", "response p99"]);
    for member in crew.members.iter().filter(|member| member.kind == Kind::Load) {
        let name = member.name.strip_prefix("load on ").unwrap_or(&member.name);
        match parsed::<Summary>(member.last_out.as_deref()) {
            Some(summary) => {
                let failed = summary.failures.connect.total() + summary.failures.response.total();
                let retries = summary.syn_retries;
                let milliseconds = |micros: Option<u64>| {
                    micros.map_or_else(|| "–".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1000.0))
                };
                line([
                    name,
                    &summary.due.to_string(),
                    &summary.established.to_string(),
                    &summary.completed.to_string(),
                    &failed.to_string(),
                    // Connects whose SYN was sent again, however often.
                    &(retries.one + retries.two + retries.three_or_more).to_string(),
                    &milliseconds(summary.connect_us.p99),
                    &milliseconds(summary.response_us.p99),
                ]);
            }
            None => line([name, "no summary", "", "", "", "", "", ""]),
        }
    }
    text
}

fn parsed<T: serde::de::DeserializeOwned>(line: Option<&str>) -> Option<T> {
    serde_json::from_str(line?).ok()
}
