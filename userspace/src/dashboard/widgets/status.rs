//! The header, which is always visible: the machine, what is shown, coverage, own cost and losses.

use listentop_model::{
    coverage::Status,
    model::{Model, Severity},
    words::{
        self,
        losses::{self, Loss},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::text;
use crate::dashboard::{state::State, theme::Theme};

/// Draws it.
pub(in crate::dashboard) fn draw(buf: &mut Buffer, area: Rect, state: &State) {
    let theme = state.theme;
    let rows = |i| Rect { y: area.y + i, height: u16::from(i < area.height), ..area };
    machine(buf, rows(0), state);
    let Some(model) = &state.model else { return };
    counts(buf, rows(1), state, model);
    coverage_and_cost(buf, rows(2), model, theme);
    let lost: Vec<String> = losses::of(&model.losses).iter().map(Loss::brief).collect();
    if !lost.is_empty() {
        let (certain, word) = losses::verdict(&model.losses);
        let style = if certain { theme.critical() } else { theme.warning() };
        text::line(buf, rows(3), Line::styled(format!(" {word}: {} (c explains)", lost.join(", ")), style));
    }
}

fn machine(buf: &mut Buffer, area: Rect, state: &State) {
    let theme = state.theme;
    let host = state.options.host.as_deref().map(words::clean);
    let (kernel, cpus) = match &state.model {
        Some(model) => {
            let kernel = format!("Linux {}", words::clean(&model.host.kernel));
            (Some(kernel), Some(words::plural(model.host.cpus.into(), "CPU")))
        }
        None => (None, None),
    };
    let source = Some(words::clean(&state.options.source));
    let span = state.model.as_ref().map_or(String::new(), |m| format!("{}  ", words::clock(m.interval.seconds)));
    let refresh = format!("{span}refresh {} ", words::interval(state.refresh));
    let badge = if state.paused { " PAUSED (p) " } else { "" };
    let right = words::width(&refresh) + words::width(badge) + 1;
    let room = usize::from(area.width).saturating_sub(right + " listentop  ".len());
    text::line(
        buf,
        area,
        Line::from(vec![
            Span::styled(" listentop ", theme.title()),
            Span::raw(" "),
            Span::raw(fitting(&[host, kernel, cpus, source], room)),
        ]),
    );
    let line = Line::from(vec![Span::styled(badge, theme.selected()), Span::raw(" "), Span::raw(refresh)]);
    text::line(buf, area, line.right_aligned());
}

/// The parts that fit. The kernel is left out first, then the number of CPUs; the source stays longest.
fn fitting([host, kernel, cpus, source]: &[Option<String>; 4], room: usize) -> String {
    let join =
        |parts: &[&Option<String>]| parts.iter().filter_map(|part| part.as_deref()).collect::<Vec<_>>().join(" · ");
    let shorter = [join(&[host, kernel, cpus, source]), join(&[host, cpus, source]), join(&[host, source])];
    let fits = shorter.into_iter().find(|text| words::width(text) <= room);
    fits.unwrap_or_else(|| words::fit(&join(&[source, host]), room))
}

fn counts(buf: &mut Buffer, area: Rect, state: &State, model: &Model) {
    let theme = state.theme;
    let named = |count: usize, noun: &str| words::plural(count as u64, noun);
    let total = model.listeners.len() - state.hidden.len();
    let mut spans = vec![Span::raw(" ")];
    if state.rows.listeners == total {
        spans.push(Span::styled(named(total, "listener"), theme.strong()));
    } else {
        let of = format!("{} of {}", words::grouped(state.rows.listeners as u64), named(total, "listener"));
        spans.push(Span::styled(of, theme.strong()));
    }
    let groups = state.rows.groups.len();
    if groups > 0 {
        spans.push(Span::raw(format!(", {}", named(groups, "group"))));
    }
    let closed = model.listeners.iter().filter(|l| l.closed).count();
    if closed > 0 {
        let hidden =
            if state.hidden.is_empty() { String::new() } else { format!(" ({} hidden, x)", state.hidden.len()) };
        spans.push(Span::raw(format!(", {closed} closed{hidden}")));
    }
    if model.namespaces.len() > 1 {
        spans.push(Span::raw(format!(", {} namespaces", model.namespaces.len())));
    }
    spans.push(Span::raw(" · "));
    let findings = findings(model);
    if findings.is_empty() {
        spans.push(Span::raw("no findings"));
    }
    for (i, (severity, count)) in findings.into_iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let word = severity.name();
        spans.push(Span::raw(comma));
        spans
            .push(Span::styled(format!("{} {count} {word}", words::severity_mark(severity)), theme.severity(severity)));
    }
    let sort = state.sort.column.spec().name;
    let arrow = if state.sort.descending { "▼" } else { "▲" };
    spans.push(Span::raw(format!(" · by {sort} {arrow}")));
    if state.typing || !state.filter.is_empty() {
        spans.push(Span::raw(" · filter "));
        spans.push(Span::styled(format!("{}{}", state.filter, if state.typing { "▏" } else { "" }), theme.selected()));
    }
    if !state.options.filters.is_empty() {
        spans.push(Span::raw(format!(" · only {}", words::clean(&state.options.filters))));
    }
    text::line(buf, area, Line::from(spans));
}

/// How many findings of each severity there are, worst first.
fn findings(model: &Model) -> Vec<(Severity, usize)> {
    let mut counts = [Severity::Critical, Severity::Warning, Severity::Info].map(|severity| (severity, 0));
    for finding in model.listeners.iter().flat_map(|l| &l.findings) {
        for (_, count) in counts.iter_mut().filter(|(severity, _)| *severity == finding.severity) {
            *count += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Coverage at the left and cost at the right; shorter words where both in full would not fit.
fn coverage_and_cost(buf: &mut Buffer, area: Rect, model: &Model, theme: Theme) {
    let count = |status| model.coverage.iter().filter(|c| c.status == status).count();
    let (sampled, unavailable) = (count(Status::Sampled), count(Status::Unavailable));
    let style = |n: usize| if n > 0 { theme.warning() } else { Style::new() };
    let coverage = |word: &str| {
        Line::from(vec![
            Span::styled(" coverage ", theme.label()),
            Span::raw(format!("{} measured, ", count(Status::Measured))),
            Span::styled(format!("{sampled} sampled"), style(sampled)),
            Span::raw(", "),
            Span::styled(format!("{unavailable} {word}"), style(unavailable)),
            Span::styled(" (c)", theme.label()),
        ])
    };
    let cost = &model.cost;
    let probes = cost.probe_cpu.map(words::percent);
    let (of_a_cpu, probes) =
        (if probes.is_some() { " of a CPU" } else { "" }, probes.unwrap_or_else(|| words::UNAVAILABLE.to_owned()));
    let (process, memory) = (words::percent(cost.process_cpu), words::bytes(cost.rss_bytes));
    let mut left = coverage("unavailable");
    let mut right = format!("own cost: probes {probes}{of_a_cpu}, process {process}, memory {memory} ");
    // A blank between them at least.
    if left.width() + right.len() >= area.width.into() {
        left = coverage(words::UNAVAILABLE);
        right = format!("probes {probes} self {process} {memory} ");
    }
    text::line(buf, area, left);
    text::line(buf, area, Line::raw(right).right_aligned());
}
