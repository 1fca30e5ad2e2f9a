//! Every number in a sentence, every key in a sentence.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::dashboard::{
    app::{App, CLOSED_SHOWN_SECONDS},
    column::Column,
    format,
    keymap::{self, BINDINGS, Scope},
    theme::Theme,
    widgets::text,
};

/// What stands above every view.
const HEADER: &[(&str, &str)] = &[
    ("CPUs", "CPUs of the machine that are online."),
    ("00:01:23", "The clock: hours, minutes and seconds of the interval, that is, since measuring began."),
    ("refresh", "Time between two samples; + and - change it."),
    ("listeners, groups", "Listening sockets that are shown, and SO_REUSEPORT groups of at least two among them."),
    ("closed, hidden", "Listeners that closed in the interval, and how many of them are not shown any more."),
    ("namespaces", "Network namespaces that hold a listener."),
    (
        "critical, warning",
        "How many findings say that clients are refused or left waiting now, or that they may be soon.",
    ),
    ("info", "How many findings are worth knowing, though nobody suffers."),
    ("by … ▼", "The column that rows are sorted by; ▼: the largest first, ▲: the smallest."),
    ("filter, only", "The filter that is typed with /, and those of the command line."),
    (
        "coverage",
        "How many measures are measured (every event is seen), sampled (now and then, inferred, or a bound) and unavailable here; c lists them.",
    ),
    (
        "own cost",
        "What listentop costs: share of one CPU in its probes and in its process (self), and resident memory. Since the start.",
    ),
    ("LOST", "What listentop could not track; c tells the remedy."),
];

/// What is not a column of the overview, in the order of the listener view.
const MORE: &[(&str, &str)] = &[
    ("backlog", "In the title: the argument of listen(), as the kernel capped it to net.core.somaxconn."),
    ("now, young", "Handshakes under way at this moment, and how many of them had no SYN-ACK sent again."),
    ("peak", "The largest depth in the interval. In the graph: since the refresh before."),
    (
        "SYN-ACK again",
        "SYN-ACKs sent again, per second and, below, in the interval: the final ACK did not come in time, or was refused.",
    ),
    ("enqueued/s", "Handshakes completed: connections put on the accept queue per second."),
    (
        "8 of 9, 8/9, limit",
        "Connections waiting to be accepted, of those that the kernel admits: the backlog and one more. CPUs that complete \
         handshakes at the same moment can exceed it.",
    ),
    (
        "oldest, none waits",
        "How long the connection at the head of the accept queue has waited so far; none waits if it is empty.",
    ),
    ("accepted/s", "Connections taken from the accept queue per second."),
    (
        "threads, processes",
        "Under ACCEPTORS: threads that were seen accepting in the interval, and the processes that they belong to. Under READERS: \
         threads seen reading. none seen: nothing was accepted, read or written yet.",
    ),
    ("writers", "Threads that were seen writing to its connections in the interval."),
    ("thr., proc., wr.", "Threads, processes and writers where there is little room."),
    (
        "would-block, EAGAIN",
        "Accepts per second that returned EAGAIN: a thread was woken and found no connection. Also: empty.",
    ),
    ("failed", "Accepts that failed otherwise in the interval, such as for want of file descriptors (EMFILE)."),
    ("open", "Connections that were accepted and are not yet destroyed."),
    ("unread, left", "Bytes that arrived on open connections and that nobody has read yet."),
    ("reads/s, read", "Successful reads per second, and the bytes that they took per second."),
    (
        "SYNs refused",
        "New connections turned away at the door: the accept queue or the SYN queue was full. The client tries again after 1 s, 3 s, 7 s. \
         In brackets: per second, in the recent span.",
    ),
    (
        "final ACKs refused",
        "Handshakes that the client believes complete, but the accept queue was full: the client waits, or is reset.",
    ),
    (
        "all drops",
        "Attempts refused in the interval, for whatever cause: the causes, other and unexplained add up to it.",
    ),
    ("other", "Refused for another known reason: no memory, no route, or the last quarter of tcp_max_syn_backlog."),
    ("unexplained", "Refused, cause not known."),
    ("clients", "Distinct client addresses and ports among the refused attempts."),
    (
        "aborted",
        "Connections that left the accept queue without being accepted: the listener closed and threw them away.",
    ),
    ("cookies", "SYN cookies sent in the interval: handshakes answered without a place in the SYN queue."),
    (
        "accept queue depth",
        "Over time, a column per refresh: connections that waited, ░ the peak since the refresh before, the line the limit.",
    ),
    ("drops per refresh", "Over time: attempts refused since the refresh before."),
    (
        "handshake",
        "From the SYN-ACK until the final ACK came: about one round trip to the client. The SYN's own way is not in it.",
    ),
    (
        "accept wait",
        "From the moment a connection enters the accept queue until accept takes it. The client's network is not in it.",
    ),
    (
        "first byte",
        "From accept until the client's first byte has arrived; <1µs if it was there already. Slow: the client.",
    ),
    ("first read", "From accept until the server's first read. Slow while first byte is quick: the server."),
    (
        "residency",
        "From the arrival of the first unread byte until a thread reads it: how long requests wait for a reader.",
    ),
    ("bytes per read", "How much one read takes. Small reads cost CPU."),
    ("count, n", "How many values a distribution has."),
    (
        "p50, p90, p99, max",
        "Half, 90 and 99 of 100, and all of the values are no larger than this. Below the columns: smallest and largest.",
    ),
    ("THREAD, ended", "Name and id of a thread; ended: it is not there any more."),
    ("ARW, ROLES", "What a thread was seen doing: A accepts, R reads, W writes."),
    (
        "accepts … writes",
        "In the interval, by that thread: accepts, those that returned EAGAIN, reads, bytes read, writes.",
    ),
    ("share", "A thread's part of the accepts or reads; of the whole group's for a shard."),
    ("onCPU", "Part of the time since a thread was first seen in which it was running, for whatever work."),
    ("runq", "Part of that time in which it could run but waited for a CPU: the machine is too busy."),
    ("block", "The rest: asleep, for want of work or waiting for something."),
];

const SIGNS: &[(&str, &str)] = &[
    ("-", "Nothing seen yet from which to tell, or nothing there."),
    ("n/a", "Cannot be measured on this machine; c tells why."),
    ("~", "Before a number: sampled, inferred or a bound, not every event was seen."),
    ("µs ms s", "Durations. Quantiles are at most 1/16 off."),
    ("k M G", "Thousands, millions, billions; of bytes: KiB, MiB, GiB, by 1024."),
    ("interval", "From the attachment of the probes until now: peaks, totals and shares are of it."),
    ("recent span", "The last few refreshes: rates and quantiles in the overview are of it."),
];

/// What is explained by name, in the order of the help.
fn explained() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    vec![
        ("Signs", SIGNS.to_vec()),
        ("Above every view", HEADER.to_vec()),
        ("Columns of the overview", Column::ALL.map(|column| (column.spec().name, column.spec().help)).to_vec()),
        ("In the listener view", MORE.to_vec()),
    ]
}

pub(super) fn draw(buf: &mut Buffer, area: Rect, app: &App) {
    text::rule(buf, area, "Help", app.theme);
    let body = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 1, height: area.height - 1 };
    text::scrolled(buf, body, &lines(area.width, app.theme), app.overlay_scroll, app.theme);
}

/// The text, wrapped to a screen of `width`.
pub(super) fn lines(width: u16, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let heading = |lines: &mut Vec<Line<'static>>, title: &'static str| {
        if !lines.is_empty() {
            lines.push(Line::raw(""));
        }
        lines.push(Line::styled(title, theme.title()));
    };
    heading(&mut lines, "How to read it");
    let way = "A connection waits in the SYN queue until its handshake is complete, then in the accept queue until a thread \
        accepts it; its bytes then wait in its receive queue until a thread reads them. A full queue refuses what comes. \
        The listeners with the worst findings come first; Enter shows one in full.";
    lines.extend(format::wrap(way, usize::from(width) - 3).into_iter().map(Line::raw));
    for scope in Scope::ALL {
        heading(&mut lines, scope.title());
        for binding in BINDINGS.iter().filter(|b| b.scope == scope) {
            let keys: Vec<String> = binding.keys.iter().map(|&k| keymap::name(k)).collect();
            entry(&mut lines, &keys.join(" "), binding.help, width, theme);
        }
    }
    for (title, entries) in explained() {
        heading(&mut lines, title);
        for (name, help) in entries {
            entry(&mut lines, name, help, width, theme);
        }
    }
    heading(&mut lines, "Closed listeners");
    let closed = format!(
        "A listener that closed stays, dimmed and with the word closed, for {CLOSED_SHOWN_SECONDS:.0} s; x shows all of the interval."
    );
    lines.extend(format::wrap(&closed, usize::from(width) - 3).into_iter().map(Line::raw));
    lines
}

/// Columns for a name, and the blank behind it.
const NAME: usize = 20;

/// A name and its sentence, which goes on below itself.
fn entry(lines: &mut Vec<Line<'static>>, name: &str, help: &str, width: u16, theme: Theme) {
    let room = usize::from(width).saturating_sub(NAME + 3);
    for (i, line) in format::wrap(help, room).into_iter().enumerate() {
        let name = if i == 0 { name } else { "" };
        lines.push(Line::from(vec![Span::styled(format!("{name:NAME$}"), theme.strong()), Span::raw(line)]));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use listentop_model::{fixtures, tracker::Tracker};
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::dashboard::{Action, DashboardOptions, app::Section, views};

    /// Words that stand between labels and numbers, and what the entries of the header are about.
    const BETWEEN: &str = "of ago full no Tab the acceptors readers receive queues measured sampled unavailable probes process self memory CPU";

    fn words(text: &str) -> impl Iterator<Item = String> {
        // What has a digit is a value, but for the quantiles; one letter is a unit or a role.
        let is_label = |word: &&str| {
            word.len() > 1 && (!word.contains(|c: char| c.is_ascii_digit()) || matches!(*word, "p50" | "p90" | "p99"))
        };
        text.split(|c: char| !c.is_alphanumeric() && c != '-').filter(is_label).map(str::to_lowercase)
    }

    /// Every word that labels a number on the screen is in the name of something that the help has a sentence for.
    #[test]
    fn every_label_is_explained() {
        let names = explained().into_iter().flat_map(|(_, entries)| entries).map(|(name, _)| name);
        let titles = Section::ALL.into_iter().map(Section::title);
        let known: HashSet<String> = names.chain(titles).chain([BETWEEN]).flat_map(words).collect();
        for samples in [fixtures::overflow(), fixtures::quiet()] {
            let mut tracker = Tracker::new(&samples[0]);
            samples[1..].iter().for_each(|sample| tracker.push(sample));
            let mut model = tracker.model().clone();
            // Names of threads are no labels, and may be cut off.
            let threads = model.listeners.iter_mut().flat_map(|listener| &mut listener.threads);
            threads.for_each(|thread| thread.comm = "thread".to_owned());
            let model = Arc::new(model);
            for (columns, rows) in [(80, 24), (120, 40), (200, 60)] {
                let mut app = App::new(DashboardOptions::default());
                app.update(Action::Resize(columns, rows));
                app.set_model(model.clone());
                app.update(Action::Down);
                app.update(Action::Open);
                // Findings are sentences of their own; the other sections come one after the other.
                for section in &[Section::Distributions, Section::OverTime, Section::Threads] {
                    app.section = *section;
                    if !views::listener::tabs(&app).contains(section) {
                        continue;
                    }
                    let text = picture(&app);
                    // Not the names of the machine and of the listener, nor the keys.
                    let labels = text.lines().enumerate().filter(|(y, _)| ![0, 3, usize::from(rows) - 1].contains(y));
                    for word in labels.flat_map(|(_, line)| words(line)) {
                        let plural = [format!("{word}s"), format!("{word}es")];
                        let is_known = known.contains(&word) || plural.iter().any(|word| known.contains(word));
                        assert!(is_known, "no sentence explains {word:?}:\n{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_leave_room_for_their_sentences() {
        for (name, help) in explained().into_iter().flat_map(|(_, entries)| entries) {
            assert!(format::width(name) < NAME, "{name}");
            assert!(help.ends_with('.'), "{name}: no sentence");
        }
    }

    fn picture(app: &App) -> String {
        let (columns, rows) = app.size;
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a test backend does not fail");
        terminal.draw(|frame| crate::dashboard::draw(frame, app)).expect("a test backend does not fail");
        let buffer = terminal.backend().buffer();
        let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..rows).map(row).collect::<Vec<_>>().join("\n")
    }
}
