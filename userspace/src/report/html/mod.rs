//! The report as one page for a browser. It needs no network and no other file, and runs no script but its own.

mod chart;
mod listener;

use std::fmt::Write as _;

use listentop_model::{
    coverage::Status,
    episodes::{Event, Happening},
    model::{Finding, ListenerModel, Model, Severity, depth},
    words::{
        bytes, clean, container_in_full, duration, finding_time, grouped, losses, marked, netns, numbered_endpoint,
        percent, plural, process, service, short, status, utc,
        verdict::{self, Standing},
    },
};

use super::{Page, Story};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Text in HTML, in element or attribute. What controls a terminal or a direction of writing is left out, too.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in clean(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The report of a model.
#[must_use]
pub fn html(model: &Model, page: &Page<'_>) -> String {
    let mut listeners: Vec<&ListenerModel> = model.listeners.iter().collect();
    // The worst first; of the same, the order of the model.
    listeners.sort_by_key(|listener| std::cmp::Reverse(worst(listener)));
    let mut body = head(model);
    for remark in page.remarks {
        let _ = write!(body, "<p class=\"dim\">({})</p>", escape(remark));
    }
    body.push_str(&findings(model, &listeners));
    if let Some(story) = page.story {
        body.push_str(&events(model, story));
    }
    body.push_str(&overview(model, &listeners));
    body.push_str("<h2>Listeners</h2><p><button id=\"all\" type=\"button\">Open or close all</button></p>");
    for listener in &listeners {
        body.push_str(&listener::section(model, listener, page.story));
    }
    body.push_str(&measuring(model));
    let title = escape(&format!("listentop: {}", utc(model.interval.start_unix_ms)));
    // Nothing is loaded, whatever a name in it may look like.
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><style>\n{STYLE}</style></head>\n<body>\n{body}\
         <script>\n{SCRIPT}</script>\n</body></html>\n"
    )
}

/// How bad the worst finding of a listener is: one that holds, or what its figures show, counts more than one that has
/// passed.
fn worst(listener: &ListenerModel) -> Option<(bool, Severity)> {
    let found = listener.findings.iter().map(|finding| (finding.until_unix_ms.is_none(), finding.severity)).max();
    found.max(Standing::of(listener).severity.map(|severity| (true, severity)))
}

/// What the figures of a listener show that no finding says; `linked` to it.
fn unfound(model: &Model, listener: &ListenerModel, linked: bool) -> String {
    let Some((severity, text)) = verdict::unfound_line(model, listener) else { return String::new() };
    let place = if linked { link(model, listener) } else { String::new() };
    format!(
        "<div class=\"finding {severity}\" data-words=\"{}\"><b>{severity}</b>{place}<p>{}</p></div>\n",
        words(model, listener),
        escape(&text)
    )
}

fn link(model: &Model, listener: &ListenerModel) -> String {
    let name = format!("{} {}", numbered_endpoint(model, listener), process(listener));
    format!(" · <a href=\"#l{}\">{}</a>", listener.id, escape(&name))
}

fn head(model: &Model) -> String {
    let (class, verdict) = verdict(model);
    format!(
        "<header><div><h1>Listening sockets</h1><p class=\"dim\">{:.1} s from {} · kernel {} · {} CPUs</p></div>\
         <div><input id=\"filter\" type=\"search\" placeholder=\"filter\" aria-label=\"filter\"> \
         <button id=\"theme\" type=\"button\">light or dark</button></div></header>\
         <p class=\"verdict {class}\" id=\"verdict\">{}</p>\n",
        model.interval.seconds,
        utc(model.interval.start_unix_ms),
        escape(&model.host.kernel),
        model.host.cpus,
        escape(&verdict),
    )
}

/// How bad it is, and what is wrong in a sentence: the verdict of the dashboard and of the report as text.
fn verdict(model: &Model) -> (&'static str, String) {
    let verdict = verdict::of(model);
    if let Some(severity) = verdict.severity() {
        return (severity.name(), verdict.text);
    }
    let passed = model.listeners.iter().flat_map(|listener| &listener.findings).filter(|f| f.severity > Severity::Info);
    match passed.count() {
        0 => ("", verdict.text),
        count => ("warning", format!("{}. {} passed", verdict.text, plural(count as u64, "finding"))),
    }
}

/// What a filter compares.
fn words(model: &Model, listener: &ListenerModel) -> String {
    let findings: Vec<String> = listener.findings.iter().map(|f| format!("{} {}", f.id, f.severity)).collect();
    let text = [
        numbered_endpoint(model, listener),
        process(listener),
        netns(listener),
        container_in_full(listener),
        service(listener),
        listener.pattern.name.to_string(),
        findings.join(" "),
    ];
    escape(&text.join(" ").to_lowercase())
}

/// The container that it is in, or else its network namespace.
fn place(listener: &ListenerModel) -> String {
    let container = container_in_full(listener);
    if container.is_empty() { netns(listener) } else { container }
}

fn findings(model: &Model, listeners: &[&ListenerModel]) -> String {
    let mut text = String::from("<h2 id=\"findings\">Findings</h2>");
    let mut any = false;
    for listener in listeners {
        let shown = unfound(model, listener, true);
        any |= !shown.is_empty();
        text.push_str(&shown);
        for (at, finding) in listener.findings.iter().enumerate() {
            any = true;
            text.push_str(&self::finding(model, listener, finding, depth(&listener.findings, at), true));
        }
    }
    if !any {
        text.push_str("<p>None.</p>");
    }
    text
}

/// A finding with its evidence; `linked` to its listener.
fn finding(model: &Model, listener: &ListenerModel, finding: &Finding, depth: usize, linked: bool) -> String {
    let place = if linked { link(model, listener) } else { String::new() };
    let evidence: Vec<String> =
        finding.evidence.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
    let advice = match finding.follows_from {
        None => format!("<p>→ {}</p>", escape(&finding.advice)),
        Some(cause) => format!("<p class=\"dim\">It follows from {}.</p>", escape(cause)),
    };
    format!(
        "<div class=\"finding {}\" style=\"margin-left:{}rem\" data-words=\"{}\"><b>{} {}</b>{place}<span class=\"dim\">{}</span>\
         <p>{}</p>{advice}<p class=\"dim\"><code>{}</code></p></div>\n",
        finding.severity,
        depth * 2,
        words(model, listener),
        finding.severity,
        finding.id,
        escape(&finding_time(finding)),
        escape(&finding.summary),
        escape(&evidence.join(" · ")),
    )
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 && (0.0..9e15).contains(&value) { grouped(value as u64) } else { format!("{value:.3}") }
}

fn events(model: &Model, story: &Story) -> String {
    let mut text = String::from("<h2 id=\"events\">What happened</h2>");
    if story.events().is_empty() {
        return text + "<p>No finding began or ended, and no listener opened or closed.</p>";
    }
    text.push_str("<div class=\"scroll\"><table>");
    for event in story.events() {
        text.push_str(&self::event(model, event));
    }
    text.push_str("</table></div>");
    if story.more_events() > 0 {
        let _ = write!(text, "<p class=\"dim\">and {}</p>", plural(story.more_events(), "more event"));
    }
    text
}

fn event(model: &Model, event: &Event) -> String {
    let listener = model.listeners.iter().find(|listener| Some(listener.id) == event.listener);
    let place = listener.map_or_else(
        || event.listener.map_or_else(|| "all listeners".to_owned(), |id| format!("listener {id}")),
        |listener| format!("{} {}", numbered_endpoint(model, listener), process(listener)),
    );
    let (what, class, more) = match (&event.finding, event.happening) {
        (None, Happening::Marked) => {
            (format!("mark: {}", event.mark.as_deref().unwrap_or_default()), "", String::new())
        }
        (None, Happening::Opened) => ("opened".to_owned(), "", String::new()),
        (None, _) => ("closed".to_owned(), "", String::new()),
        (Some(finding), happening) => {
            let verb = match happening {
                Happening::Ended => "ended",
                Happening::Worsened => "worse",
                _ => "began",
            };
            let length = event.unix_ms.saturating_sub(finding.since_unix_ms).saturating_mul(1000);
            let more = match happening {
                Happening::Ended => {
                    let refused = finding.totals.refused.map_or_else(|| "n/a".to_owned(), grouped);
                    format!(
                        "after {}, {refused} refused, accept queue up to {}",
                        duration(length),
                        finding.totals.deepest
                    )
                }
                _ => String::new(),
            };
            (format!("{verb}: {}", finding.id), finding.severity.name(), more)
        }
    };
    format!(
        "<tr data-words=\"{}\"><td class=\"text\">{}</td><td class=\"text {class}\">{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td></tr>\n",
        listener.map_or_else(String::new, |listener| words(model, listener)),
        utc(event.unix_ms)[..19].replace('T', " "),
        escape(&what),
        escape(&place),
        escape(&more),
    )
}

fn overview(model: &Model, listeners: &[&ListenerModel]) -> String {
    use listentop_model::coverage::Measure as M;
    let mut text = String::from(
        "<h2 id=\"overview\">Overview</h2><div class=\"scroll\"><table><thead><tr><th class=\"text\">listener</th><th class=\"text\">process</th>\
         <th class=\"text\">container or netns</th><th>accept queue</th><th>peak</th><th>limit</th><th>accepts</th><th>wait p50</th><th>wait p99</th>\
         <th>refused</th><th>reads</th><th>residency p99</th><th class=\"text\">finding</th></tr></thead><tbody>\n",
    );
    let known = |value: Option<String>, measure| escape(&marked(value, status(model, measure)));
    for l in listeners {
        let wait = |p| l.distributions.accept_wait.as_ref().and_then(|h| h.quantile_us(p)).map(duration);
        let residency = l.distributions.residency.as_ref().and_then(|h| h.quantile_us(0.99)).map(duration);
        let finding = l.findings.first().map(|finding| (finding.severity, finding.id.to_owned()));
        let finding = verdict::unfound(model, l).or(finding);
        let _ = writeln!(
            text,
            "<tr data-words=\"{}\"><td class=\"text\"><a href=\"#l{}\">{}</a></td><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text {}\">{}</td></tr>",
            words(model, l),
            l.id,
            escape(&numbered_endpoint(model, l)),
            escape(&process(l)),
            escape(&place(l)),
            known(Some(short(l.now.accept_depth.into())), M::AcceptQueueDepth),
            known(l.now.accept_peak.map(|peak| short(peak.into())), M::AcceptQueuePeak),
            known(Some(short(l.now.limit.into())), M::AcceptQueueDepth),
            known(l.total.accepts.map(short), M::Accepts),
            known(wait(0.5), M::AcceptWait),
            known(wait(0.99), M::AcceptWait),
            known(l.drops.total.map(short), M::Drops),
            known(l.total.reads.map(short), M::Reads),
            known(residency, M::Residency),
            finding.as_ref().map_or("", |(severity, _)| severity.name()),
            escape(finding.as_ref().map_or("", |(_, what)| what)),
        );
    }
    text.push_str("</tbody></table></div>");
    text
}

/// How it was measured: coverage, losses, cost.
fn measuring(model: &Model) -> String {
    let mut text = String::from("<h2 id=\"measuring\">How it was measured</h2>");
    let lost: Vec<String> = losses::of(&model.losses).iter().map(losses::Loss::with_remedy).collect();
    let lost = if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") };
    let cpu = model.cost.cpu_seconds / model.interval.seconds.max(f64::MIN_POSITIVE);
    let cpu = if model.interval.seconds > 0.0 { percent(cpu) } else { "-".to_owned() };
    let _ = writeln!(
        text,
        "<p>Lost: {}. Own cost: {cpu} of a CPU, {}. <code>~</code> marks what is sampled, inferred or a bound; <code>n/a</code> is not \
         known here.</p><div class=\"scroll\"><table><thead><tr><th class=\"text\">measure</th><th class=\"text\">status</th><th class=\"text\">by</th>\
         <th class=\"text\">why not better</th></tr></thead><tbody>",
        escape(&lost),
        bytes(model.cost.rss_bytes),
    );
    for entry in &model.coverage {
        let class = if entry.status == Status::Measured { "" } else { "warning" };
        let _ = writeln!(
            text,
            "<tr><td class=\"text\">{}</td><td class=\"text {class}\">{}</td><td class=\"text wide\">{}</td><td class=\"text wide\">{}</td></tr>",
            entry.measure,
            entry.status,
            escape(&entry.via),
            escape(&entry.reason)
        );
    }
    text.push_str("</tbody></table></div>\n");
    text
}

#[cfg(test)]
mod tests;
