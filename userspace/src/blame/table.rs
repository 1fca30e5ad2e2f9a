//! Blame as a table for people: the shares, and below them the stacks.

use std::fmt::Write as _;

use listentop_model::words::{fit, plural, precise_duration, wrap};

use super::{Blamed, Charged, Doing, Listener, States, frames::way, share, thread_name};

/// Stacks of a listener that are shown: those that have this share at least.
const LEAST: f64 = 0.005;
/// And not more than these.
const MOST_ROWS: usize = 20;
/// Stacks that are printed with all their frames.
const MOST_STACKS: usize = 5;
/// Columns before the way to the function.
const BEFORE: usize = 46;
/// Of more samples' waiting than this it is said that programs have no frame pointers.
const MANY_SHORT: f64 = 0.5;

/// The table, so many columns wide.
#[must_use]
pub fn table(blamed: &Blamed, columns: usize) -> String {
    let mut text = String::new();
    let interval = precise_duration(blamed.elapsed_ns / 1_000);
    if blamed.total_ns == 0 {
        let _ = writeln!(text, "No connection waited in {interval}: nobody is to blame.");
    } else {
        let _ = writeln!(
            text,
            "Connections waited {} in {interval}. What their acceptors did meanwhile:",
            precise_duration(blamed.total_ns / 1_000)
        );
        let _ = writeln!(text, "{}", states(&blamed.states, blamed.total_ns));
    }
    for listener in blamed.listeners.iter().filter(|listener| listener.total_ns > 0) {
        one(&mut text, listener, columns);
    }
    remarks(&mut text, blamed, columns);
    text
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn states(states: &States, whole: u64) -> String {
    let of = |doing: Doing| format!("{} {}", doing.name(), percent(share(states.wait_ns(doing), whole)));
    Doing::ALL.map(of).join(", ")
}

fn one(text: &mut String, listener: &Listener, columns: usize) {
    let _ = writeln!(
        text,
        "\n{} waited {}: {}",
        listener.endpoint,
        precise_duration(listener.total_ns / 1_000),
        states(&listener.states, listener.total_ns)
    );
    let _ = writeln!(text, "\n  {:>7}  {:>8}  {:<8}  {:<16} WHERE", "SHARE", "WAIT", "STATE", "THREAD");
    let rows = by_way(&listener.stacks);
    let told = |row: &&Row<'_>| share(row.wait_ns, listener.total_ns) >= LEAST;
    let shown: Vec<&Row<'_>> = rows.iter().filter(told).take(MOST_ROWS).collect();
    for shown in &shown {
        let _ = writeln!(text, "{}", row(shown, listener.total_ns, columns));
    }
    let rest = rows.len() - shown.len();
    if rest > 0 {
        let rest_ns: u64 = listener.total_ns.saturating_sub(shown.iter().map(|row| row.wait_ns).sum());
        let part = percent(share(rest_ns, listener.total_ns));
        let _ = writeln!(
            text,
            "  {part:>7}  {:>8}  in {}",
            precise_duration(rest_ns / 1_000),
            plural(rest as u64, "other place")
        );
    }
    for row in shown.iter().filter(|row| row.most.frames.len() > 1).take(MOST_STACKS) {
        stack(text, row.most, listener.total_ns);
    }
}

/// Stacks of one thread in one state that lead to the same function.
struct Row<'a> {
    /// The one that is charged with most.
    most: &'a Charged,
    /// What all are charged with.
    wait_ns: u64,
    way: String,
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
            Some(row) => row.wait_ns += charged.wait_ns,
            None => rows.push(Row { most: charged, wait_ns: charged.wait_ns, way }),
        }
    }
    rows.sort_by_key(|row| u64::MAX - row.wait_ns);
    rows
}

fn row(row: &Row<'_>, whole: u64, columns: usize) -> String {
    let line = format!(
        "  {:>7}  {:>8}  {:<8}  {:<16} ",
        percent(share(row.wait_ns, whole)),
        precise_duration(row.wait_ns / 1_000),
        row.most.doing.name(),
        fit(&thread_name(row.most.acceptor.as_ref()), 16),
    );
    format!("{line}{}", fit(&row.way, columns.saturating_sub(BEFORE).max(20))).trim_end().to_owned()
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

/// What is missing, and why.
fn remarks(text: &mut String, blamed: &Blamed, columns: usize) {
    let mut remarks: Vec<String> = blamed.lacks.iter().map(ToString::to_string).collect();
    if blamed.short_stacks().is_some_and(|part| part > MANY_SHORT) {
        remarks.push(
            "most stacks of programs end after two frames: a program or library was built without frame pointers \
             (-fno-omit-frame-pointer keeps them)"
                .to_owned(),
        );
    }
    let losses = blamed.losses;
    for (count, noun, then) in [
        (losses.stacks, "stack", "found no room; their state is known"),
        (losses.charges, "charge", "found no room; their state is known"),
        (losses.threads, "thread", "found no room and is charged with nothing"),
        (losses.seats, "seat", "of threads that accept from too many listeners was left out"),
        (losses.late, "change", "of state was charged late, to the next state"),
    ] {
        if count > 0 {
            remarks.push(format!("{} {then}", plural(count, noun)));
        }
    }
    if !remarks.is_empty() {
        text.push('\n');
    }
    for remark in remarks {
        for line in wrap(&format!("Note: {remark}."), columns) {
            let _ = writeln!(text, "{line}");
        }
    }
}
