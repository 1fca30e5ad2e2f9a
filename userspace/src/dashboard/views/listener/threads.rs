//! The threads that work for a listener.

use listentop_model::{
    coverage::{Measure, Status},
    model::{Interval, ListenerModel, Model, Role, ThreadCounts, ThreadModel},
    words,
};
use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::dashboard::theme::Theme;

/// A column: its head, width, and text.
type Column = (&'static str, usize, fn(&ThreadModel, &ThreadCounts, &Interval) -> String);

/// The column that a narrow screen leaves out.
const BYTES: &str = "bytes";

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| words::NOTHING.to_owned(), words::whole_percent)
}

/// Part of the interval; the times are unavailable for a thread that ended before they were read.
fn part(us: Option<u64>, interval: &Interval) -> String {
    match us {
        Some(us) if interval.seconds > 0.0 => words::whole_percent(us as f64 / 1e6 / interval.seconds),
        Some(_) => words::NOTHING.to_owned(),
        None => words::UNAVAILABLE.to_owned(),
    }
}

const COLUMNS: [Column; 10] = [
    ("accepts", 7, |_, c, _| count(c.accepts)),
    ("share", 5, |t, _, _| share(t.accept_share)),
    ("EAGAIN", 6, |_, c, _| count(c.would_block)),
    ("reads", 5, |_, c, _| count(c.reads)),
    ("share", 5, |t, _, _| share(t.read_share)),
    (BYTES, 5, |_, c, _| c.read_bytes.map_or_else(|| words::UNAVAILABLE.to_owned(), words::short_bytes)),
    ("writes", 6, |_, c, _| count(c.writes)),
    ("onCPU", 5, |t, _, i| part(t.on_cpu_us, i)),
    ("runq", 4, |t, _, i| part(t.run_queue_us, i)),
    ("block", 5, |t, _, i| part(t.blocked_us(i), i)),
];

/// A count, which is not known where nobody counts for the listener.
fn count(count: Option<u64>) -> String {
    count.map_or_else(|| words::UNAVAILABLE.to_owned(), words::short)
}

/// Whether the work of threads is measured here.
pub(super) fn are_measured(model: &Model) -> bool {
    let work = [Measure::Accepts, Measure::Reads, Measure::Writes];
    work.into_iter().any(|measure| words::status(model, measure) != Status::Unavailable)
}

/// The table; the first line is its head.
pub(super) fn lines(listener: &ListenerModel, model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let columns: Vec<Column> = COLUMNS.into_iter().filter(|(name, ..)| width >= 100 || *name != BYTES).collect();
    let fixed: usize = columns.iter().map(|(_, width, _)| width + 1).sum();
    // Names and roles share the columns that the numbers leave. A margin and the scroll bar take three columns.
    let spare = usize::from(width).saturating_sub(fixed + 3);
    let roles_width = if spare >= 40 { 20 } else { 4 };
    let name_width = (spare - roles_width - 1).min(32);
    let wider = ((spare - roles_width - 1 - name_width) / columns.len()).min(3);
    let numbers = |text: &dyn Fn(&Column) -> String| {
        columns.iter().fold(String::new(), |row, column| row + &format!(" {:>1$}", text(column), column.1 + wider))
    };
    let head = format!("{:name_width$} {:roles_width$}", "THREAD", if roles_width > 4 { "ROLES" } else { "ARW" });
    let mut lines = vec![Line::styled(head + &numbers(&|column| column.0.to_owned()), theme.label())];
    for thread in &listener.threads {
        let name = words::fit(&name(thread, name_width), name_width);
        let pad = name_width.saturating_sub(words::width(&name));
        let roles = roles(&thread.roles, roles_width > 4);
        let style = if thread.ended { theme.label() } else { Style::new() };
        let counts = thread.counts(&listener.total);
        lines.push(Line::from(vec![
            Span::styled(format!("{name}{} ", " ".repeat(pad)), style),
            Span::styled(format!("{roles:roles_width$}"), theme.strong()),
            Span::styled(numbers(&|column| column.2(thread, &counts, &model.interval)), style),
        ]));
    }
    if listener.threads.is_empty() {
        lines.push(Line::raw(if are_measured(model) {
            "No thread was seen working for it yet."
        } else {
            "n/a: the work of threads cannot be measured here (c)"
        }));
    }
    lines
}

/// A thread's name with its id, which says more than the end of a long name.
fn name(thread: &ThreadModel, columns: usize) -> String {
    let ended = if thread.ended { " ended" } else { "" };
    let id = match thread.tid {
        _ if thread.summed.is_some() => String::new(),
        // It is not visible from here.
        0 => ended.to_owned(),
        tid => format!("[{tid}]{ended}"),
    };
    words::fit(&words::thread_name(thread), columns.saturating_sub(id.len()).max(1)) + &id
}

/// Roles in words, or as letters: A accepts, R reads, W writes.
fn roles(roles: &[Role], words: bool) -> String {
    let of = |role, word: &'static str, letter: &'static str| match (roles.contains(&role), words) {
        (true, true) => word,
        (true, false) => letter,
        (false, true) => "",
        (false, false) => "·",
    };
    let each = [of(Role::Acceptor, "accepts", "A"), of(Role::Reader, "reads", "R"), of(Role::Writer, "writes", "W")];
    if words { each.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ") } else { each.concat() }
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;

    #[test]
    fn roles_as_words_and_letters() {
        let both = [Role::Reader, Role::Acceptor];
        assert_eq!(roles(&both, true), "accepts reads");
        assert_eq!(roles(&both, false), "AR·");
        assert_eq!(roles(&[], false), "···");
    }

    #[test]
    fn a_row_is_named_after_its_thread_or_the_number_of_its_threads() {
        let samples = fixtures::per_connection();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let threads = &tracker.model().listeners[0].threads;
        let of = |wanted: fn(&&ThreadModel) -> bool| threads.iter().find(wanted).expect("there is one").clone();
        let (sum, ended, mut acceptor) =
            (of(|t| t.summed.is_some()), of(|t| t.ended && t.summed.is_none()), of(|t| !t.ended));
        assert_eq!(name(&sum, 32), "(122 ended)");
        assert_eq!(name(&ended, 32), format!("postgres[{}] ended", ended.tid));
        assert_eq!(name(&acceptor, 32), "postgres[4100]");
        acceptor.tid = 0;
        assert_eq!(name(&acceptor, 32), "postgres", "a thread that is not visible from here has no id");
    }

    #[test]
    fn unknown_times_are_not_zero() {
        let interval = Interval { start_unix_ms: 0, seconds: 10.0, recent_seconds: 1.0 };
        assert_eq!(part(None, &interval), "n/a");
        assert_eq!(part(Some(0), &interval), "0%");
        assert_eq!(part(Some(5_000_000), &interval), "50%");
    }
}
