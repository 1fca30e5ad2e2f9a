//! The selected row in words, below the table.

use listentop_model::{
    coverage::Status,
    model::{ListenerModel, Model, depth},
    words::{self, verdict},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use crate::dashboard::{
    column::Column, group::Item, layout::Place, rows::Row, state::State, theme::Theme, views::listener::EXPECTED,
    widgets::text,
};

/// The selected row in words: what has no place in the table, and its findings.
pub(super) fn draw(buf: &mut Buffer, area: Rect, places: &[Place], state: &State, model: &Model) {
    let theme = state.theme;
    let Some(item) = state.selected_item() else { return text::rule(buf, area, "", theme) };
    text::rule(buf, area, &selected_title(item, state, model), theme);
    let figures = item.figures();
    let rows = usize::from(area.height).saturating_sub(1);
    // What is wrong comes first; what has no column, where there is room.
    let facts = match (figures.findings.is_empty(), rows) {
        (true, _) => rows.saturating_sub(1).min(2),
        (false, 0..=3) => 0,
        (false, _) => 1,
    };
    let copy = verdict::root(&figures.findings).and_then(|finding| verdict::command(&finding.advice));
    let found = rows - facts - usize::from(copy.is_some());
    let mut lines: Vec<Line<'_>> = broken(&missing(item, places, theme, model), area.width);
    lines.truncate(facts);
    let findings = findings(model, figures, (area.width, found), state);
    lines.extend(findings.into_iter().take(found).map(|(words, style)| Line::styled(format!(" {words}"), style)));
    if let Some(command) = copy {
        let key = Span::styled(" y copies: ", theme.label());
        lines.push(Line::from(vec![key, Span::styled(words::clean(command), theme.strong())]));
    }
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        text::line(buf, Rect { y, height: 1, width: area.width - 1, ..area }, line);
    }
}

fn selected_title(item: Item<'_>, state: &State, model: &Model) -> String {
    let figures = item.figures();
    let shard = match state.selected_row() {
        Some(Row::Shard { number, .. }) => format!(" shard {number}"),
        _ => String::new(),
    };
    let netns = match words::container_in_full(figures) {
        container if !container.is_empty() => format!(" in {container}"),
        _ if model.namespaces.len() > 1 => format!(" netns {}", words::netns(figures)),
        _ => String::new(),
    };
    let fits = match figures.pattern.confidence {
        confidence if confidence > 0.0 => format!(", fits {}", words::whole_percent(confidence)),
        _ => String::new(),
    };
    let fullest = match item {
        Item::Group(group, _) => {
            let fullest = &item.fullest().now;
            let (depth, limit) = (words::short(fullest.accept_depth.into()), words::short(fullest.limit.into()));
            format!(" · fullest shard {}: {depth} of {limit}", group.fullest + 1)
        }
        Item::One(_) => String::new(),
    };
    let (endpoint, process) = (words::listener_endpoint(figures), words::process(figures));
    format!("{endpoint}{shard}{netns} {process} {}{fits}{fullest}", figures.pattern.name.name())
}

/// The figures that the table has no column for on this screen.
fn missing(item: Item<'_>, places: &[Place], theme: Theme, model: &Model) -> Vec<Span<'static>> {
    let missing = Column::ALL.into_iter().filter(|c| {
        let drawn = places.iter().any(|p| p.column == *c);
        let is_known = c.spec().measure.is_none_or(|measure| words::status(model, measure) != Status::Unavailable);
        let is_above = matches!(
            c,
            Column::Severity
                | Column::Trend
                | Column::Finding
                | Column::Pattern
                | Column::Netns
                | Column::Process
                | Column::Container
        );
        !drawn && is_known && !is_above
    });
    let mut spans: Vec<Span<'static>> = missing
        .flat_map(|column| text::fact(column.spec().name, column.text(item, model), theme.strong(), theme))
        .collect();
    let (unread, measure) = words::unread(&item.figures().now);
    let status = words::status(model, measure);
    if status != Status::Unavailable {
        let unread = words::marked(unread.map(words::bytes), status);
        spans.extend(text::fact("unread", unread, theme.strong(), theme));
    }
    spans
}

/// The findings, in `rows` rows of this width: with their advice where there is room.
fn findings(
    model: &Model,
    figures: &ListenerModel,
    (width, rows): (u16, usize),
    state: &State,
) -> Vec<(String, Style)> {
    let theme = state.theme;
    let width = usize::from(width).saturating_sub(2);
    let mut lines: Vec<(String, Style)> = Vec::new();
    if let Some((severity, text)) = verdict::unfound_line(model, figures) {
        let text = format!("{} {}: {text}", words::severity_mark(severity), severity.name());
        lines.extend(words::wrap(&text, width).into_iter().map(|line| (line, theme.severity(severity))));
    }
    for (at, finding) in figures.findings.iter().enumerate() {
        let (mark, when) = (words::severity_mark(finding.severity), words::finding_time(finding));
        let style = if finding.until_unix_ms.is_some() { theme.label() } else { theme.severity(finding.severity) };
        let margin = "  ".repeat(depth(&figures.findings, at));
        let expected = if state.expects(finding) { EXPECTED } else { "" };
        let text = format!("{mark} {}{expected}{when}: {}", finding.severity.name(), words::clean(&finding.summary));
        let room = width.saturating_sub(margin.len()).max(20);
        lines.extend(words::wrap(&text, room).into_iter().map(|line| (format!("{margin}{line}"), style)));
        if finding.follows_from.is_some() || lines.len() >= rows {
            continue; // what to do stands there
        }
        let advice = words::wrap(&words::clean(&finding.advice), room - 2).into_iter();
        lines.extend(advice.map(|line| (format!("{margin}  {line}"), Style::new())));
    }
    if lines.len() > rows
        && let Some((last, _)) = rows.checked_sub(1).and_then(|at| lines.get_mut(at))
    {
        // There is more in the listener view.
        *last = words::fit(&format!("{last} …"), width);
    }
    if lines.is_empty() {
        lines.push(("no findings".to_owned(), theme.label()));
    }
    lines
}

/// Facts of four spans each, in lines of at most `width`.
fn broken(spans: &[Span<'static>], width: u16) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for fact in spans.chunks(4) {
        let wide: usize = fact.iter().map(Span::width).sum();
        match lines.last_mut() {
            Some(line) if line.width() + wide <= usize::from(width) + 1 => line.spans.extend_from_slice(fact),
            _ => {
                let mut line = Line::raw(" ");
                line.spans.extend_from_slice(fact);
                lines.push(line);
            }
        }
    }
    lines
}
