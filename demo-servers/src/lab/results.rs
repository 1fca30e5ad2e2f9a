//! What servers and load generators counted themselves, to compare with listentop's report.

use super::crew::{Crew, Kind};
use crate::counters::Report;
use crate::stress::summary::Summary;
use std::fmt::Write;

/// Two tables: servers and their load. A program without a result has a row that says so.
pub(super) fn describe(crew: &Crew) -> String {
    let heads = ["server", "accepts", "EAGAIN", "reads", "read bytes", "requests", "closed", "open"];
    let mut servers = vec![heads.map(str::to_owned)];
    for member in crew.members.iter().filter(|member| member.kind == Kind::Server) {
        servers.push(match parsed::<Report>(member.last_out.as_deref()) {
            Some(Report { total, .. }) => {
                let counts = total.counts;
                let [accepts, would_block, reads, bytes, requests, closed, open] = [
                    counts.accepts,
                    counts.would_block,
                    counts.reads,
                    counts.read_bytes,
                    counts.requests,
                    total.closed,
                    total.open,
                ]
                .map(|number| number.to_string());
                [member.name.clone(), accepts, would_block, reads, bytes, requests, closed, open]
            }
            None => without_result(&member.name, "no counters"),
        });
    }
    let heads = ["load on", "due", "connected", "served", "failed", "retried", "connect-p99", "reply-p99"];
    let mut loads = vec![heads.map(str::to_owned)];
    for member in crew.members.iter().filter(|member| member.kind == Kind::Load) {
        let name = member.name.strip_prefix("load on ").unwrap_or(&member.name);
        loads.push(match parsed::<Summary>(member.last_out.as_deref()) {
            Some(summary) => {
                let failed = summary.failures.connect.total() + summary.failures.response.total();
                // Connects whose SYN was sent again, once or more often.
                let retried = summary.syn_retries.one + summary.syn_retries.two + summary.syn_retries.three_or_more;
                let [due, connected, completed, failed, retried] =
                    [summary.due, summary.established, summary.completed, failed, retried]
                        .map(|number| number.to_string());
                let [connect, reply] = [summary.connect_us.p99, summary.response_us.p99].map(milliseconds);
                [name.to_owned(), due, connected, completed, failed, retried, connect, reply]
            }
            None => without_result(name, "no summary"),
        });
    }
    format!("what the programs counted themselves:\n{}{}", table(&servers), table(&loads))
}

fn milliseconds(micros: Option<u64>) -> String {
    micros.map_or_else(|| "–".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1000.0))
}

fn without_result(name: &str, why: &str) -> [String; 8] {
    let mut row: [String; 8] = Default::default();
    name.clone_into(&mut row[0]);
    why.clone_into(&mut row[1]);
    row
}

/// Columns as narrow as possible, so that the table fits a terminal of 80 columns.
fn table(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let mut line = format!("  {:<1$}", row[0], width(0));
        for (column, cell) in row.iter().enumerate().skip(1) {
            let _ = write!(line, " {cell:>0$}", width(column));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn parsed<T: serde::de::DeserializeOwned>(line: Option<&str>) -> Option<T> {
    serde_json::from_str(line?).ok()
}

#[cfg(test)]
mod tests {
    use super::{milliseconds, table, without_result};

    #[test]
    fn columns_are_aligned_and_fit_80_columns() {
        let heads = ["load on", "due", "connected", "served", "failed", "retried", "connect-p99", "reply-p99"];
        let mut long = heads.map(|_| "123456".to_owned());
        long[0] = "message_balancing".to_owned();
        long[7] = milliseconds(Some(9_123_456));
        let text = table(&[heads.map(str::to_owned), long]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].len(), lines[1].len(), "{text}");
        assert!(lines[1].ends_with(" 9123.5 ms"), "{text}");
        assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
        assert_eq!(table(&[without_result("one", "no summary")]), "  one no summary\n");
        assert_eq!(milliseconds(None), "–");
    }
}
