//! The way of a connection, drawn as it is:
//!
//! ```text
//! SYN QUEUE         ACCEPT QUEUE     ACCEPTORS      RECEIVE QUEUES   READERS
//! ┌───────────┐ 340 ┌──────────┐ 120 ┌───────────┐  ┌───────────┐ 1.2k┌──────────┐
//! │12 now     │────▶│██████████│────▶│1 thread   │─▶│500 open   │────▶│4 threads │
//! │11 young   │ /s  │129 of 129│ /s  │1 process  │  │12K unread │ /s  │3.4MiB/s  │
//! └────┬──────┘     └────┬─────┘     └───────────┘  └───────────┘     └──────────┘
//!      │                 └▶ 12 final ACKs refused: accept queue full (3.4/s)
//!      ├▶ 340 SYNs refused: accept queue full (34/s)
//!      └▶ 0 SYNs refused: SYN queue full (0/s)
//! ```

use std::collections::HashSet;

use listentop_model::{
    coverage::{Measure, Status},
    model::{Drops, ListenerModel, Model, Role, ThreadModel},
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{queue_bar, text};
use crate::dashboard::{format, group::fill, theme::Theme};

/// Rows that it takes.
pub(in crate::dashboard) const HEIGHT: u16 = 11;

/// Lines in a box.
const LINES: usize = 4;

/// Columns of a branch down which attempts leave, and the blank behind it.
const BRANCH: u16 = 3;

struct Stage {
    title: &'static str,
    lines: [String; LINES],
    style: Style,
    /// Rate at which things go on to the next stage, and what they are.
    flow: Option<(String, &'static str)>,
}

/// What is drawn, put into words.
struct Words<'a> {
    model: &'a Model,
    listener: &'a ListenerModel,
    /// Columns within each box.
    inner: [usize; 5],
}

/// Draws the pipeline of `listener` into [`HEIGHT`] rows.
pub(in crate::dashboard) fn draw(buf: &mut Buffer, area: Rect, listener: &ListenerModel, model: &Model, theme: Theme) {
    if area.height < HEIGHT || area.width < 60 {
        return;
    }
    let spare = area.width.saturating_sub(80);
    let width = (12 + spare / 10).min(22);
    let gap = ((area.width - 5 * width) / 4).min(18);
    // The arrow between acceptors and receive queues has no number: boxes with long words take three columns of its
    // place.
    let widths = [width + 1, width, width + 1, width + 1, width];
    let gaps = [gap, gap, gap - 3, gap, 0];
    let left = |stage: usize| area.x + (0..stage).map(|i| widths[i] + gaps[i]).sum::<u16>();
    let words = Words { model, listener, inner: widths.map(|width| usize::from(width) - 2) };
    for (i, stage) in words.stages(theme).into_iter().enumerate() {
        let (x, width, gap) = (left(i), widths[i], gaps[i]);
        text::put(buf, x, area.y, width + gap, stage.title, theme.title());
        frame(buf, Rect { x, y: area.y + 1, width, height: LINES as u16 + 2 }, i < 2);
        for (y, line) in (area.y + 2..).zip(&stage.lines) {
            text::left(buf, x + 1, y, width - 2, line, stage.style);
        }
        if i == 1 {
            let peak = listener.now.recent_accept_peak.map(|p| f64::from(p) / f64::from(listener.now.limit.max(1)));
            queue_bar::draw(buf, (x + 1, area.y + 2), width - 2, (fill(&listener.now), peak), theme);
        }
        if i < 4 {
            arrow(buf, (x + width, area.y + 2), gap, stage.flow.as_ref(), theme);
        }
    }
    words.drops(buf, Rect { y: area.y + LINES as u16 + 3, height: 4, ..area }, (left(0) + 5, left(1) + 5), theme);
}

fn frame(buf: &mut Buffer, area: Rect, drops: bool) {
    let inner = usize::from(area.width) - 2;
    let style = Style::new();
    let bottom = area.bottom() - 1;
    text::put(buf, area.x, area.y, area.width, &format!("┌{}┐", "─".repeat(inner)), style);
    for y in area.y + 1..bottom {
        text::put(buf, area.x, y, 1, "│", style);
        text::put(buf, area.right() - 1, y, 1, "│", style);
    }
    text::put(buf, area.x, bottom, area.width, &format!("└{}┘", "─".repeat(inner)), style);
    if drops {
        text::put(buf, area.x + 5, bottom, 1, "┬", style);
    }
}

fn arrow(buf: &mut Buffer, (x, y): (u16, u16), gap: u16, flow: Option<&(String, &'static str)>, theme: Theme) {
    let middle = |text: &str| usize::from(gap).saturating_sub(format::width(text)) as u16 / 2;
    text::put(buf, x, y + 1, gap, &format!("{}▶", "─".repeat(usize::from(gap) - 1)), theme.flow());
    if let Some((rate, what)) = flow {
        let unit = if format::width(what) + 4 <= gap.into() { format!("{what}/s") } else { "/s".to_owned() };
        text::put(buf, x + middle(rate), y, gap, rate, theme.strong());
        text::put(buf, x + middle(&unit), y + 2, gap, &unit, theme.label());
    }
}

impl Words<'_> {
    fn marked(&self, value: Option<String>, measure: Measure) -> String {
        format::marked(value, format::status(self.model, measure))
    }

    /// The first of several ways to say something that fits the box of a stage; the last is the shortest.
    fn fitting<const N: usize>(&self, stage: usize, mut ways: [String; N]) -> String {
        let at = ways.iter().position(|way| format::width(way) <= self.inner[stage]).unwrap_or(N - 1);
        std::mem::take(&mut ways[at])
    }

    fn rate(&self, rate: Option<f64>, measure: Measure) -> String {
        self.marked(rate.map(format::rate), measure)
    }

    /// A rate with its unit, if there is one.
    fn per_second(&self, rate: Option<f64>, measure: Measure) -> String {
        self.marked(rate.map(|r| format::rate(r) + "/s"), measure)
    }

    fn stages(&self, theme: Theme) -> [Stage; 5] {
        use Measure as M;
        let listener = self.listener;
        let (now, rate) = (&listener.now, &listener.rate);
        let count = |n: Option<u32>| n.map(|n| format::short(n.into()));
        let syn = Stage {
            title: "SYN QUEUE",
            lines: [
                format!("{} now", self.marked(count(now.syn_depth), M::SynQueueDepth)),
                format!("{} young", self.marked(count(now.syn_young), M::SynQueueDepth)),
                format!("{} peak", self.marked(count(now.syn_peak), M::SynQueueDepth)),
                self.fitting(
                    0,
                    [
                        format!("{} SYN-ACK again", self.per_second(rate.synack_retransmits, M::SynackRetransmits)),
                        format!("{} again", self.per_second(rate.synack_retransmits, M::SynackRetransmits)),
                        format!("{} again", self.rate(rate.synack_retransmits, M::SynackRetransmits)),
                    ],
                ),
            ],
            style: Style::new(),
            flow: Some((self.rate(rate.enqueued, M::Enqueued), "enqueued")),
        };
        let oldest = match now.oldest_waiting_us {
            Some(0) => "none waits".to_owned(),
            age => {
                let age = self.marked(age.map(format::duration), M::OldestWaiting);
                self.fitting(1, [format!("oldest {age}"), format!("{age} wait"), age])
            }
        };
        let depth = self.marked(count(Some(now.accept_depth)), M::AcceptQueueDepth);
        let limit = format::short(now.limit.into());
        let accept = Stage {
            title: "ACCEPT QUEUE",
            lines: [
                String::new(),
                self.fitting(1, [format!("{depth} of {limit}"), format!("{depth}/{limit}")]),
                format!("{} peak", self.marked(count(now.accept_peak), M::AcceptQueuePeak)),
                oldest,
            ],
            style: if fill(now) >= 1.0 { theme.critical() } else { Style::new() },
            flow: Some((self.rate(rate.accepts, M::Accepts), "accepted")),
        };
        let (acceptors, processes) = self.threads(Role::Acceptor, 2);
        let acceptors = Stage {
            title: "ACCEPTORS",
            lines: [
                self.marked(acceptors, M::Accepts),
                self.marked(processes, M::Accepts),
                self.fitting(
                    2,
                    [
                        format!("{} would-block", self.per_second(rate.would_block, M::WouldBlock)),
                        format!("{} EAGAIN", self.per_second(rate.would_block, M::WouldBlock)),
                        format!("{} EAGAIN", self.rate(rate.would_block, M::WouldBlock)),
                        format!("{} empty", self.rate(rate.would_block, M::WouldBlock)),
                    ],
                ),
                match listener.total.accept_failed {
                    Some(failed) if failed > 0 => format!("{} failed", format::short(failed)),
                    _ => String::new(),
                },
            ],
            style: Style::new(),
            flow: None,
        };
        let p99 = listener.recent_distributions.residency.as_ref().and_then(|h| h.quantile_us(0.99));
        let residency = self.marked(p99.map(format::duration), M::Residency);
        let unread = self.marked(now.queued_bytes.map(format::short_bytes), M::QueuedBytes);
        let queues = Stage {
            title: "RECEIVE QUEUES",
            lines: [
                format!("{} open", self.marked(now.open.map(format::short), M::OpenConnections)),
                self.fitting(3, [format!("{unread} unread"), format!("{unread} left")]),
                self.fitting(3, [format!("residency p99 {residency}"), format!("p99 {residency}")]),
                String::new(),
            ],
            style: Style::new(),
            flow: Some((self.rate(rate.reads, M::Reads), "reads")),
        };
        let (readers, _) = self.threads(Role::Reader, 4);
        let writers = self
            .acting(Role::Writer)
            .map(|acting| self.number(4, acting.len(), M::Writes, ["writer", "writers", "wr."]));
        let bytes = |rate: Option<f64>| rate.map(|r| format!("{}/s", format::bytes(r as u64)));
        let per_second = self.marked(bytes(rate.read_bytes), M::Reads);
        let readers = Stage {
            title: "READERS",
            lines: [
                self.marked(readers, M::Reads),
                self.fitting(4, [format!("{per_second} read"), per_second]),
                self.marked(writers, M::Writes),
                String::new(),
            ],
            style: Style::new(),
            flow: None,
        };
        [syn, accept, acceptors, queues, readers]
    }

    /// The threads that have a role; `None` if none was seen at work yet.
    fn acting(&self, role: Role) -> Option<Vec<&ThreadModel>> {
        let threads = &self.listener.threads;
        (!threads.is_empty()).then(|| threads.iter().filter(|t| t.roles.contains(&role)).collect())
    }

    /// How many threads, and how many processes, have a role; `None` where that cannot be seen.
    fn threads(&self, role: Role, stage: usize) -> (Option<String>, Option<String>) {
        let Some(acting) = self.acting(role) else {
            let seen = format::status(self.model, Measure::Accepts) != Status::Unavailable;
            return (seen.then(|| "none seen".to_owned()), seen.then(String::new));
        };
        let processes: HashSet<u32> = acting.iter().map(|t| t.pid).collect();
        (
            Some(self.number(stage, acting.len(), Measure::Accepts, ["thread", "threads", "thr."])),
            Some(self.number(stage, processes.len(), Measure::Accepts, ["process", "processes", "proc."])),
        )
    }

    /// A number of `[one, many, abbreviated]`, as long as fits with the mark that `measure` may have.
    fn number(&self, stage: usize, n: usize, measure: Measure, [one, many, abbreviated]: [&str; 3]) -> String {
        let count = format::short(n as u64);
        let whole = format!("{count} {}", if n == 1 { one } else { many });
        let fits = format::width(&self.marked(Some(whole.clone()), measure)) <= self.inner[stage];
        if fits { whole } else { format!("{count} {abbreviated}") }
    }

    /// Refused attempts, leaving downwards where they are refused.
    fn drops(&self, buf: &mut Buffer, area: Rect, (syn, accept): (u16, u16), theme: Theme) {
        let row = |i| area.y + i;
        let cause = |x: u16, pick: fn(&Drops) -> Option<u64>, words: &str| {
            let total = |how: fn(u64) -> String| self.marked(pick(&self.listener.drops).map(how), Measure::DropCause);
            let recent = pick(&self.listener.recent_drops);
            let seconds = self.model.interval.recent_seconds;
            let rate = recent.filter(|_| seconds > 0.0).map(|n| n as f64 / seconds);
            let rate = rate.map_or(String::new(), |r| format!(" ({})", self.per_second(Some(r), Measure::DropCause)));
            let style = match (recent, pick(&self.listener.drops)) {
                (Some(1..), _) => theme.critical(),
                (_, Some(1..)) => theme.warning(),
                _ => theme.label(),
            };
            let whole = format!("{} {words}{rate}", total(format::grouped));
            let fits = format::width(&whole) <= usize::from(area.right().saturating_sub(x + BRANCH));
            (if fits { whole } else { format!("{} {words}{rate}", total(format::short)) }, style)
        };
        let write = |buf: &mut Buffer, x: u16, y: u16, branch: &str, (words, style): (String, Style)| {
            text::put(buf, x, y, 2, branch, style);
            text::left(buf, x + BRANCH, y, area.right().saturating_sub(x + BRANCH), &words, style);
        };
        text::put(buf, syn, row(0), 1, "│", Style::new());
        write(
            buf,
            accept,
            row(0),
            "└▶",
            cause(accept, |d| d.accept_queue_full_on_ack, "final ACKs refused: accept queue full"),
        );
        write(buf, syn, row(1), "├▶", cause(syn, |d| d.accept_queue_full_on_syn, "SYNs refused: accept queue full"));
        write(buf, syn, row(2), "└▶", cause(syn, |d| d.syn_queue_full, "SYNs refused: SYN queue full"));
        let drops = &self.listener.drops;
        let total = &self.listener.total;
        let sums = |how: fn(u64) -> String| {
            let say = |value: Option<u64>, measure| self.marked(value.map(how), measure);
            [
                ("all drops", say(drops.total, Measure::Drops)),
                ("other", say(drops.other, Measure::DropCause)),
                ("unexplained", say(drops.unexplained, Measure::Drops)),
                ("clients", say(drops.clients, Measure::DropClients)),
                // They left the accept queue, and no accept took them.
                ("aborted", say(total.aborted, Measure::Enqueued)),
                ("cookies", say(total.cookies_sent, Measure::CookiesSent)),
                ("again", say(total.synack_retransmits, Measure::SynackRetransmits)),
            ]
        };
        let wide = |(name, value): &(&str, String)| (name.len() + 1 + format::width(value)) as u16;
        let whole = sums(format::grouped);
        let fitting = |sums: &[(&str, String)]| {
            let ends = sums.iter().scan(1, |end, sum| {
                *end += wide(sum) + 2;
                Some(*end - 2)
            });
            ends.take_while(|end| *end <= area.width).count()
        };
        let brief = sums(format::short);
        let sums = if fitting(&whole) >= fitting(&brief) { whole } else { brief };
        let count = fitting(&sums);
        let mut x = area.x + 1;
        for sum in sums.into_iter().take(count) {
            let (name, value) = &sum;
            text::put(buf, x, row(3), area.width, name, theme.label());
            text::put(buf, x + name.len() as u16 + 1, row(3), area.width, value, Style::new());
            x += wide(&sum) + 2;
        }
    }
}
