//! The path of a connection, from queue to queue:
//!
//! ```text
//! SYN QUEUE         ACCEPT QUEUE     ACCEPTORS      RECEIVE QUEUES   READERS
//! ┌───────────┐ 340 ┌──────────┐ 120 ┌───────────┐  ┌───────────┐ 1.2k┌──────────┐
//! │12 now     │────▶│██████████│────▶│1 thread   │─▶│500 open   │────▶│4 threads │
//! │11 young   │ /s  │129 of 129│ /s  │1 process  │  │12K unread │ /s  │3.4MiB/s  │
//! │           │     │          │     │3 gone     │  │oldest 2ms │     │answer 5ms│
//! └────┬──────┘     └────┬─────┘     └───────────┘  └───────────┘     └──────────┘
//!      │                 └▶ 12 final ACKs refused: accept queue full (3.4/s)
//!      ├▶ 340 SYNs refused: accept queue full (34/s)
//!      └▶ 0 SYNs refused: SYN queue full (0/s)
//! ```
//!
//! Where rows are few the boxes have no frames, and what was refused stands in one line.

use std::collections::HashSet;

use listentop_model::{
    coverage::{Measure, Status},
    model::{Drops, ListenerModel, Model, Role, ThreadModel},
    words,
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{queue_bar, text};
use crate::dashboard::theme::Theme;

/// Rows that it takes in full: with frames, and a row for each cause of refusals.
pub(in crate::dashboard) const HEIGHT: u16 = 11;
/// Rows that it takes where they are few.
pub(in crate::dashboard) const COMPACT: u16 = 7;

/// Lines in a box.
const LINES: usize = 4;

/// Columns of a branch by which refused attempts leave, and the blank behind it.
const BRANCH: u16 = 3;

struct Stage {
    title: &'static str,
    lines: [String; LINES],
    style: Style,
    /// Rate at which things move to the next stage, and what they are.
    flow: Option<(String, &'static str)>,
}

/// Makes the words of the boxes.
struct Words<'a> {
    model: &'a Model,
    listener: &'a ListenerModel,
    /// Columns within each box.
    inner: [usize; 5],
}

/// Draws the pipeline of `listener` into [`HEIGHT`] rows, or [`COMPACT`] ones.
pub(in crate::dashboard) fn draw(buf: &mut Buffer, area: Rect, listener: &ListenerModel, model: &Model, theme: Theme) {
    if area.height < COMPACT || area.width < 60 {
        return;
    }
    let framed = area.height >= HEIGHT;
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
        if framed {
            frame(buf, Rect { x, y: area.y + 1, width, height: LINES as u16 + 2 }, i < 2);
        }
        let top = area.y + 1 + u16::from(framed);
        for (y, line) in (top..).zip(&stage.lines) {
            // What cannot be measured here steps back behind what is.
            let style = if line.contains(words::UNAVAILABLE) { theme.label() } else { stage.style };
            text::left(buf, x + 1, y, width - 2, line, style);
        }
        if i == 1 {
            let peak = listener.now.recent_accept_peak.map(|p| f64::from(p) / f64::from(listener.now.limit.max(1)));
            queue_bar::draw(buf, (x + 1, top), width - 2, (listener.now.fill(), peak), theme);
        }
        if i < 4 {
            arrow(buf, (x + width, top), gap, stage.flow.as_ref(), theme);
        }
    }
    if framed {
        words.drops(buf, Rect { y: area.y + LINES as u16 + 3, height: 4, ..area }, (left(0) + 5, left(1) + 5), theme);
    } else {
        words.drops_in_a_line(buf, Rect { y: area.y + LINES as u16 + 1, height: 2, ..area }, theme);
    }
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
    let middle = |text: &str| usize::from(gap).saturating_sub(words::width(text)) as u16 / 2;
    // Where nothing flows, or nobody can tell, the arrow is only a sign of the way.
    let flows = flow.is_none_or(|(rate, _)| !matches!(rate.as_str(), "0" | "~0" | words::UNAVAILABLE | words::NOTHING));
    let style = if flows { theme.flow() } else { theme.label() };
    text::put(buf, x, y + 1, gap, &format!("{}▶", "─".repeat(usize::from(gap) - 1)), style);
    if let Some((rate, what)) = flow {
        let unit = if words::width(what) + 4 <= gap.into() { format!("{what}/s") } else { "/s".to_owned() };
        let style = if rate == words::UNAVAILABLE { theme.label() } else { theme.strong() };
        text::put(buf, x + middle(rate), y, gap, rate, style);
        text::put(buf, x + middle(&unit), y + 2, gap, &unit, theme.label());
    }
}

impl Words<'_> {
    fn marked(&self, value: Option<String>, measure: Measure) -> String {
        words::marked(value, words::status(self.model, measure))
    }

    /// The first of several wordings that fits the box of a stage; the last is the shortest.
    fn fitting<const N: usize>(&self, stage: usize, mut wordings: [String; N]) -> String {
        let at = wordings.iter().position(|words| words::width(words) <= self.inner[stage]).unwrap_or(N - 1);
        std::mem::take(&mut wordings[at])
    }

    fn rate(&self, rate: Option<f64>, measure: Measure) -> String {
        self.marked(rate.map(words::rate), measure)
    }

    /// A rate with its unit, if there is one.
    fn per_second(&self, rate: Option<f64>, measure: Measure) -> String {
        self.marked(rate.map(|r| words::rate(r) + "/s"), measure)
    }

    fn stages(&self, theme: Theme) -> [Stage; 5] {
        [self.syn_queue(), self.accept_queue(theme), self.acceptors(), self.receive_queues(), self.readers()]
    }

    fn syn_queue(&self) -> Stage {
        let (now, rate) = (&self.listener.now, &self.listener.rate);
        let depth = |n: Option<u32>| self.marked(n.map(|n| words::short(n.into())), Measure::SynQueueDepth);
        let again = self.per_second(rate.synack_retransmits, Measure::SynackRetransmits);
        let brief = self.rate(rate.synack_retransmits, Measure::SynackRetransmits);
        Stage {
            title: "SYN QUEUE",
            lines: [
                format!("{} now", depth(now.syn_depth)),
                format!("{} young", depth(now.syn_young)),
                format!("{} peak", depth(now.syn_peak)),
                self.fitting(0, [format!("{again} SYN-ACK again"), format!("{again} again"), format!("{brief} again")]),
            ],
            style: Style::new(),
            flow: Some((self.rate(rate.enqueued, Measure::Enqueued), "enqueued")),
        }
    }

    fn accept_queue(&self, theme: Theme) -> Stage {
        let now = &self.listener.now;
        let oldest = match now.oldest_waiting_us {
            Some(0) => "none waits".to_owned(),
            age => {
                let age = self.marked(age.map(words::duration), Measure::OldestWaiting);
                self.fitting(1, [format!("oldest {age}"), format!("{age} wait"), age])
            }
        };
        let depth = self.marked(Some(words::short(now.accept_depth.into())), Measure::AcceptQueueDepth);
        let limit = words::short(now.limit.into());
        let peak = self.marked(now.accept_peak.map(|n| words::short(n.into())), Measure::AcceptQueuePeak);
        Stage {
            title: "ACCEPT QUEUE",
            // The first line is the bar.
            lines: [
                String::new(),
                self.fitting(1, [format!("{depth} of {limit}"), format!("{depth}/{limit}")]),
                format!("{peak} peak"),
                oldest,
            ],
            style: if now.fill() >= 1.0 { theme.critical() } else { Style::new() },
            flow: Some((self.rate(self.listener.rate.accepts, Measure::Accepts), "accepted")),
        }
    }

    fn acceptors(&self) -> Stage {
        let (acceptors, processes) = self.threads(Role::Acceptor, 2);
        let empty = self.listener.rate.would_block;
        let per_second = self.per_second(empty, Measure::WouldBlock);
        let brief = self.rate(empty, Measure::WouldBlock);
        Stage {
            title: "ACCEPTORS",
            lines: [
                self.marked(acceptors, Measure::Accepts),
                self.marked(processes, Measure::Accepts),
                self.fitting(
                    2,
                    [
                        format!("{per_second} would-block"),
                        format!("{per_second} EAGAIN"),
                        format!("{brief} EAGAIN"),
                        format!("{brief} empty"),
                    ],
                ),
                self.failed_or_gone(),
            ],
            style: Style::new(),
            flow: None,
        }
    }

    /// What went wrong with accepts: nothing, if nothing did.
    fn failed_or_gone(&self) -> String {
        let total = &self.listener.total;
        let some = |count: Option<u64>| count.filter(|count| *count > 0);
        let failed = some(total.accept_failed).map(|n| format!("{} failed", words::short(n)));
        let gone = total.client_closed.zip(total.client_reset).map(|(closed, reset)| closed + reset);
        let gone = some(gone).map(|n| self.marked(Some(words::short(n)), Measure::ClientGone));
        match (failed, gone) {
            (Some(failed), Some(gone)) => self.fitting(2, [format!("{failed}, {gone} gone"), failed]),
            (None, Some(gone)) => self.fitting(2, [format!("{gone} clients gone"), format!("{gone} gone")]),
            (failed, None) => failed.unwrap_or_default(),
        }
    }

    /// How old the oldest unread byte is.
    fn oldest_unread(&self) -> String {
        match self.listener.now.oldest_unread_us {
            Some(0) => "none waits".to_owned(),
            age => {
                let age = self.marked(age.map(words::duration), Measure::OldestUnread);
                self.fitting(3, [format!("oldest {age}"), format!("{age} old"), age])
            }
        }
    }

    fn receive_queues(&self) -> Stage {
        let (now, rate) = (&self.listener.now, &self.listener.rate);
        let p99 = self.listener.recent_distributions.residency.as_ref().and_then(|h| h.quantile_us(0.99));
        let residency = self.marked(p99.map(words::duration), Measure::Residency);
        let (unread, measure) = words::unread(now);
        let unread = self.marked(unread.map(words::short_bytes), measure);
        Stage {
            title: "RECEIVE QUEUES",
            lines: [
                format!("{} open", self.marked(now.open.map(words::short), Measure::OpenConnections)),
                self.fitting(3, [format!("{unread} unread"), format!("{unread} left")]),
                self.fitting(3, [format!("residency p99 {residency}"), format!("p99 {residency}")]),
                self.oldest_unread(),
            ],
            style: Style::new(),
            flow: Some((self.rate(rate.reads, Measure::Reads), "reads")),
        }
    }

    fn readers(&self) -> Stage {
        let (readers, _) = self.threads(Role::Reader, 4);
        let writers =
            self.acting(Role::Writer).map(|acting| self.number(4, acting.len(), Measure::Writes, ("writer", "wr.")));
        let bytes = self.listener.rate.read_bytes.map(|rate| format!("{}/s", words::bytes(rate as u64)));
        let per_second = self.marked(bytes, Measure::Reads);
        let p99 = self.listener.recent_distributions.answer.as_ref().and_then(|h| h.quantile_us(0.99));
        let answer = self.marked(p99.map(words::duration), Measure::Answer);
        Stage {
            title: "READERS",
            lines: [
                self.marked(readers, Measure::Reads),
                self.fitting(4, [format!("{per_second} read"), per_second]),
                self.marked(writers, Measure::Writes),
                self.fitting(
                    4,
                    [format!("answer p99 {answer}"), format!("answer {answer}"), format!("ans. {answer}"), answer],
                ),
            ],
            style: Style::new(),
            flow: None,
        }
    }

    /// The threads that have a role; `None` if none was seen at work yet.
    fn acting(&self, role: Role) -> Option<Vec<&ThreadModel>> {
        let threads = &self.listener.threads;
        (!threads.is_empty()).then(|| threads.iter().filter(|t| t.roles.contains(&role)).collect())
    }

    /// How many threads, and how many processes, have a role; `None` where that cannot be seen.
    fn threads(&self, role: Role, stage: usize) -> (Option<String>, Option<String>) {
        let Some(acting) = self.acting(role) else {
            let seen = words::status(self.model, Measure::Accepts) != Status::Unavailable;
            return (seen.then(|| "none seen".to_owned()), seen.then(String::new));
        };
        let processes: HashSet<u32> = acting.iter().map(|t| t.pid).collect();
        (
            Some(self.number(stage, acting.len(), Measure::Accepts, ("thread", "thr."))),
            Some(self.number(stage, processes.len(), Measure::Accepts, ("process", "proc."))),
        )
    }

    /// A number of a noun, or of its abbreviation where the noun does not fit with the mark that `measure` may have.
    fn number(&self, stage: usize, n: usize, measure: Measure, (noun, abbreviated): (&str, &str)) -> String {
        let count = words::short(n as u64);
        let whole = format!("{count} {}", words::prose::inflect(n as u64, noun));
        let fits = words::width(&self.marked(Some(whole.clone()), measure)) <= self.inner[stage];
        if fits { whole } else { format!("{count} {abbreviated}") }
    }

    /// Refused attempts in one line, and the sums of the interval.
    fn drops_in_a_line(&self, buf: &mut Buffer, area: Rect, theme: Theme) {
        let drops = &self.listener.drops;
        let how = |n: Option<u64>| self.marked(n.map(words::short), Measure::DropCause);
        let (syn, ack) = (drops.accept_queue_full_on_syn, drops.accept_queue_full_on_ack);
        let queue_full = drops.syn_queue_full;
        let line = format!(
            "└▶ refused by accept queue: {} SYNs, {} final ACKs; by SYN queue: {}",
            how(syn),
            how(ack),
            how(queue_full)
        );
        let recent = &self.listener.recent_drops;
        let lately = [recent.accept_queue_full_on_syn, recent.accept_queue_full_on_ack, recent.syn_queue_full];
        let style = match ([syn, ack, queue_full], lately) {
            (_, lately) if lately.into_iter().flatten().any(|n| n > 0) => theme.critical(),
            (all, _) if all.into_iter().flatten().any(|n| n > 0) => theme.warning(),
            _ => theme.label(),
        };
        text::left(buf, area.x + 1, area.y, area.width - 1, &line, style);
        self.draw_sums(buf, Rect { y: area.y + 1, height: 1, ..area }, theme);
    }

    /// Refused attempts, leaving downwards where they are refused, and the sums of the interval.
    fn drops(&self, buf: &mut Buffer, area: Rect, (syn, accept): (u16, u16), theme: Theme) {
        text::put(buf, syn, area.y, 1, "│", Style::new());
        type Pick = fn(&Drops) -> Option<u64>;
        let causes: [(u16, &str, Pick, &str); 3] = [
            (accept, "└▶", |d| d.accept_queue_full_on_ack, "final ACKs refused: accept queue full"),
            (syn, "├▶", |d| d.accept_queue_full_on_syn, "SYNs refused: accept queue full"),
            (syn, "└▶", |d| d.syn_queue_full, "SYNs refused: SYN queue full"),
        ];
        for (y, (x, branch, pick, what)) in (area.y..).zip(causes) {
            let room = area.right().saturating_sub(x + BRANCH);
            let (words, style) = self.cause(pick, what, room, theme);
            text::put(buf, x, y, 2, branch, style);
            text::left(buf, x + BRANCH, y, room, &words, style);
        }
        self.draw_sums(buf, Rect { y: area.y + 3, height: 1, ..area }, theme);
    }

    /// How many attempts were refused for a cause, and how many per second lately.
    fn cause(&self, pick: fn(&Drops) -> Option<u64>, what: &str, room: u16, theme: Theme) -> (String, Style) {
        let (recent, interval) = (pick(&self.listener.recent_drops), pick(&self.listener.drops));
        let seconds = self.model.interval.recent_seconds;
        let rate = recent.filter(|_| seconds > 0.0).map(|n| n as f64 / seconds);
        let rate = rate.map_or(String::new(), |r| format!(" ({})", self.per_second(Some(r), Measure::DropCause)));
        let style = match (recent, interval) {
            (Some(1..), _) => theme.critical(),
            (_, Some(1..)) => theme.warning(),
            _ => theme.label(),
        };
        let with =
            |how: fn(u64) -> String| format!("{} {what}{rate}", self.marked(interval.map(how), Measure::DropCause));
        let whole = with(words::grouped);
        let fits = words::width(&whole) <= usize::from(room);
        (if fits { whole } else { with(words::short) }, style)
    }

    /// Sums of the interval, as `how` writes counts.
    fn sums(&self, how: fn(u64) -> String) -> [(&'static str, String); 7] {
        let (drops, total) = (&self.listener.drops, &self.listener.total);
        let marked = |value: Option<u64>, measure| self.marked(value.map(how), measure);
        [
            ("all drops", marked(drops.total, Measure::Drops)),
            ("other", marked(drops.other, Measure::DropCause)),
            ("unexplained", marked(drops.unexplained, Measure::Drops)),
            ("clients", marked(drops.clients, Measure::DropClients)),
            // They left the accept queue, and no accept took them.
            ("aborted", marked(total.aborted, Measure::Enqueued)),
            ("cookies", marked(total.cookies_sent, Measure::CookiesSent)),
            ("again", marked(total.synack_retransmits, Measure::SynackRetransmits)),
        ]
    }

    /// As many sums as fit the row; in short numbers if that makes room for more of them.
    fn draw_sums(&self, buf: &mut Buffer, area: Rect, theme: Theme) {
        let width = |(name, value): &(&str, String)| (name.len() + 1 + words::width(value)) as u16;
        let fitting = |sums: &[(&str, String)]| {
            let ends = sums.iter().scan(1, |end, sum| {
                *end += width(sum) + 2;
                Some(*end - 2)
            });
            ends.take_while(|end| *end <= area.width).count()
        };
        let (whole, brief) = (self.sums(words::grouped), self.sums(words::short));
        let sums = if fitting(&whole) >= fitting(&brief) { whole } else { brief };
        let mut x = area.x + 1;
        for sum in sums.iter().take(fitting(&sums)) {
            let (name, value) = sum;
            text::put(buf, x, area.y, area.width, name, theme.label());
            text::put(buf, x + name.len() as u16 + 1, area.y, area.width, value, Style::new());
            x += width(sum) + 2;
        }
    }
}
