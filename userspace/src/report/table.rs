//! The report as text: what was measured, a row per listener, then a block for each that was used.

mod connections;

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use listentop_model::{
    coverage::{Measure, Status},
    histogram::Histogram,
    model::{Drops, GroupId, GroupModel, Interval, ListenerModel, Model, ThreadModel, depth},
};

use listentop_model::words::losses::{self, Loss};
use listentop_model::words::verdict::{self, Standing};
use listentop_model::words::{
    bytes, clean, container, container_in_full, duration, finding_time, fit, grouped, listener_endpoint, marked, netns,
    percent, plural, process, rate, service, short, status, thread_name, utc, width, wrap,
};

/// Lines are never made for less than this; a narrower terminal cuts them.
const MIN_WIDTH: usize = 60;
/// Threads listed per listener; the rest is counted.
const THREADS: usize = 12;

/// The report of a model, in lines of at most `width` columns (at least 60), each ended by a newline: the verdict
/// first, the worst listener before the others, and at the end what could be measured. `remarks` are about what is in
/// it.
#[must_use]
pub fn table(model: &Model, remarks: &[String], width: usize) -> String {
    let width = width.max(MIN_WIDTH);
    let mut lines = indent(&format!("{}.", verdict::of(model).text), "", "  ", width);
    lines.push(interval(model));
    lines.extend(notes(model, width));
    lines.push(String::new());
    let rows = rows(model);
    lines.extend(grid(&overview(model, &rows), width, 0));
    if model.listeners.is_empty() && remarks.is_empty() {
        lines.push("(no listener)".to_owned());
    }
    for remark in remarks {
        lines.extend(indent(&format!("({})", clean(remark)), "", " ", width));
    }
    for row in rows.iter().filter(|row| active(&row.listener)) {
        lines.push(String::new());
        lines.extend(block(model, row, width));
    }
    lines.push(String::new());
    lines.extend(coverage(model, width));
    let mut text = String::new();
    for line in lines {
        // Names are cleaned where they are put into columns; this holds for every sentence, too.
        text.push_str(fit(clean(&line).trim_end(), width).trim_end());
        text.push('\n');
    }
    text
}

/// A row of the overview, which may also have a block.
struct Row<'a> {
    /// The listener, or a group as one.
    listener: Cow<'a, ListenerModel>,
    kind: RowKind,
}

/// What a row is about.
enum RowKind {
    Listener,
    /// A group, of so many shards.
    Group(usize),
    /// A shard: its number, and how many there are.
    Shard(usize, usize),
}

/// The listeners in order, the worst first. A group comes before its shards, of which likewise the worst is first, and
/// stands as that one does. What has closed is last.
fn rows(model: &Model) -> Vec<Row<'_>> {
    let grouped: HashMap<GroupId, &GroupModel> = model.groups.iter().map(|group| (group.id, group)).collect();
    let mut begun = HashSet::new();
    let mut blocks: Vec<(bool, Standing, Vec<Row<'_>>)> = Vec::with_capacity(model.listeners.len());
    for listener in &model.listeners {
        let Some(group) = listener.group.and_then(|id| grouped.get(&id)) else {
            let row = Row { listener: Cow::Borrowed(listener), kind: RowKind::Listener };
            blocks.push((listener.closed, Standing::of(listener), vec![row]));
            continue;
        };
        if begun.insert(group.id) {
            let count = group.shards.len();
            let mut rows = vec![Row { listener: Cow::Owned(group.full(model)), kind: RowKind::Group(count) }];
            let mut shards: Vec<_> = group.members(model).zip(1..).collect();
            shards.sort_by_key(|(shard, _)| (shard.closed, Reverse(Standing::of(shard))));
            let row = |(shard, n)| Row { listener: Cow::Borrowed(shard), kind: RowKind::Shard(n, count) };
            rows.extend(shards.into_iter().map(row));
            let worst = group.members(model).map(Standing::of).max().unwrap_or_default();
            blocks.push((group.sum.closed, worst, rows));
        }
    }
    // Stable: what stands alike stays in the model's order.
    blocks.sort_by_key(|(closed, standing, _)| (*closed, Reverse(*standing)));
    blocks.into_iter().flat_map(|(_, _, rows)| rows).collect()
}

impl Row<'_> {
    /// What the overview calls it.
    fn label(&self) -> String {
        match self.kind {
            RowKind::Listener => listener_endpoint(&self.listener),
            RowKind::Group(shards) => format!("{} ×{shards}", listener_endpoint(&self.listener)),
            RowKind::Shard(number, _) => format!("  shard {number}"),
        }
    }

    /// What it is, if it is no listener on its own.
    fn kind(&self) -> String {
        match self.kind {
            RowKind::Listener => String::new(),
            RowKind::Group(shards) => format!("group of {shards} shards"),
            RowKind::Shard(number, shards) => format!("shard {number} of {shards}"),
        }
    }
}

/// Whether a listener gets a block in addition to its row.
fn active(l: &ListenerModel) -> bool {
    let counts = [l.total.enqueued, l.total.accepts, l.total.reads, l.drops.total];
    counts.into_iter().flatten().any(|n| n > 0) || l.now.accept_depth > 0 || !l.findings.is_empty()
}

/// When was measured, and where.
fn interval(model: &Model) -> String {
    let host = &model.host;
    format!(
        "listentop: {:.1} s from {}, kernel {}, {}",
        model.interval.seconds,
        utc(model.interval.start_unix_ms),
        clean(&host.kernel),
        plural(host.cpus.into(), "CPU")
    )
}

/// What makes the numbers that follow doubtful: losses, and what no listener accounts for.
fn notes(model: &Model, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if !losses::of(&model.losses).is_empty() {
        lines.extend(indent(&lost(model), "", "  ", width));
    }
    for n in &model.namespaces {
        if let Some(unexplained) = n.unexplained_drops.filter(|d| *d != 0) {
            let name = n.name.as_deref().map_or_else(|| n.id.inode.to_string(), clean);
            let what = if unexplained > 0 {
                "refused attempts that no listener accounts for"
            } else {
                "more attempts in the listeners' drops than were refused: some are upper bounds"
            };
            let line = format!("namespace {name}: {} {what}", grouped(unexplained.unsigned_abs()));
            lines.extend(indent(&line, "", "  ", width));
        }
    }
    lines
}

/// What it cost, and what could not be measured.
fn coverage(model: &Model, width: usize) -> Vec<String> {
    let cost = &model.cost;
    let probes = match (cost.probe_runs, cost.probe_ns) {
        (Some(runs), Some(ns)) if runs > 0 => {
            let sampled = model
                .coverage
                .iter()
                .any(|entry| entry.measure == Measure::ProbeTime && entry.status == Status::Sampled);
            let mark = if sampled { "~" } else { "" };
            format!("{mark}{} probe runs of {mark}{} ns on average", grouped(runs), ns / runs)
        }
        (Some(_), Some(_)) => "no probe runs".to_owned(),
        _ => "probe time n/a".to_owned(),
    };
    let cpu = if model.interval.seconds > 0.0 {
        format!(", {} of a CPU", percent(cost.cpu_seconds / model.interval.seconds))
    } else {
        String::new()
    };
    let own = format!(
        "own cost: {probes}; the process {:.2} s of CPU time{cpu}, {}",
        cost.cpu_seconds,
        bytes(cost.rss_bytes)
    );
    let mut lines = indent(&own, "", "  ", width);
    if losses::of(&model.losses).is_empty() {
        lines.push(lost(model));
    }
    let partial: Vec<_> = model.coverage.iter().filter(|c| c.status != Status::Measured).collect();
    if !partial.is_empty() {
        lines.push("not fully measured (~ marks a number that is sampled, inferred or a bound):".to_owned());
    }
    // Measures often share a reason: it is printed once.
    let mut said: Vec<(&str, Status)> = Vec::new();
    for c in &partial {
        if said.contains(&(c.reason.as_str(), c.status)) {
            continue;
        }
        said.push((&c.reason, c.status));
        let same = partial.iter().filter(|o| o.reason == c.reason && o.status == c.status);
        let names: Vec<_> = same.map(|o| o.measure.name()).collect();
        let text = format!("{} {}: {}", names.join(", "), c.status, clean(&c.reason));
        lines.extend(indent(&text, "  ", "    ", width));
    }
    lines
}

fn lost(model: &Model) -> String {
    let lost: Vec<String> = losses::of(&model.losses).iter().map(Loss::with_remedy).collect();
    if lost.is_empty() {
        "lost: nothing".to_owned()
    } else {
        format!("{}: {}", losses::verdict(&model.losses).1, lost.join(", "))
    }
}

/// A column: heading, width it may shrink to (0: it does not), whether it is text, and how dispensable it is.
struct Column {
    heading: &'static str,
    shrink_to: usize,
    left: bool,
    /// Columns with higher numbers go first where the width does not suffice.
    rank: u8,
    cells: Vec<String>,
}

fn column(heading: &'static str, rank: u8, cells: impl Iterator<Item = String>) -> Column {
    Column { heading, shrink_to: 0, left: false, rank, cells: cells.collect() }
}

fn text_column(heading: &'static str, shrink_to: usize, rank: u8, cells: impl Iterator<Item = String>) -> Column {
    Column { heading, shrink_to, left: true, rank, cells: cells.collect() }
}

fn overview(model: &Model, rows: &[Row<'_>]) -> Vec<Column> {
    let ls = || rows.iter().map(|row| &*row.listener);
    let of = |measure| status(model, measure);
    let number = |value: Option<u64>, measure| marked(value.map(short), of(measure));
    let time = |value: Option<u64>, measure| marked(value.map(duration), of(measure));
    let quantile = |h: &Option<Histogram>, p, m| time(h.as_ref().and_then(|h| h.quantile_us(p)), m);
    let per_second = |value: Option<u64>, measure| {
        let value =
            value.filter(|_| model.seconds_of(measure) > 0.0).map(|n| rate(n as f64 / model.seconds_of(measure)));
        marked(value, of(measure))
    };
    use Measure as M;
    vec![
        // No part of an address or a port is cut off.
        text_column("LISTENER", 0, 0, rows.iter().map(Row::label)),
        text_column("PROCESS", 10, 1, ls().map(process)),
        text_column("NETNS", 6, 9, ls().map(netns)),
        // Shown only if some process is in one. Without it two containers with the same port look the same.
        text_column("CONTAINER", 12, 3, ls().map(container)),
        column("SYNQ", 6, ls().map(|l| number(l.now.syn_depth.map(u64::from), M::SynQueueDepth))),
        column("ACCQ", 2, ls().map(|l| number(Some(l.now.accept_depth.into()), M::AcceptQueueDepth))),
        column("PEAK", 4, ls().map(|l| number(l.now.accept_peak.map(u64::from), M::AcceptQueuePeak))),
        column("LIMIT", 3, ls().map(|l| number(Some(l.now.limit.into()), M::AcceptQueueDepth))),
        column("ACCEPTS", 2, ls().map(|l| number(l.total.accepts, M::Accepts))),
        column("ACC/S", 7, ls().map(|l| per_second(l.total.accepts, M::Accepts))),
        column("WAIT50", 6, ls().map(|l| quantile(&l.distributions.accept_wait, 0.5, M::AcceptWait))),
        column("WAIT99", 3, ls().map(|l| quantile(&l.distributions.accept_wait, 0.99, M::AcceptWait))),
        column(
            "OLDEST",
            5,
            ls().map(|l| time(l.now.oldest_waiting_us.filter(|_| l.now.accept_depth > 0), M::OldestWaiting)),
        ),
        column("DROPS", 2, ls().map(|l| number(l.drops.total, M::Drops))),
        column("READ/S", 7, ls().map(|l| per_second(l.total.reads, M::Reads))),
        column("RESID99", 5, ls().map(|l| quantile(&l.distributions.residency, 0.99, M::Residency))),
        // Shown only if some listener opened or closed. It is among the last to be left out: a closed listener must
        // not look open.
        text_column("STATE", 0, 2, ls().map(|l| state(l).to_owned())),
    ]
}

fn state(l: &ListenerModel) -> &'static str {
    match (l.closed, l.opened_in_interval) {
        (true, true) => "opened, closed",
        (true, false) => "closed",
        (false, true) => "opened",
        (false, false) => "",
    }
}

/// Columns side by side, two spaces apart, shrunk and left out as the width demands.
fn grid(columns: &[Column], width: usize, margin: usize) -> Vec<String> {
    let mut kept: Vec<&Column> =
        columns.iter().filter(|c| c.rank == 0 || c.cells.iter().any(|s| !s.is_empty())).collect();
    let natural = |c: &Column| c.cells.iter().map(|s| self::width(s)).chain([c.heading.len()]).max().unwrap_or(0);
    let least =
        |c: &Column| if c.shrink_to > 0 { natural(c).min(c.shrink_to.max(c.heading.len())) } else { natural(c) };
    let gaps = |kept: &[&Column]| margin + 2 * kept.len().saturating_sub(1);
    while kept.len() > 1 && kept.iter().map(|c| least(c)).sum::<usize>() + gaps(&kept) > width {
        let Some(worst) = kept.iter().enumerate().max_by_key(|(i, c)| (c.rank, *i)).map(|(i, _)| i) else { break };
        kept.remove(worst);
    }
    let mut widths: Vec<usize> = kept.iter().map(|c| natural(c)).collect();
    while widths.iter().sum::<usize>() + gaps(&kept) > width {
        let widest = (0..kept.len()).filter(|&i| widths[i] > least(kept[i])).max_by_key(|&i| widths[i]);
        let Some(widest) = widest else { break };
        widths[widest] -= 1;
    }
    let cell = |c: &Column, text: &str, w: usize| {
        let text = fit(text, w);
        let pad = " ".repeat(w.saturating_sub(self::width(&text)));
        if c.left { format!("{text}{pad}") } else { format!("{pad}{text}") }
    };
    let rows = kept.first().map_or(0, |c| c.cells.len());
    let line = |text: &dyn Fn(&Column) -> String| {
        let cells: Vec<_> = kept.iter().zip(&widths).map(|(c, w)| cell(c, &text(c), *w)).collect();
        format!("{}{}", " ".repeat(margin), cells.join("  "))
    };
    let mut lines = vec![line(&|c| c.heading.to_owned())];
    lines.extend((0..rows).map(|row| line(&|c| c.cells[row].clone())));
    lines
}

fn block(model: &Model, row: &Row<'_>, width: usize) -> Vec<String> {
    let l = &*row.listener;
    let is_group = matches!(row.kind, RowKind::Group(_));
    let mut title = format!("── {}  {}  netns {}", listener_endpoint(l), process(l), netns(l));
    let place = match container_in_full(l) {
        container if container.is_empty() => service(l),
        container => format!("container {container}"),
    };
    for extra in [place.as_str(), &row.kind(), state(l)] {
        if !extra.is_empty() {
            title.push_str("  ");
            title.push_str(extra);
        }
    }
    let mut lines = vec![title];
    if let Some((severity, text)) = verdict::unfound_line(model, l).filter(|_| !is_group) {
        let text = format!("{}: {text}", severity.name().to_uppercase());
        lines.extend(indent(&text, "  ", "    ", width));
    }
    // A group's findings are in the blocks of its shards.
    let findings = if is_group { &[][..] } else { &l.findings };
    for (at, finding) in findings.iter().enumerate() {
        let margin = "    ".repeat(depth(findings, at));
        let (severity, when) = (finding.severity.name().to_uppercase(), finding_time(finding));
        let text = format!("{severity}{when}: {} [{}]", clean(&finding.summary), finding.id);
        lines.extend(indent(&text, &format!("{margin}  "), &format!("{margin}    "), width));
        // What follows from something else has its advice there.
        if finding.follows_from.is_none() {
            lines.extend(indent(
                &clean(&finding.advice),
                &format!("{margin}    → "),
                &format!("{margin}      "),
                width,
            ));
        }
    }
    let confidence = match l.pattern.confidence {
        c if c > 0.0 => format!(" ({})", percent(c)),
        _ => String::new(),
    };
    let pattern = format!("pattern {}{confidence}: {}", l.pattern.name, l.pattern.evidence.join("; "));
    lines.extend(indent(&clean(&pattern), "  ", "    ", width));
    lines.extend(indent(&drops(model, l), "  ", "    ", width));
    if let Some(aborted) = l.total.aborted.filter(|n| *n > 0) {
        let aborted = format!("aborted {}: they left the accept queue without being accepted", grouped(aborted));
        lines.extend(indent(&aborted, "  ", "    ", width));
    }
    lines.extend(clients_gone(model, l).iter().flat_map(|text| indent(text, "  ", "    ", width)));
    lines.extend(oldest_unread(model, l).iter().flat_map(|text| indent(text, "  ", "    ", width)));
    if l.distributions.each().into_iter().any(Option::is_some) {
        lines.extend(grid(&distributions(model, l), width, 2));
    }
    if !is_group {
        lines.extend(connections::lines(model, l, width));
    }
    // So are its threads.
    if !l.threads.is_empty() && !is_group {
        lines.extend(grid(&threads(l, &model.interval), width, 2));
        let more: u64 = l.threads.iter().skip(THREADS).map(ThreadModel::threads).sum();
        if more > 0 {
            lines.push(format!("  and {}", plural(more, "more thread")));
        }
    }
    lines
}

/// What went to clients that were gone; nothing if nothing did.
fn clients_gone(model: &Model, l: &ListenerModel) -> Option<String> {
    let (closed, reset) = l.total.client_closed.zip(l.total.client_reset).filter(|(a, b)| a + b > 0)?;
    let of = |n| marked(Some(grouped(n)), status(model, Measure::ClientGone));
    Some(format!("clients gone before they were accepted: {} closed, {} reset", of(closed), of(reset)))
}

/// How old the oldest unread byte is; nothing if none waits.
fn oldest_unread(model: &Model, l: &ListenerModel) -> Option<String> {
    let age = l.now.oldest_unread_us.filter(|age| *age > 0)?;
    let of = |text, measure| marked(Some(text), status(model, measure));
    let (unread, measure) = listentop_model::words::unread(&l.now);
    let unread = marked(unread.map(bytes), status(model, measure));
    Some(format!("unread {unread}, the oldest for {}", of(duration(age), Measure::OldestUnread)))
}

fn drops(model: &Model, l: &ListenerModel) -> String {
    let of = |n: Option<u64>, measure| marked(n.map(grouped), status(model, measure));
    let d = &l.drops;
    let total = format!("drops {}", of(d.total, Measure::Drops));
    if d.total == Some(0) || *d == Drops::default() {
        return total;
    }
    let cause = |n| of(n, Measure::DropCause);
    let ack = marked(d.accept_queue_full_on_ack.map(grouped), status(model, Measure::Drops));
    format!(
        "{total}: accept queue full {} on SYN, {ack} on final ACK; SYN queue full {}; other {}; unexplained {}; clients {}",
        cause(d.accept_queue_full_on_syn),
        cause(d.syn_queue_full),
        cause(d.other),
        marked(d.unexplained.map(grouped), status(model, Measure::Drops)),
        of(d.clients, Measure::DropClients),
    )
}

fn distributions(model: &Model, l: &ListenerModel) -> Vec<Column> {
    let d = &l.distributions;
    type Quantile = fn(&Histogram, f64) -> Option<String>;
    let us: Quantile = |h, p| if p >= 1.0 { h.max_us() } else { h.quantile_us(p) }.map(duration);
    let sizes: Quantile = |h, p| if p >= 1.0 { h.max_units() } else { h.quantile_units(p) }.map(bytes);
    let rows: [(&str, &Option<Histogram>, Measure, Quantile); 8] = [
        ("handshake", &d.handshake, Measure::Handshake, us),
        ("accept wait", &d.accept_wait, Measure::AcceptWait, us),
        ("client gone", &d.client_gone_wait, Measure::ClientGone, us),
        ("first byte", &d.first_byte, Measure::FirstByte, us),
        ("first read", &d.first_read, Measure::FirstRead, us),
        ("residency", &d.residency, Measure::Residency, us),
        ("answer", &d.answer, Measure::Answer, us),
        ("bytes per read", &d.bytes_per_read, Measure::Reads, sizes),
    ];
    let quantile = |p: f64| {
        rows.iter()
            .map(move |(_, h, m, f)| marked(h.as_ref().and_then(|h| f(h, p)), status(model, *m)))
            .collect::<Vec<_>>()
    };
    let count = rows.iter().map(|(_, h, m, _)| marked(h.as_ref().map(|h| grouped(h.count())), status(model, *m)));
    vec![
        text_column("", 0, 0, rows.iter().map(|r| r.0.to_owned())),
        column("count", 1, count),
        column("p50", 1, quantile(0.5).into_iter()),
        column("p90", 2, quantile(0.9).into_iter()),
        column("p99", 1, quantile(0.99).into_iter()),
        column("max", 2, quantile(1.0).into_iter()),
    ]
}

fn threads(listener: &ListenerModel, interval: &Interval) -> Vec<Column> {
    let ts = || listener.threads.iter().take(THREADS);
    let counts = || ts().map(|t| t.counts(&listener.total));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let share = |s: Option<f64>| or_dash(s.map(percent));
    // A time that was read once only is unknown, as is one from a file that cannot be read.
    let time = |us: Option<u64>| or_dash(us.map(duration));
    vec![
        text_column("THREAD", 10, 0, ts().map(thread_name)),
        column("TID", 0, ts().map(|t| or_dash((t.tid != 0).then(|| t.tid.to_string())))),
        text_column("ROLES", 6, 3, ts().map(|t| t.roles.iter().map(|r| r.name()).collect::<Vec<_>>().join(","))),
        column("ACCEPTS", 1, counts().map(|t| or_dash(t.accepts.map(short)))),
        column("SHARE", 2, ts().map(|t| share(t.accept_share))),
        column("EAGAIN", 4, counts().map(|t| or_dash(t.would_block.map(short)))),
        column("READS", 1, counts().map(|t| or_dash(t.reads.map(short)))),
        column("SHARE", 2, ts().map(|t| share(t.read_share))),
        column("BYTES", 6, counts().map(|t| or_dash(t.read_bytes.map(bytes)))),
        column("WRITES", 5, counts().map(|t| or_dash(t.writes.map(short)))),
        column("ON CPU", 3, ts().map(|t| time(t.on_cpu_us))),
        column("RUNQ", 3, ts().map(|t| time(t.run_queue_us))),
        column("BLOCKED", 7, ts().map(|t| time(t.blocked_us(interval)))),
        text_column(
            "",
            0,
            8,
            ts().map(|t| if t.ended && t.summed.is_none() { "ended".to_owned() } else { String::new() }),
        ),
    ]
}

fn indent(text: &str, first: &str, then: &str, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(width(then).max(width(first)));
    wrap(text, room)
        .into_iter()
        .enumerate()
        .map(|(i, line)| format!("{}{line}", if i == 0 { first } else { then }))
        .collect()
}
