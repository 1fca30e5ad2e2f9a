//! Blame as a table for people: the shares, and below them the stacks.

use std::fmt::Write as _;

use listentop_model::words::{fit, plural, precise_duration, width, wrap};

use super::{Blamed, Charged, Doing, Listener, Of, States, frames::way, sampling_error, share, thread_name};

/// Stacks of a listener that are shown: those that have this share at least.
const LEAST: f64 = 0.005;
/// And not more than these.
const MOST_ROWS: usize = 20;
/// Stacks that are printed with all their frames.
const MOST_STACKS: usize = 5;
/// Sampling errors from this share of the wait on are shown: a twentieth of a point is 0.0 or 0.1 on the screen.
const LEAST_ERROR: f64 = 0.000_5;
/// Columns of a thread: the longest name that Linux allows, and an id of seven digits.
const MOST_OF_THREAD: usize = 25;

/// The table, so many columns wide.
#[must_use]
pub fn table(blamed: &Blamed, columns: usize) -> String {
    let mut text = String::new();
    let interval = precise_duration(blamed.elapsed_ns / 1_000);
    if blamed.total_ns == 0 {
        let _ = writeln!(text, "{} in {interval}: nobody is to blame.", blamed.of.none_waited());
    } else {
        let _ = writeln!(
            text,
            "{} {} in {interval}. What their {} did meanwhile:",
            blamed.of.waited(),
            precise_duration(blamed.total_ns / 1_000),
            blamed.of.who()
        );
        let _ = writeln!(text, "{}", states(&blamed.states, blamed.total_ns));
    }
    let mut with_errors = false;
    for listener in blamed.listeners.iter().filter(|listener| listener.total_ns > 0) {
        with_errors |= one(&mut text, listener, columns);
    }
    remarks(&mut text, blamed, with_errors, columns);
    text
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn states(states: &States, whole: u64) -> String {
    let of = |doing: Doing| format!("{} {}", doing.name(), percent(share(states.wait_ns(doing), whole)));
    Doing::ALL.map(of).join(", ")
}

/// A listener's table; true if it states sampling errors.
fn one(text: &mut String, listener: &Listener, columns: usize) -> bool {
    let _ = writeln!(
        text,
        "\n{} waited {}: {}",
        listener.endpoint,
        precise_duration(listener.total_ns / 1_000),
        states(&listener.states, listener.total_ns)
    );
    let rows = by_way(&listener.stacks);
    let told = |row: &&Row<'_>| share(row.wait_ns, listener.total_ns) >= LEAST;
    let shown: Vec<&Row<'_>> = rows.iter().filter(told).take(MOST_ROWS).collect();
    let names = shown.iter().map(|row| width(&thread_name(row.most.acceptor.as_ref())));
    let of_thread = names.max().unwrap_or(0).clamp("THREAD".len(), MOST_OF_THREAD);
    // Of what is not shown nobody needs the error.
    let with_errors = shown.iter().any(|row| row.error(listener.total_ns).is_some());
    let errors = if with_errors { format!("  {:>5}", "±") } else { String::new() };
    let _ =
        writeln!(text, "\n  {:>7}{errors}  {:>8}  {:<8}  {:<of_thread$}  WHERE", "SHARE", "WAIT", "STATE", "THREAD");
    for shown in &shown {
        let _ = writeln!(text, "{}", row(shown, listener.total_ns, with_errors, of_thread, columns));
    }
    let rest = rows.len() - shown.len();
    if rest > 0 {
        let rest_ns: u64 = listener.total_ns.saturating_sub(shown.iter().map(|row| row.wait_ns).sum());
        let part = percent(share(rest_ns, listener.total_ns));
        let blank = " ".repeat(width(&errors));
        let _ = writeln!(
            text,
            "  {part:>7}{blank}  {:>8}  in {}",
            precise_duration(rest_ns / 1_000),
            plural(rest as u64, "other place")
        );
    }
    for row in shown.iter().filter(|row| row.most.frames.len() > 1).take(MOST_STACKS) {
        stack(text, row.most, listener.total_ns);
    }
    with_errors
}

/// Stacks of one thread in one state that lead to the same function.
struct Row<'a> {
    /// The one that is charged with most.
    most: &'a Charged,
    /// What all are charged with.
    wait_ns: u64,
    /// The sum of their variances. They are not independent, which makes it too large rather than too small.
    variance: f64,
    way: String,
}

impl Row<'_> {
    /// The sampling error of its share, if there is one to speak of.
    fn error(&self, whole: u64) -> Option<f64> {
        let error = share(sampling_error(self.variance), whole);
        (error >= LEAST_ERROR).then_some(error)
    }
}

/// The rows, of which the most blamed is the first. So are the stacks.
fn by_way(stacks: &[Charged]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for charged in stacks {
        let way = way(&charged.frames);
        let same = |row: &&mut Row<'_>| {
            row.most.doing == charged.doing && row.most.acceptor == charged.acceptor && row.way == way
        };
        match rows.iter_mut().find(same) {
            Some(row) => {
                row.wait_ns += charged.wait_ns;
                row.variance += charged.variance;
            }
            None => rows.push(Row { most: charged, wait_ns: charged.wait_ns, variance: charged.variance, way }),
        }
    }
    rows.sort_by_key(|row| u64::MAX - row.wait_ns);
    rows
}

fn row(row: &Row<'_>, whole: u64, with_error: bool, of_thread: usize, columns: usize) -> String {
    let error = row.error(whole).map(|error| format!("{:.1}", error * 100.0)).unwrap_or_default();
    let error = if with_error { format!("  {error:>5}") } else { String::new() };
    let line = format!(
        "  {:>7}{error}  {:>8}  {:<8}  {:<of_thread$}  ",
        percent(share(row.wait_ns, whole)),
        precise_duration(row.wait_ns / 1_000),
        row.most.doing.name(),
        fit(&thread_name(row.most.acceptor.as_ref()), of_thread),
    );
    format!("{line}{}", fit(&row.way, columns.saturating_sub(width(&line)).max(20))).trim_end().to_owned()
}

fn stack(text: &mut String, charged: &Charged, whole: u64) {
    let _ = writeln!(
        text,
        "\n  {} {} {}, the innermost function first:",
        percent(share(charged.wait_ns, whole)),
        charged.doing.name(),
        thread_name(charged.acceptor.as_ref())
    );
    for frame in &charged.frames {
        let place = match (&frame.module, frame.kernel) {
            (_, true) => "kernel",
            (Some(module), false) if frame.named => module,
            _ => "",
        };
        let _ = writeln!(text, "{}", format!("    {:<50} {place}", frame.label()).trim_end());
    }
}

/// Which acceptors were inferred.
fn inferred(blamed: &Blamed) -> impl Iterator<Item = String> {
    blamed.listeners.iter().filter(|listener| listener.total_ns > 0).flat_map(|listener| {
        listener.threads.iter().filter_map(|(acceptor, _)| {
            let inference = listener.inferred.get(&acceptor.tid)?;
            let thread = thread_name(Some(acceptor));
            let (endpoint, why) = (&listener.endpoint, inference.text());
            Some(match blamed.of {
                Of::Accepts => format!(
                    "{thread} has neither accepted from {endpoint} since the start nor waited: that it should is \
                     inferred ({why})"
                ),
                Of::Reads => format!(
                    "{thread} has not read from connections of {endpoint} since the start: that it should is inferred \
                     ({why})"
                ),
            })
        })
    })
}

/// What is missing, and why.
fn remarks(text: &mut String, blamed: &Blamed, with_errors: bool, columns: usize) {
    let sampled: u64 = blamed.listeners.iter().flat_map(|it| &it.stacks).map(|charged| charged.sampled_ns).sum();
    let sampled = share(sampled, blamed.total_ns);
    let mut remarks: Vec<String> = inferred(blamed).collect();
    if with_errors {
        remarks.push(
            "± is the sampling error in points: 95 times of 100 the share is no farther from the truth".to_owned(),
        );
    }
    remarks.extend(super::remarks::remarks(&blamed.lacks, &blamed.losses, blamed.short_stacks(), sampled));
    if !remarks.is_empty() {
        text.push('\n');
    }
    for remark in remarks {
        for line in wrap(&format!("Note: {remark}."), columns) {
            let _ = writeln!(text, "{line}");
        }
    }
}
