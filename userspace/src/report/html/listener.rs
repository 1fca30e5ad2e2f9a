//! A listener's section of the page: pipeline, time lines, distributions, threads, and every figure.

use std::fmt::Write as _;

use listentop_model::{
    coverage::Measure,
    figures::{FIGURES, Unit, Value},
    model::{ListenerModel, Model, ThreadModel, depth},
    words::{
        bytes, clock, connections as one_by_one, container_in_full, duration, grouped, marked, netns,
        numbered_endpoint, percent, plural, process, rate, service, status, thread_name,
    },
};

use super::{
    chart::{self, Chart},
    escape, finding, unfound, words, worst,
};
use crate::report::Story;
use crate::report::story::Step;

/// Threads that are listed; the rest is counted.
const THREADS: usize = 40;
/// Bars of a distribution.
const BARS: usize = 48;

/// The section. It is open if something is wrong.
pub(super) fn section(model: &Model, l: &ListenerModel, story: Option<&Story>) -> String {
    let open = if worst(l).is_some() { " open" } else { "" };
    let marks: Vec<String> = l
        .findings
        .iter()
        .map(|finding| format!("<span class=\"sev {}\">{}</span>", finding.severity, finding.id))
        .collect();
    let state = match (l.closed, l.opened_in_interval) {
        (true, _) => " · closed",
        (false, true) => " · opened meanwhile",
        (false, false) => "",
    };
    let mut text = format!(
        "<details class=\"listener\" id=\"l{}\" data-words=\"{}\"{open}><summary><b>{}</b> {} <span class=\"dim\">netns {}{state}</span> {}</summary>\n",
        l.id,
        words(model, l),
        escape(&numbered_endpoint(model, l)),
        escape(&process(l)),
        escape(&match (container_in_full(l), service(l)) {
            (container, _) if !container.is_empty() => format!("{} · container {container}", netns(l)),
            (_, service) if !service.is_empty() => format!("{} · {service}", netns(l)),
            _ => netns(l),
        }),
        marks.join(" "),
    );
    text.push_str(&pipeline(model, l));
    text.push_str(&unfound(model, l, false));
    for (at, one) in l.findings.iter().enumerate() {
        text.push_str(&finding(model, l, one, depth(&l.findings, at), false));
    }
    let confidence =
        if l.pattern.confidence > 0.0 { format!(" ({})", percent(l.pattern.confidence)) } else { String::new() };
    let evidence = escape(&l.pattern.evidence.join("; "));
    let _ = write!(text, "<p>Pattern <b>{}</b>{confidence}. {evidence}</p>", l.pattern.name);
    if let Some(story) = story {
        text.push_str(&over_time(model, l, story));
    }
    text.push_str(&distributions(l));
    text.push_str(&connections(model, l));
    text.push_str(&threads(l));
    text.push_str(&figures(model, l));
    text.push_str("</details>\n");
    text
}

fn pipeline(model: &Model, l: &ListenerModel) -> String {
    use Measure as M;
    let of = |value: Option<String>, measure| escape(&marked(value, status(model, measure)));
    let count = |value: Option<u64>, measure| of(value.map(grouped), measure);
    let p99 =
        |h: &Option<listentop_model::histogram::Histogram>| h.as_ref().and_then(|h| h.quantile_us(0.99)).map(duration);
    let per_second = |value: Option<u64>, measure| {
        let value =
            value.filter(|_| model.seconds_of(measure) > 0.0).map(|n| rate(n as f64 / model.seconds_of(measure)));
        of(value, measure)
    };
    let (unread, unread_measure) = listentop_model::words::unread(&l.now);
    let acceptors = l.threads.iter().filter(|thread| thread.accepts > 0).map(ThreadModel::threads).sum::<u64>();
    let readers = l.threads.iter().filter(|thread| thread.reads > 0).map(ThreadModel::threads).sum::<u64>();
    let stages = [
        (
            "SYN QUEUE",
            vec![
                format!("{} now", count(l.now.syn_depth.map(u64::from), M::SynQueueDepth)),
                format!("{} peak", count(l.now.syn_peak.map(u64::from), M::SynQueueDepth)),
                format!("{} refused", count(l.drops.syn_queue_full, M::DropCause)),
            ],
        ),
        (
            "ACCEPT QUEUE",
            vec![
                format!(
                    "{} of {}",
                    count(Some(l.now.accept_depth.into()), M::AcceptQueueDepth),
                    grouped(l.now.limit.into())
                ),
                format!("{} peak", count(l.now.accept_peak.map(u64::from), M::AcceptQueuePeak)),
                format!("wait p99 {}", of(p99(&l.distributions.accept_wait), M::AcceptWait)),
                format!("{} refused in all", count(l.drops.total, M::Drops)),
            ],
        ),
        (
            "ACCEPTORS",
            vec![
                of(Some(plural(acceptors, "thread")), M::Accepts),
                format!("{} accepts/s", per_second(l.total.accepts, M::Accepts)),
                format!("{} would-block", count(l.total.would_block, M::WouldBlock)),
            ],
        ),
        (
            "RECEIVE QUEUES",
            vec![
                format!("{} open", count(l.now.open, M::OpenConnections)),
                format!("{} unread", of(unread.map(bytes), unread_measure)),
                format!("residency p99 {}", of(p99(&l.distributions.residency), M::Residency)),
            ],
        ),
        (
            "READERS",
            vec![
                of(Some(plural(readers, "thread")), M::Reads),
                format!("{} reads/s", per_second(l.total.reads, M::Reads)),
                format!("answer p99 {}", of(p99(&l.distributions.answer), M::Answer)),
            ],
        ),
    ];
    let stage = |(name, lines): &(&str, Vec<String>)| {
        let lines: Vec<String> = lines.iter().map(|line| format!("<p>{line}</p>")).collect();
        format!("<div class=\"stage\"><h4>{name}</h4>{}</div>", lines.concat())
    };
    format!("<div class=\"pipeline\">{}</div>\n", stages.iter().map(stage).collect::<String>())
}

fn over_time(model: &Model, l: &ListenerModel, story: &Story) -> String {
    let course = story.course(l.id);
    if course.is_empty() {
        return String::new();
    }
    let (step, end) = (story.step_ms() as f64 / 1e3, clock(model.interval.seconds));
    let steps = (model.interval.seconds / step).floor() as usize + 1;
    let chart = |title: &str,
                 of: &dyn Fn(&Step) -> Option<f64>,
                 write: &dyn Fn(f64) -> String,
                 limit: Option<f64>,
                 bad: bool| {
        let values: Vec<Option<f64>> = course.iter().map(of).collect();
        let largest = values.iter().flatten().copied().fold(0.0, f64::max);
        Chart { title, values: &values, steps, top: write(largest.max(limit.unwrap_or(0.0))), end: &end, limit, bad }
            .svg()
    };
    let per_second = |count: Option<u64>| count.map(|count| count as f64 / step);
    let whole = |value: f64| grouped(value as u64);
    let charts = [
        chart(
            "accept queue, largest depth (dashed: its limit)",
            &|step| Some(f64::from(step.accept_depth)),
            &whole,
            Some(f64::from(l.now.limit)).filter(|limit| {
                // The limit of an idle queue would flatten everything.
                course.iter().any(|step| f64::from(step.accept_depth) * 4.0 >= *limit)
            }),
            false,
        ),
        chart("refused per second", &|step| per_second(step.refused), &rate, None, true),
        chart("accepts per second", &|step| per_second(step.accepts), &rate, None, false),
        chart("accept wait, p99", &|step| step.wait_p99_us.map(|us| us as f64), &|us| duration(us as u64), None, false),
        chart("SYN queue, largest depth", &|step| step.syn_depth.map(f64::from), &whole, None, false),
        chart("reads per second", &|step| per_second(step.reads), &rate, None, false),
    ];
    format!("<h3>Over time</h3><div class=\"charts\">{}</div>\n", charts.concat())
}

fn distributions(l: &ListenerModel) -> String {
    let mut charts = String::new();
    for figure in FIGURES {
        let Value::Distribution(h) = figure.value(l, 0.0) else { continue };
        if h.is_empty() {
            continue;
        }
        let is_time = figure.unit == Unit::Microseconds;
        let quantile = |p| if is_time { h.quantile_us(p).map(duration) } else { h.quantile_units(p).map(bytes) };
        let (p50, p99) = (quantile(0.5).unwrap_or_default(), quantile(0.99).unwrap_or_default());
        let title = format!("{}: {}, p50 {p50}, p99 {p99}", figure.path, plural(h.count(), "value"));
        let name = |units: u64| {
            if is_time { duration(units * listentop_abi::histogram::UNIT_NS / 1000) } else { bytes(units) }
        };
        charts.push_str(&chart::distribution(&title, &h.bars(BARS), name));
    }
    if charts.is_empty() { charts } else { format!("<h3>Distributions</h3><div class=\"charts\">{charts}</div>\n") }
}

/// Its connections one by one, where they were asked for.
fn connections(model: &Model, l: &ListenerModel) -> String {
    let Some(lists) = &l.connections else { return String::new() };
    let mut text = String::new();
    for sort in one_by_one::Sort::ALL {
        let list = sort.of(lists);
        if list.total == 0 {
            continue;
        }
        let _ = writeln!(
            text,
            "<h3>Connections {}: {}</h3><div class=\"scroll\"><table><thead><tr><th>waits</th>\
             <th class=\"text\">client</th><th class=\"text\">what is known</th></tr></thead><tbody>",
            sort.what(),
            one_by_one::listed(list)
        );
        for connection in &list.connections {
            let _ = writeln!(
                text,
                "<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td></tr>",
                one_by_one::waits(connection, model),
                escape(&one_by_one::client(connection)),
                escape(&one_by_one::facts(connection, model).join("; ")),
            );
        }
        text.push_str("</tbody></table></div>");
    }
    text
}

fn threads(l: &ListenerModel) -> String {
    if l.threads.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<h3>Threads</h3><div class=\"scroll\"><table><thead><tr><th class=\"text\">thread</th><th>tid</th><th class=\"text\">roles</th><th>accepts</th>\
         <th>share</th><th>would-block</th><th>reads</th><th>bytes read</th><th>writes</th><th class=\"text\">state</th></tr></thead><tbody>\n",
    );
    for thread in l.threads.iter().take(THREADS) {
        let roles: Vec<&str> = thread.roles.iter().map(|role| role.name()).collect();
        let state = match (&thread.state, thread.ended) {
            (_, true) => "ended".to_owned(),
            (Some(state), _) => [Some(state.letter.to_string()), state.syscall.clone(), state.wchan.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            (None, false) => String::new(),
        };
        let counts = thread.counts(&l.total);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let _ = writeln!(
            text,
            "<tr><td class=\"text\">{}</td><td>{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"text\">{}</td></tr>",
            escape(&thread_name(thread)),
            if thread.tid == 0 { "-".to_owned() } else { thread.tid.to_string() },
            roles.join(", "),
            or_dash(counts.accepts.map(grouped)),
            thread.accept_share.map_or_else(|| "-".to_owned(), percent),
            or_dash(counts.would_block.map(grouped)),
            or_dash(counts.reads.map(grouped)),
            or_dash(counts.read_bytes.map(bytes)),
            or_dash(counts.writes.map(grouped)),
            escape(&state),
        );
    }
    text.push_str("</tbody></table></div>");
    let more: u64 = l.threads.iter().skip(THREADS).map(ThreadModel::threads).sum();
    if more > 0 {
        let _ = write!(text, "<p class=\"dim\">and {}</p>", plural(more, "more thread"));
    }
    text
}

/// Every figure, with what it means.
fn figures(model: &Model, l: &ListenerModel) -> String {
    let mut text = String::from("<details><summary>Every figure</summary><div class=\"scroll\"><table><tbody>\n");
    for figure in FIGURES {
        let value = match figure.value(l, model.seconds_of(figure.measure)) {
            Value::Distribution(_) => continue,
            Value::Unknown => None,
            Value::Number(number) if figure.unit == Unit::Microseconds => Some(duration(number)),
            Value::Number(number) => Some(grouped(number)),
            Value::Rate(share) if figure.unit == Unit::Share => Some(percent(share)),
            Value::Rate(value) => Some(rate(value)),
            Value::Flag(flag) => Some(if flag { "yes" } else { "no" }.to_owned()),
        };
        let _ = writeln!(
            text,
            "<tr><td class=\"text\"><code>{}</code></td><td>{}</td><td class=\"text wide dim\">{} ({})</td></tr>",
            figure.path,
            escape(&marked(value, status(model, figure.measure))),
            escape(figure.help),
            figure.unit,
        );
    }
    text.push_str("</tbody></table></div></details>\n");
    text
}
