//! The header, which is always visible: views, verdict, what is shown, coverage, own cost and losses.

use listentop_model::{
    coverage::Status,
    model::Model,
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
use crate::dashboard::{Moment, action::Action, geometry, state::State, views};

/// Draws it; `shown` is the name of the view on the screen.
pub(in crate::dashboard) fn draw(buf: &mut Buffer, area: Rect, state: &State, shown: &str) {
    let theme = state.theme;
    let rows = |i| Rect { y: area.y + i, height: u16::from(i < area.height), ..area };
    machine(buf, rows(0), state, shown);
    let Some(model) = &state.model else { return };
    let verdict = geometry::verdict_height(area.width);
    draw_verdict(buf, Rect { y: area.y + 1, height: verdict.min(area.height.saturating_sub(1)), ..area }, state);
    counts(buf, rows(1 + verdict), state, model);
    coverage_and_cost(buf, rows(2 + verdict), model, state);
    let mut next = 3 + verdict;
    for line in geometry::notice(state, area.width) {
        text::left(buf, area.x + 1, rows(next).y, area.width - 2, &line, theme.warning());
        next += 1;
    }
    let lost: Vec<String> = losses::of(&model.losses).iter().map(Loss::brief).collect();
    if !lost.is_empty() {
        let (certain, word) = losses::verdict(&model.losses);
        let style = if certain { theme.critical() } else { theme.warning() };
        // Losses are counted for the machine, not for listeners.
        let whose = if is_filtered(state) { " on the whole machine" } else { "" };
        let line = format!("{word}{whose}: {} (c explains)", lost.join(", "));
        text::left(buf, area.x + 1, rows(next).y, area.width - 2, &line, style);
    }
}

fn is_filtered(state: &State) -> bool {
    !state.options.filters.is_empty() || !state.filter.is_empty()
}

/// The views, then the machine, then what time it is.
fn machine(buf: &mut Buffer, area: Rect, state: &State, shown: &str) {
    let theme = state.theme;
    let tabs: Vec<(&str, &str)> = views::ALL.iter().filter_map(|view| Some((view.name, view.tab?))).collect();
    let tabs_width: usize = tabs.iter().map(|(_, tab)| tab.len() + 2).sum();
    let mut right = clock(state, true);
    if tabs_width + right.iter().map(Span::width).sum::<usize>() > area.width.into() {
        right = clock(state, false);
    }
    let right_width: usize = right.iter().map(Span::width).sum();
    let title = " listentop ";
    let mut x = area.x;
    let room = usize::from(area.width).saturating_sub(right_width + tabs_width);
    if room > title.len() {
        text::put(buf, x, area.y, area.width, title, theme.title());
        x += title.len() as u16;
    }
    // Where they would run into the time, neighbours share the space between them.
    let shared = u16::from(tabs_width + right_width > area.width.into());
    for (name, tab) in tabs {
        let width = tab.len() as u16 + 2;
        let room = area.right().saturating_sub(x);
        // Where even that does not help, the last ones have their keys only.
        if usize::from(room) + usize::from(shared) < right_width + usize::from(width) {
            break;
        }
        if name == shown {
            text::put(buf, x, area.y, room, &format!("[{tab}]"), theme.badge());
        } else {
            text::put(buf, x + 1, area.y, room.saturating_sub(1), tab, Style::new());
        }
        state.hits.borrow_mut().add(Rect { x, y: area.y, width, height: 1 }, Action::Show(name));
        x += width - shared;
    }
    let room = usize::from(area.right().saturating_sub(x)).saturating_sub(right_width + 3);
    let (kernel, cpus) = match &state.model {
        Some(model) => {
            let kernel = format!("Linux {}", words::clean(&model.host.kernel));
            (Some(kernel), Some(words::plural(model.host.cpus.into(), "CPU")))
        }
        None => (None, None),
    };
    let host = state.options.host.as_deref().map(words::clean);
    text::put(buf, x + 2, area.y, room as u16, &fitting(&[host, kernel, cpus], room), theme.label());
    text::line(buf, area, Line::from(right).right_aligned());
}

/// Where the models come from, if there is room for that, since when, and how often. While paused, that it is.
fn clock(state: &State, whence: bool) -> Vec<Span<'static>> {
    let time = state.model.as_ref().map_or(String::new(), |m| words::clock(m.interval.seconds));
    if let Some(moment) = &state.moment {
        return past(moment, state, whence);
    }
    let source = state.levels.as_ref().map_or(state.options.source.as_str(), |levels| levels.name);
    let source = if whence { words::fit(&words::clean(source), 24) + " " } else { String::new() };
    if state.paused {
        return vec![Span::styled(" PAUSED (p) ", state.theme.badge()), Span::raw(format!(" {time} "))];
    }
    vec![Span::raw(format!("{source}{time} {} ", words::interval(state.refresh)))]
}

/// Which moment of the past is shown; how long ago that was, or how much of a recording is left, if there is room.
fn past(moment: &Moment, state: &State, wide: bool) -> Vec<Span<'static>> {
    let time = &words::utc(moment.unix_ms)[11..19];
    let left = words::clock(moment.last_ms.saturating_sub(moment.unix_ms) as f64 / 1e3);
    if !state.options.is_replay {
        let ago = if wide { format!(", {left} ago") } else { String::new() };
        return vec![Span::styled(format!(" {time} UTC{ago} (0) "), state.theme.badge()), Span::raw(" ")];
    }
    let word = if state.paused { "PAUSED" } else { "replay" };
    let badge = Span::styled(format!(" {word} {time} UTC "), state.theme.badge());
    // At the end nothing is left, as in a still of the last moment.
    let left = if left == words::clock(0.0) { String::new() } else { format!(" -{left}") };
    let rest = if wide { format!("{left} {} ", words::interval(state.refresh)) } else { " ".to_owned() };
    vec![badge, Span::raw(rest)]
}

/// The parts that fit. The kernel is left out first, then the number of CPUs; the name stays longest.
fn fitting([host, kernel, cpus]: &[Option<String>; 3], room: usize) -> String {
    let join =
        |parts: &[&Option<String>]| parts.iter().filter_map(|part| part.as_deref()).collect::<Vec<_>>().join(" · ");
    let shorter = [join(&[host, kernel, cpus]), join(&[host, cpus]), join(&[host])];
    shorter.into_iter().find(|text| words::width(text) <= room).unwrap_or_default()
}

/// Whether a lab's lesson is about what the verdict says: the first finding of its listener, not what follows from it.
fn is_expected(state: &State) -> bool {
    let Some(model) = &state.model else { return false };
    let worst = model.listeners.iter().find(|listener| Some(listener.id) == state.verdict.listener);
    worst.and_then(|worst| worst.findings.first()).is_some_and(|finding| state.expects(finding))
}

/// What is wrong, in words. A click opens the listener that it is about.
fn draw_verdict(buf: &mut Buffer, area: Rect, state: &State) {
    let (theme, verdict) = (state.theme, &state.verdict);
    let (mark, style) = match verdict.severity() {
        Some(severity) => (words::severity_mark(severity), theme.severity(severity)),
        None => (" ", theme.label()),
    };
    let key = if verdict.listener.is_some() { " (v)" } else { "" };
    let expected = if is_expected(state) { ", as expected" } else { "" };
    let mut lines = words::wrap(&format!("{}{expected}{key}", verdict.text), usize::from(area.width).saturating_sub(4));
    if lines.len() > usize::from(area.height) {
        let rest = lines.split_off(usize::from(area.height).saturating_sub(1)).join(" ");
        lines.push(rest);
    }
    text::put(buf, area.x + 1, area.y, 1, mark, style);
    for (y, line) in (area.y..area.bottom()).zip(&lines) {
        text::left(buf, area.x + 3, y, area.width.saturating_sub(4), line, style);
    }
    if state.on_verdict {
        text::put(buf, area.x, area.y, 1, "›", theme.strong());
        theme.select(buf, Rect { width: area.width.saturating_sub(1), ..area });
    }
    if verdict.listener.is_some() {
        state.hits.borrow_mut().add(area, Action::OpenWorst);
    }
}

fn counts(buf: &mut Buffer, area: Rect, state: &State, model: &Model) {
    let theme = state.theme;
    let named = |count: usize, noun: &str| words::plural(count as u64, noun);
    let rows = &state.rows;
    let total = model.listeners.len() - if state.show_closed { 0 } else { rows.closed };
    let mut spans = vec![Span::raw(" ")];
    // What is filtered comes first: it must not be missed, nor cut off.
    if !state.filter.is_empty() {
        spans.push(Span::styled(format!(" /{} ", words::clean(state.filter.typed())), theme.badge()));
        spans.push(Span::raw(" "));
    }
    if rows.listeners == total {
        spans.push(Span::styled(named(total, "listener"), theme.strong()));
    } else {
        let of = format!("{} of {}", words::grouped(rows.listeners as u64), named(total, "listener"));
        spans.push(Span::styled(of, theme.strong()));
    }
    if !rows.groups.is_empty() {
        spans.push(Span::raw(format!(", {}", named(rows.groups.len(), "group"))));
    }
    if rows.closed > 0 {
        let hidden = if state.show_closed { "shown" } else { "hidden" };
        spans.push(Span::raw(format!(", {} closed {hidden} (x)", rows.closed)));
    }
    if model.namespaces.len() > 1 {
        spans.push(Span::raw(format!(", {} namespaces", model.namespaces.len())));
    }
    spans.push(Span::raw(" · "));
    let mut comma = "";
    for (severity, count) in rows.findings.iter().copied().filter(|(_, count)| *count > 0) {
        let words = format!("{} {count} {}", words::severity_mark(severity), severity.name());
        spans.extend([Span::raw(comma), Span::styled(words, theme.severity(severity))]);
        comma = ", ";
    }
    match (comma.is_empty(), rows.passed) {
        (true, 0) => spans.push(Span::raw("no findings")),
        (false, 0) => {}
        (_, passed) => spans.push(Span::styled(format!("{comma}{passed} passed"), theme.label())),
    }
    let sort = state.sort.column.spec().name;
    let arrow = if state.sort.descending { "▼" } else { "▲" };
    spans.push(Span::raw(format!(" · by {sort} {arrow}")));
    // The lab's own filter is its namespace, and the caption below says that this is a lab.
    if !state.options.filters.is_empty() && state.lesson.is_none() {
        spans.push(Span::raw(format!(" · only {}", words::clean(&state.options.filters))));
    }
    text::line(buf, area, Line::from(spans));
}

/// Coverage at the left and cost at the right; shorter words where both in full would not fit.
fn coverage_and_cost(buf: &mut Buffer, area: Rect, model: &Model, state: &State) {
    let theme = state.theme;
    let count = |status| model.coverage.iter().filter(|c| c.status == status).count();
    let (sampled, unavailable) = (count(Status::Sampled), count(Status::Unavailable));
    let style = |n: usize| if n > 0 { theme.warning() } else { theme.label() };
    let coverage = |word: &str| {
        Line::from(vec![
            Span::styled(format!(" coverage {} measured, ", count(Status::Measured)), theme.label()),
            Span::styled(format!("{sampled} sampled"), theme.label()),
            Span::styled(", ", theme.label()),
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
    let width = left.width() as u16;
    text::line(buf, area, left);
    text::line(buf, area, Line::styled(right, theme.label()).right_aligned());
    state.hits.borrow_mut().add(Rect { width, height: 1, ..area }, Action::Show("coverage"));
}
