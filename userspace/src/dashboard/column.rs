//! The columns of the overview: what each is, how wide, how important, and how it sorts. No drawing.

use std::cmp::Ordering;

use listentop_model::{
    coverage::{Measure, Status},
    model::{Distributions, Drops, Model},
};

use super::{
    format,
    group::{Item, fill},
};

/// A column, in the order on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// Mark of the worst finding.
    Severity,
    /// Address and port.
    Listener,
    /// Process.
    Process,
    /// Network namespace.
    Netns,
    /// SYN queue depth and young requests.
    SynQueue,
    /// Accept queue: bar, depth and limit.
    AcceptQueue,
    /// Peak depth of the accept queue in the interval.
    Peak,
    /// Depth of the accept queue over time.
    Trend,
    /// Accepts per second.
    Accepts,
    /// Median accept wait.
    WaitP50,
    /// 99th percentile of accept wait.
    WaitP99,
    /// Age of the oldest connection waiting.
    Oldest,
    /// Drops per second.
    Drops,
    /// Dominant cause of drops.
    Cause,
    /// Reads per second.
    Reads,
    /// 99th percentile of residency.
    ResidencyP99,
    /// Open connections.
    Open,
    /// Pattern.
    Pattern,
    /// Worst finding, in words.
    Finding,
}

/// What is fixed about a column.
#[derive(Debug)]
pub struct Spec {
    /// Heading shared with its neighbours.
    pub group: &'static str,
    /// Heading.
    pub label: &'static str,
    /// Name on its own, for the header and for facts below the table.
    pub name: &'static str,
    /// Least width.
    pub width: u16,
    /// Greatest width that is of use.
    pub max: u16,
    /// Numbers stand at the right.
    pub right: bool,
    /// The lower, the earlier it gets a place.
    pub rank: u8,
    /// What it needs to be measured.
    pub measure: Option<Measure>,
    /// A sentence for the help.
    pub help: &'static str,
}

#[expect(
    clippy::too_many_arguments,
    reason = "a table with one row per column reads better than named fields 19 times"
)]
const fn spec(
    group: &'static str,
    label: &'static str,
    name: &'static str,
    width: u16,
    max: u16,
    right: bool,
    rank: u8,
    measure: Option<Measure>,
    help: &'static str,
) -> Spec {
    Spec { group, label, name, width, max, right, rank, measure, help }
}

impl Column {
    /// Every column, in the order on the screen.
    pub const ALL: [Self; 19] = [
        Self::Severity,
        Self::Listener,
        Self::Process,
        Self::Netns,
        Self::SynQueue,
        Self::AcceptQueue,
        Self::Peak,
        Self::Trend,
        Self::Accepts,
        Self::WaitP50,
        Self::WaitP99,
        Self::Oldest,
        Self::Drops,
        Self::Cause,
        Self::Reads,
        Self::ResidencyP99,
        Self::Open,
        Self::Pattern,
        Self::Finding,
    ];

    /// What is fixed about it.
    #[must_use]
    #[rustfmt::skip]
    pub const fn spec(self) -> &'static Spec {
        use Measure as M;
        const SPECS: [Spec; 19] = [
            spec("", "", "findings", 2, 2, false, 0, None,
                "The worst finding about the listener: ! critical, * warning, i worth knowing."),
            spec("", "LISTENER", "address", 15, 47, false, 0, None,
                "Local address and port. *:80 takes IPv4 and IPv6, [::]:80 IPv6 only, 0.0.0.0:80 IPv4 only. ▸ is a folded and ▾ an unfolded SO_REUSEPORT group, × its number of shards."),
            spec("", "PROCESS", "process", 10, 28, false, 2, Some(M::Owners),
                "Name and id of the process that holds the listener; +3: three more processes hold it. ?: none that may be seen."),
            spec("", "NETNS", "network namespace", 8, 16, false, 7, None,
                "Network namespace, by name or inode; there only if there are several."),
            spec("SYN QUEUE", "n/young", "SYN queue", 9, 11, true, 9, Some(M::SynQueueDepth),
                "Handshakes under way: SYN received, final ACK not yet; and how many of them are young: their SYN-ACK was not sent again."),
            spec("ACCEPT QUEUE", "depth/limit", "accept queue", 15, 24, false, 1, Some(M::AcceptQueueDepth),
                "Connections waiting to be accepted, against the limit: the backlog plus the one more that the kernel admits. In the bar ┃ marks the peak of the recent span. Of a group: the bar is its fullest shard, the numbers are sums."),
            spec("ACCEPT QUEUE", "peak", "peak depth", 5, 6, true, 11, Some(M::AcceptQueuePeak),
                "Largest depth of the accept queue in the whole interval, seen at every enqueue, so also between two refreshes. CPUs that complete handshakes at the same moment can exceed the limit. Of a group: of any one shard."),
            spec("ACCEPT QUEUE", "over time", "depth over time", 10, 30, false, 12, None,
                "Peak depth of the accept queue at each refresh, the newest at the right; a full block is the limit, or more."),
            spec("ACCEPT", "/s", "accepts/s", 6, 7, true, 4, Some(M::Accepts),
                "Connections taken from the accept queue per second, in the recent span."),
            spec("ACCEPT WAIT", "p50", "accept wait p50", 6, 7, true, 10, Some(M::AcceptWait),
                "Half of the connections accepted in the recent span waited in the accept queue no longer than this."),
            spec("ACCEPT WAIT", "p99", "accept wait p99", 6, 7, true, 5, Some(M::AcceptWait),
                "99 of 100 connections accepted in the recent span waited no longer than this."),
            spec("ACCEPT WAIT", "oldest", "oldest waiting", 7, 7, true, 6, Some(M::OldestWaiting),
                "How long the oldest connection still in the accept queue has waited so far: it grows if the acceptor hangs. -: none waits."),
            spec("DROPS", "/s", "drops/s", 6, 7, true, 3, Some(M::Drops),
                "Attempts that a queue refused per second, in the recent span. One client that tries again is refused again."),
            spec("DROPS", "cause", "drop cause", 16, 16, false, 8, Some(M::DropCause),
                "The most frequent cause in the recent span, or in the interval if nothing was refused lately: accept full/SYN and accept full/ACK: the accept queue was full when a SYN, or the final ACK, came; SYN queue full; other; unexplained."),
            spec("READS", "/s", "reads/s", 6, 7, true, 13, Some(M::Reads),
                "Successful reads from accepted connections per second."),
            spec("RESIDENCY", "p99", "residency p99", 9, 9, true, 14, Some(M::Residency),
                "99 of 100 reads took bytes of which the first had waited no longer than this in its receive queue."),
            spec("OPEN", "conns", "open connections", 6, 7, true, 15, Some(M::OpenConnections),
                "Connections that were accepted and are not yet destroyed."),
            spec("", "PATTERN", "pattern", 15, 22, false, 16, None,
                "How accepting, reading and writing are spread over threads, processes and sockets, from what the threads were seen doing."),
            spec("", "FINDING", "finding", 16, 90, false, 17, None,
                "What is wrong, in words; the advice is in the listener view."),
        ];
        &SPECS[self as usize]
    }

    /// Whether rows can be sorted by it.
    #[must_use]
    pub const fn sortable(self) -> bool {
        !matches!(self, Self::Trend | Self::Finding)
    }

    /// The order that one wants first: the largest number, but the first name.
    #[must_use]
    pub const fn descending_first(self) -> bool {
        !matches!(self, Self::Listener | Self::Process | Self::Netns | Self::Pattern | Self::Cause)
    }

    /// The next sortable column, `step` to the right (or left if negative), round the end.
    #[must_use]
    pub fn beside(self, step: isize) -> Self {
        let mut at = self as usize;
        loop {
            at = at.wrapping_add_signed(step + Self::ALL.len() as isize) % Self::ALL.len();
            if Self::ALL[at].sortable() {
                return Self::ALL[at];
            }
        }
    }

    /// What `item` sorts by; `order` is its place in the model's own order (namespace, port, address).
    #[must_use]
    pub fn key(self, item: Item<'_>, order: usize) -> Key<'_> {
        let figures = item.figures();
        let now = &figures.now;
        let number = |n: Option<f64>| n.map_or(Key::Unknown, Key::Number);
        let quantile = |pick, q| number(item.recent(pick).and_then(|h| h.quantile_us(q)).map(|us| us as f64));
        match self {
            Self::Severity => {
                Key::Number(figures.findings.iter().map(|f| f.severity as u8 + 1).max().unwrap_or(0).into())
            }
            Self::Listener | Self::Trend | Self::Finding => Key::Number(order as f64),
            Self::Process => figures.process.as_ref().map_or(Key::Unknown, |p| Key::Text(&p.comm)),
            Self::Netns => figures.netns_name.as_deref().map_or(Key::Number(figures.netns.into()), Key::Text),
            Self::SynQueue => number(now.syn_depth.map(f64::from)),
            Self::AcceptQueue => Key::Number(fill(&item.fullest().now)),
            Self::Peak => number(now.accept_peak.map(f64::from)),
            Self::Accepts => number(figures.rate.accepts),
            Self::WaitP50 => quantile(accept_wait, 0.5),
            Self::WaitP99 => quantile(accept_wait, 0.99),
            Self::Oldest => number(now.oldest_waiting_us.map(|us| us as f64)),
            Self::Drops => number(figures.rate.drops),
            Self::Cause => dominant_cause(item).map_or(Key::Unknown, Key::Text),
            Self::Reads => number(figures.rate.reads),
            Self::ResidencyP99 => quantile(residency, 0.99),
            Self::Open => number(now.open.map(|n| n as f64)),
            Self::Pattern => Key::Text(figures.pattern.name.name()),
        }
    }

    /// Its text for `item`. [`Column::AcceptQueue`] gives the numbers only and [`Column::Trend`] nothing: both are
    /// drawn.
    #[must_use]
    pub fn text(self, item: Item<'_>, model: &Model) -> String {
        let figures = item.figures();
        let now = &figures.now;
        let status = self.spec().measure.map_or(Status::Measured, |m| format::status(model, m));
        let rate = |r: Option<f64>| format::marked(r.map(format::rate), status);
        let quantile =
            |pick, q| format::marked(item.recent(pick).and_then(|h| h.quantile_us(q)).map(format::duration), status);
        match self {
            Self::Severity => {
                figures.findings.iter().map(|f| f.severity).max().map_or("", format::severity_mark).to_owned()
            }
            Self::Listener => format::listener_endpoint(figures),
            Self::Process => format::process(figures),
            Self::Netns => format::netns(figures),
            Self::SynQueue => {
                let young = now.syn_young.map_or(String::new(), |young| format!("/{}", format::short(young.into())));
                format::marked(now.syn_depth.map(|n| format::short(n.into()) + &young), status)
            }
            Self::AcceptQueue => {
                let depth = format::marked(Some(format::short(now.accept_depth.into())), status);
                format!("{depth}/{}", format::short(now.limit.into()))
            }
            Self::Peak => format::marked(now.accept_peak.map(|n| format::short(n.into())), status),
            Self::Trend => String::new(),
            Self::Accepts => rate(figures.rate.accepts),
            Self::WaitP50 => quantile(accept_wait, 0.5),
            Self::WaitP99 => quantile(accept_wait, 0.99),
            Self::Oldest => match now.oldest_waiting_us {
                Some(0) => format::NOTHING.to_owned(),
                age => format::marked(age.map(format::duration), status),
            },
            Self::Drops => rate(figures.rate.drops),
            Self::Cause => format::marked(dominant_cause(item).map(str::to_owned), status),
            Self::Reads => rate(figures.rate.reads),
            Self::ResidencyP99 => quantile(residency, 0.99),
            Self::Open => format::marked(now.open.map(format::short), status),
            Self::Pattern => figures.pattern.name.name().to_owned(),
            Self::Finding => figures.findings.first().map_or(String::new(), |f| f.summary.clone()),
        }
    }
}

fn accept_wait(d: &Distributions) -> Option<&listentop_model::histogram::Histogram> {
    d.accept_wait.as_ref()
}

fn residency(d: &Distributions) -> Option<&listentop_model::histogram::Histogram> {
    d.residency.as_ref()
}

/// The most frequent cause of recent drops, else of the interval's.
fn dominant_cause(item: Item<'_>) -> Option<&'static str> {
    let of = |drops: &Drops| {
        [
            (drops.accept_queue_full_on_syn, "accept full/SYN"),
            (drops.accept_queue_full_on_ack, "accept full/ACK"),
            (drops.syn_queue_full, "SYN queue full"),
            (drops.other, "other"),
            (drops.unexplained, "unexplained"),
        ]
        .into_iter()
        .filter_map(|(count, name)| count.filter(|&n| n > 0).map(|n| (n, name)))
        .max_by_key(|(count, _)| *count)
        .map(|(_, name)| name)
    };
    of(&item.figures().recent_drops).or_else(|| of(&item.figures().drops))
}

/// What a row sorts by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key<'a> {
    /// Not known: last in either order.
    Unknown,
    /// A number.
    Number(f64),
    /// A text.
    Text(&'a str),
}

impl Key<'_> {
    /// The order of two keys.
    #[must_use]
    pub fn compare(a: &Self, b: &Self, descending: bool) -> Ordering {
        let order = match (a, b) {
            (Self::Unknown, Self::Unknown) => return Ordering::Equal,
            (Self::Unknown, _) => return Ordering::Greater,
            (_, Self::Unknown) => return Ordering::Less,
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        };
        if descending { order.reverse() } else { order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fit_their_columns() {
        for column in Column::ALL {
            let spec = column.spec();
            // One more for the mark of the order.
            let room = spec.width + u16::from(!spec.right);
            assert!(format::width(spec.label) < room.into() || !column.sortable(), "{}", spec.label);
            assert!(spec.max >= spec.width);
        }
    }

    #[test]
    fn sorting_goes_round_and_skips_what_has_no_order() {
        let mut column = Column::Severity;
        let mut seen = Vec::new();
        loop {
            seen.push(column);
            column = column.beside(1);
            if column == Column::Severity {
                break;
            }
        }
        assert_eq!(seen.len(), Column::ALL.iter().filter(|c| c.sortable()).count());
        assert_eq!(Column::Severity.beside(-1), Column::Pattern);
    }

    #[test]
    fn unknown_is_last_in_either_order() {
        for descending in [true, false] {
            assert_eq!(Key::compare(&Key::Unknown, &Key::Number(0.0), descending), Ordering::Greater);
        }
        assert_eq!(Key::compare(&Key::Number(1.0), &Key::Number(2.0), true), Ordering::Greater);
    }
}
