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

/// What is not a column of the overview.
const MORE: &[(&str, &str)] = &[
    ("enqueued/s", "Handshakes completed: connections put on the accept queue per second."),
    ("again", "SYN-ACKs sent again per second: the final ACK did not come in time, or was refused."),
    ("would-block, EAGAIN", "Accepts per second that returned EAGAIN: a thread was woken and found no connection."),
    ("failed", "Accepts that failed otherwise, such as for want of file descriptors (EMFILE)."),
    ("unread", "Bytes that arrived on open connections and that nobody has read yet."),
    (
        "SYNs refused",
        "New connections turned away at the door: the accept queue or the SYN queue was full. The client tries again after 1 s, 3 s, 7 s.",
    ),
    (
        "final ACKs refused",
        "Handshakes that the client believes complete, but the accept queue was full: the client waits, or is reset.",
    ),
    ("unexplained", "Refused, cause not known. Causes and unexplained add up to all drops."),
    ("clients", "Distinct client addresses and ports among the refused attempts."),
    (
        "aborted",
        "Connections that left the accept queue without being accepted: the listener closed and threw them away.",
    ),
    ("cookies", "SYN cookies sent: handshakes answered without a place in the SYN queue."),
    (
        "accept wait",
        "From the moment a connection enters the accept queue until accept takes it. The client's network is not in it.",
    ),
    (
        "handshake",
        "From the first SYN until the connection is on the accept queue: about one round trip to the client.",
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
    ("ARW", "What a thread was seen doing: A accepts, R reads, W writes."),
    ("share", "A thread's part of the accepts or reads; of the whole group's for a shard."),
    ("onCPU", "Part of the interval the thread was running."),
    ("runq", "Part of the interval it could run but waited for a CPU: the machine is too busy."),
    ("block", "The rest: asleep, for want of work or waiting for something."),
    ("drops over time", "Refused attempts at each refresh."),
    ("probes, self", "What listentop costs: share of one CPU in its probes and in its process, and resident memory."),
    ("LOST", "What listentop could not track; c tells the remedy."),
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
    heading(&mut lines, "Signs");
    for (sign, help) in SIGNS {
        entry(&mut lines, sign, help, width, theme);
    }
    heading(&mut lines, "Columns of the overview");
    for spec in Column::ALL.map(Column::spec) {
        entry(&mut lines, spec.name, spec.help, width, theme);
    }
    heading(&mut lines, "In the listener view");
    for (name, help) in MORE {
        entry(&mut lines, name, help, width, theme);
    }
    heading(&mut lines, "Closed listeners");
    let closed = format!(
        "A listener that closed stays, dimmed and with the word closed, for {CLOSED_SHOWN_SECONDS:.0} s; x shows all of the interval."
    );
    lines.extend(format::wrap(&closed, usize::from(width) - 3).into_iter().map(Line::raw));
    lines
}

/// A name and its sentence, which goes on below itself.
fn entry(lines: &mut Vec<Line<'static>>, name: &str, help: &str, width: u16, theme: Theme) {
    const NAME: usize = 20;
    let room = usize::from(width).saturating_sub(NAME + 3);
    for (i, line) in format::wrap(help, room).into_iter().enumerate() {
        let name = if i == 0 { name } else { "" };
        lines.push(Line::from(vec![Span::styled(format!("{name:NAME$}"), theme.strong()), Span::raw(line)]));
    }
}
