//! The columns of the overview. Each is declared once: what it is called, how wide and important it is, what it shows
//! and how it sorts. No drawing.

use std::cmp::Ordering;

use listentop_model::{
    coverage::{Measure, Status},
    histogram::Histogram,
    model::{Distributions, Drops, Finding, ListenerModel, Model, Severity},
    words::{
        self,
        verdict::{self, Standing},
    },
};

use super::group::Item;

/// What is fixed about a column.
#[derive(Debug)]
pub struct Spec {
    /// Heading shared with its neighbours.
    pub group: &'static str,
    /// Heading.
    pub label: &'static str,
    /// Name on its own, for the header and for the facts below the table.
    pub name: &'static str,
    /// Least width.
    pub width: u16,
    /// Greatest useful width.
    pub max: u16,
    /// Right-aligned, as numbers are.
    pub right: bool,
    /// The measure that it shows.
    pub measure: Option<Measure>,
    /// The initial order of rows that are sorted by it. `None`: they cannot be sorted by it.
    pub order: Option<Order>,
    /// A sentence for the help.
    pub help: &'static str,
    /// What is normal.
    pub normal: &'static str,
    /// What a row sorts by; the number is the row's place in the model's own order (namespace, port, address).
    pub key: for<'a> fn(Item<'a>, usize) -> Key<'a>,
    /// Its text.
    pub text: fn(&Cell<'_>) -> String,
}

/// An order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The largest number first.
    Descending,
    /// The first name first.
    Ascending,
}

/// What most columns have in common: they are numbers.
const NUMBER: Spec = Spec {
    group: "",
    label: "",
    name: "",
    width: 6,
    max: 7,
    right: true,
    measure: None,
    order: Some(Order::Descending),
    help: "",
    normal: "",
    key: |_, _| Key::Unknown,
    text: |_| String::new(),
};

/// What the other columns have in common: they are names.
const NAME: Spec = Spec { right: false, order: Some(Order::Ascending), ..NUMBER };

/// The row that a column is written for.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    item: Item<'a>,
    model: &'a Model,
    /// How well the column's measure is covered.
    status: Status,
}

impl<'a> Cell<'a> {
    fn figures(&self) -> &'a ListenerModel {
        self.item.figures()
    }

    fn marked(&self, value: Option<String>) -> String {
        words::marked(value, self.status)
    }

    fn count(&self, count: Option<impl Into<u64>>) -> String {
        self.marked(count.map(|n| words::short(n.into())))
    }

    fn rate(&self, rate: Option<f64>) -> String {
        self.marked(rate.map(words::rate))
    }

    fn quantile(&self, pick: fn(&Distributions) -> Option<&Histogram>, q: f64) -> String {
        self.marked(quantile(self.item, pick, q).map(words::duration))
    }
}

/// Makes the columns from their declarations, in the order on the screen.
macro_rules! columns {
    ($($(#[$doc:meta])* $column:ident: $spec:expr;)+) => {
        /// A column, in the order on the screen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Column {
            $($(#[$doc])* $column,)+
        }

        static SPECS: [Spec; [$(stringify!($column)),+].len()] = [$($spec),+];

        impl Column {
            /// Every column, in the order on the screen.
            pub const ALL: [Self; [$(stringify!($column)),+].len()] = [$(Self::$column),+];
        }
    };
}

columns! {
    /// Mark of the worst finding.
    Severity: Spec {
        name: "findings", width: 2, max: 2, order: Some(Order::Descending),
        help: "The worst finding about the listener: ! critical, * warning, i worth knowing.",
        normal: "None. A warning that comes and goes deserves a look; a critical one costs clients now.",
        key: |item, _| Key::Standing(standing(item)),
        text: |cell| worst(cell.figures()).map_or("", words::severity_mark).to_owned(),
        ..NAME
    };
    /// Address and port.
    Listener: Spec {
        label: "LISTENER", name: "address", width: 15, max: 47,
        help: "Local address and port. *:80 accepts IPv4 and IPv6, [::]:80 only IPv6, 0.0.0.0:80 only IPv4. ▸ is a folded and ▾ an \
               unfolded SO_REUSEPORT group, × its number of shards.",
        normal: "What your configuration says. An address that should be local but is *, or 0.0.0.0, deserves a question.",
        key: |_, order| Key::Number(order as f64),
        text: |cell| words::listener_endpoint(cell.figures()),
        ..NAME
    };
    /// Process.
    Process: Spec {
        label: "PROCESS", name: "process", width: 10, max: 28, measure: Some(Measure::Owners),
        help: "Name and id of the process that holds the listener; +3: three more processes hold it. ?: no holder is visible.",
        normal: "The server's name. +N is normal where workers inherit the socket from the process that opened it.",
        key: |item, _| item.figures().process.as_ref().map_or(Key::Unknown, |p| Key::Text(&p.comm)),
        text: |cell| words::process(cell.figures()),
        ..NAME
    };
    /// Network namespace.
    Netns: Spec {
        label: "NETNS", name: "network namespace", width: 8, max: 16,
        help: "Network namespace, by name or inode; shown only if there are several.",
        normal: "That of the container, or of the host, that the server should run in.",
        key: |item, _| {
            let figures = item.figures();
            figures.netns_name.as_deref().map_or(Key::Number(figures.netns.into()), Key::Text)
        },
        text: |cell| words::netns(cell.figures()),
        ..NAME
    };
    /// Pod and container.
    Container: Spec {
        label: "CONTAINER", name: "container", width: 12, max: 32,
        help: "Container that the process runs in, by name or else by id, behind its pod or the container around it. Outside \
               any container the systemd service. Shown only if some process runs in a container.",
        normal: "The container whose port it is: two containers may listen on the same one.",
        key: |item, _| {
            let process = item.figures().process.as_ref();
            let place = process.and_then(|p| p.in_container().or(p.service.as_deref()));
            place.map_or(Key::Unknown, Key::Text)
        },
        text: |cell| match words::container(cell.figures()) {
            container if container.is_empty() => words::service(cell.figures()),
            container => container,
        },
        ..NAME
    };
    /// SYN queue depth and young requests.
    SynQueue: Spec {
        group: "SYN QUEUE", label: "n/young", name: "SYN queue", width: 9, max: 11,
        measure: Some(Measure::SynQueueDepth),
        help: "Handshakes in progress: SYN received, final ACK not yet; and how many of them are young: their SYN-ACK was not \
               sent again.",
        normal: "Near 0 on a local network; where clients are far away, their rate times the round trip. Many, and few of them young: \
                 final ACKs are late or lost, or someone floods the port with SYNs.",
        key: |item, _| Key::number(item.figures().now.syn_depth.map(f64::from)),
        text: |cell| {
            let now = &cell.figures().now;
            let young = now.syn_young.map_or(String::new(), |young| format!("/{}", words::short(young.into())));
            cell.marked(now.syn_depth.map(|n| words::short(n.into()) + &young))
        },
        ..NUMBER
    };
    /// Accept queue: bar, depth and limit. The text is the numbers; the bar is drawn.
    AcceptQueue: Spec {
        group: "ACCEPT QUEUE", label: "depth/limit", name: "accept queue", width: 13, max: 24, right: false,
        measure: Some(Measure::AcceptQueueDepth),
        help: "Connections waiting to be accepted, and the limit: the backlog plus the one more that the kernel admits. In the bar \
               ┃ marks the peak of the recent span. Of a group: bar and numbers are those of its fullest shard.",
        normal: "0, with short peaks. A queue that stays above half of its limit has no room for a burst.",
        key: |item, _| Key::Number(item.fullest().now.fill()),
        text: |cell| {
            let now = &cell.item.fullest().now;
            format!("{}/{}", cell.count(Some(now.accept_depth)), words::short(now.limit.into()))
        },
        ..NUMBER
    };
    /// Peak depth of the accept queue in the interval.
    Peak: Spec {
        group: "ACCEPT QUEUE", label: "peak", name: "peak depth", width: 5, max: 6,
        measure: Some(Measure::AcceptQueuePeak),
        help: "Largest depth of the accept queue in the whole interval, seen at every enqueue, so also between two refreshes. CPUs \
               that complete handshakes at the same moment can exceed the limit. Of a group: of any one shard.",
        normal: "Below half of the limit. At the limit the next client is refused.",
        key: |item, _| Key::number(item.figures().now.accept_peak.map(f64::from)),
        text: |cell| cell.count(cell.figures().now.accept_peak),
        ..NUMBER
    };
    /// Depth of the accept queue over time. It has no text: it is drawn.
    Trend: Spec {
        group: "ACCEPT QUEUE", label: "over time", name: "depth over time", width: 10, max: 30, order: None,
        help: "Peak depth of the accept queue at each refresh, the newest at the right; a full block is the limit, or more.",
        normal: "Dots with thin peaks. A plateau: connections come faster than they are accepted, or nobody accepts.",
        key: |_, order| Key::Number(order as f64),
        ..NAME
    };
    /// Accepts per second.
    Accepts: Spec {
        group: "ACCEPT", label: "/s", name: "accepts/s", measure: Some(Measure::Accepts),
        help: "Connections taken from the accept queue per second, in the recent span.",
        normal: "The rate at which clients connect. If it is lower, the queue grows.",
        key: |item, _| Key::number(item.figures().rate.accepts),
        text: |cell| cell.rate(cell.figures().rate.accepts),
        ..NUMBER
    };
    /// Median accept wait.
    WaitP50: Spec {
        group: "ACCEPT WAIT", label: "p50", name: "accept wait p50", measure: Some(Measure::AcceptWait),
        help: "Half of the connections accepted in the recent span waited in the accept queue no longer than this.",
        normal: "10 to 100 µs: the time in which the acceptor wakes up.",
        key: |item, _| Key::quantile(item, accept_wait, 0.5),
        text: |cell| cell.quantile(accept_wait, 0.5),
        ..NUMBER
    };
    /// 99th percentile of accept wait.
    WaitP99: Spec {
        group: "ACCEPT WAIT", label: "p99", name: "accept wait p99", measure: Some(Measure::AcceptWait),
        help: "99 of 100 connections accepted in the recent span waited no longer than this.",
        normal: "Below some milliseconds. It is part of the latency of every new connection.",
        key: |item, _| Key::quantile(item, accept_wait, 0.99),
        text: |cell| cell.quantile(accept_wait, 0.99),
        ..NUMBER
    };
    /// Age of the oldest connection waiting.
    Oldest: Spec {
        group: "ACCEPT WAIT", label: "oldest", name: "oldest waiting", width: 7,
        measure: Some(Measure::OldestWaiting),
        help: "How long the oldest connection still in the accept queue has waited so far: it grows if the acceptor hangs. \
               -: none waits.",
        normal: "None, or some milliseconds. Above a second: nobody accepts.",
        key: |item, _| Key::number(item.figures().now.oldest_waiting_us.map(|us| us as f64)),
        text: |cell| match cell.figures().now.oldest_waiting_us {
            Some(0) => words::NOTHING.to_owned(),
            age => cell.marked(age.map(words::duration)),
        },
        ..NUMBER
    };
    /// Drops per second.
    Drops: Spec {
        group: "DROPS", label: "/s", name: "drops/s", measure: Some(Measure::Drops),
        help: "Attempts that a queue refused per second, in the recent span. One client that tries again is refused again.",
        normal: "0. Each costs its client a second or more: it waits that long before it tries again.",
        key: |item, _| Key::number(item.figures().rate.drops),
        text: |cell| cell.rate(cell.figures().rate.drops),
        ..NUMBER
    };
    /// Dominant cause of drops.
    Cause: Spec {
        group: "DROPS", label: "cause", name: "drop cause", width: 16, max: 16, measure: Some(Measure::DropCause),
        help: "The most frequent cause in the recent span, or in the interval if nothing was refused lately. accept full/SYN and \
               accept full/ACK: the accept queue was full when a SYN, or the final ACK, arrived; SYN queue full; other; unexplained.",
        normal: "None.",
        key: |item, _| dominant_cause(item).map_or(Key::Unknown, Key::Text),
        text: |cell| cell.marked(dominant_cause(cell.item).map(str::to_owned)),
        ..NAME
    };
    /// Reads per second.
    Reads: Spec {
        group: "READS", label: "/s", name: "reads/s", measure: Some(Measure::Reads),
        help: "Successful reads from accepted connections per second.",
        normal: "Requests per second times reads per request.",
        key: |item, _| Key::number(item.figures().rate.reads),
        text: |cell| cell.rate(cell.figures().rate.reads),
        ..NUMBER
    };
    /// 99th percentile of residency.
    ResidencyP99: Spec {
        group: "RESIDENCY", label: "p99", name: "residency p99", width: 9, max: 9,
        measure: Some(Measure::Residency),
        help: "For 99 of 100 reads, the first of the bytes read had waited in the receive queue no longer than this.",
        normal: "Below some milliseconds: a thread reads as soon as bytes come. Longer: readers are busy or blocked.",
        key: |item, _| Key::quantile(item, residency, 0.99),
        text: |cell| cell.quantile(residency, 0.99),
        ..NUMBER
    };
    /// Open connections.
    Open: Spec {
        group: "OPEN", label: "conns", name: "open connections", measure: Some(Measure::OpenConnections),
        help: "Connections that were accepted and are not yet destroyed.",
        normal: "The clients that are connected. Growing without end: connections are not closed.",
        key: |item, _| Key::number(item.figures().now.open.map(|n| n as f64)),
        text: |cell| cell.count(cell.figures().now.open),
        ..NUMBER
    };
    /// Pattern.
    Pattern: Spec {
        label: "PATTERN", name: "pattern", width: 15, max: 22,
        help: "How accepting, reading and writing are spread over threads, processes and sockets, as the threads were seen to do it.",
        normal: "The one that the server is built for. unknown: too little was seen yet.",
        key: |item, _| Key::Text(item.figures().pattern.name.name()),
        text: |cell| cell.figures().pattern.name.name().to_owned(),
        ..NAME
    };
    /// Worst finding, in words.
    Finding: Spec {
        label: "FINDING", name: "finding", width: 12, max: 110, order: None,
        help: "What is wrong: the name of the finding, then what was seen; without a name, what the figures show before a finding \
               holds. The advice is in the listener view.",
        normal: "None.",
        key: |_, order| Key::Number(order as f64),
        text: |cell| {
            let found = |f: &Finding| format!("{}: {}", f.id.replace('_', " "), f.summary);
            let unfound = verdict::unfound(cell.model, cell.figures());
            unfound.map(|(_, text)| text).or_else(|| cell.figures().findings.first().map(found)).unwrap_or_default()
        },
        ..NAME
    };
}

impl Column {
    /// What is fixed about it.
    #[must_use]
    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }

    /// Whether rows can be sorted by it.
    #[must_use]
    pub fn sortable(self) -> bool {
        self.spec().order.is_some()
    }

    /// Whether sorting by it puts the largest first.
    #[must_use]
    pub fn descending_first(self) -> bool {
        self.spec().order == Some(Order::Descending)
    }

    /// The next sortable column, `step` to the right (or left if negative). The last one is followed by the first.
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
        (self.spec().key)(item, order)
    }

    /// Its text for `item`.
    #[must_use]
    pub fn text(self, item: Item<'_>, model: &Model) -> String {
        let status = self.spec().measure.map_or(Status::Measured, |measure| words::status(model, measure));
        (self.spec().text)(&Cell { item, model, status })
    }
}

/// How a row stands, as the verdict and the report see it: of a group, its worst shard that is open.
fn standing(item: Item<'_>) -> Standing {
    match item {
        Item::One(listener) => Standing::of(listener),
        Item::Group(group, model) => {
            let open = group.members(model).filter(|shard| !shard.closed);
            open.map(Standing::of).max().unwrap_or_else(|| Standing::of(item.figures()))
        }
    }
}

/// The worst of what is or was wrong.
fn worst(figures: &ListenerModel) -> Option<Severity> {
    figures.findings.iter().map(|finding| finding.severity).max().max(Standing::of(figures).severity)
}

fn accept_wait(d: &Distributions) -> Option<&Histogram> {
    d.accept_wait.as_ref()
}

fn residency(d: &Distributions) -> Option<&Histogram> {
    d.residency.as_ref()
}

/// A quantile of a recent distribution, in microseconds.
fn quantile(item: Item<'_>, pick: fn(&Distributions) -> Option<&Histogram>, q: f64) -> Option<u64> {
    item.recent(pick)?.quantile_us(q)
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
    /// How bad it is: what holds now before what has passed.
    Standing(Standing),
}

impl Key<'_> {
    fn number(number: Option<f64>) -> Self {
        number.map_or(Self::Unknown, Self::Number)
    }

    fn quantile(item: Item<'_>, pick: fn(&Distributions) -> Option<&Histogram>, q: f64) -> Self {
        Self::number(quantile(item, pick, q).map(|us| us as f64))
    }

    /// Keys of one sort stand together; a column has one sort.
    const fn sort(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Text(_) => 1,
            Self::Standing(_) => 2,
            Self::Unknown => 3,
        }
    }

    /// The order of two keys.
    #[must_use]
    pub fn compare(a: &Self, b: &Self, descending: bool) -> Ordering {
        let order = match (a, b) {
            (Self::Unknown, Self::Unknown) => return Ordering::Equal,
            (Self::Unknown, _) => return Ordering::Greater,
            (_, Self::Unknown) => return Ordering::Less,
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Standing(a), Self::Standing(b)) => a.cmp(b),
            (a, b) => a.sort().cmp(&b.sort()),
        };
        if descending { order.reverse() } else { order }
    }
}

#[cfg(test)]
mod tests;
