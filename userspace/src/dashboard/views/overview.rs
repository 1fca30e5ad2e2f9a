//! A row per listener or group. Only rows on the screen are put into words.

use listentop_model::{coverage::Measure, model::Model};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
};

use crate::dashboard::{
    app::App,
    column::Column,
    format,
    group::{Item, fill},
    layout::{Needs, Place, layout},
    rows::Row,
    widgets::{queue_bar, sparkline, text},
};

/// Rows of column heads.
const HEADS: u16 = 2;

/// Rows about the selected listener: more where there is room.
fn details(height: u16) -> u16 {
    if height < 30 { 4 } else { 7 }
}

/// How many rows of listeners fit the screen.
pub(in crate::dashboard) fn visible_rows(app: &App) -> usize {
    let height = super::body(app).height;
    height.saturating_sub(HEADS + details(height)).into()
}

pub(super) fn draw(buf: &mut Buffer, area: Rect, app: &App, model: &Model) {
    let needs = Needs {
        address: app.rows.address_width,
        process: app.rows.process_width,
        namespaces: model.namespaces.len() > 1,
        sort: app.sort.column,
    };
    // The first column is the cursor's, the last one the scroll bar's.
    let places: Vec<Place> =
        layout(area.width - 2, needs).into_iter().map(|place| Place { x: area.x + place.x + 1, ..place }).collect();
    let details = details(area.height);
    let rows = Rect { y: area.y + HEADS, height: area.height - HEADS - details, ..area };
    heads(buf, area, &places, app);
    let height = usize::from(rows.height);
    // The state keeps the cursor in sight; this holds for a frame drawn between a resize and its event.
    let offset = app.offset.clamp((app.cursor + 1).saturating_sub(height), app.cursor);
    for (y, (at, &row)) in (rows.y..rows.bottom()).zip(app.rows.rows.iter().enumerate().skip(offset)) {
        draw_row(buf, (area, y), &places, row, at == app.cursor, app, model);
    }
    if app.rows.rows.is_empty() {
        let why = if app.filter.is_empty() && app.options.filters.is_empty() {
            "No listening sockets."
        } else {
            "No listener passes the filter."
        };
        text::left(buf, rows.x + 1, rows.y + 1, rows.width - 1, why, app.theme.strong());
    }
    text::scrollbar(buf, rows, app.rows.rows.len(), offset, app.theme);
    let selected = Rect { y: rows.bottom(), height: details, ..area };
    draw_selected(buf, selected, &places, app, model);
}

fn heads(buf: &mut Buffer, area: Rect, places: &[Place], app: &App) {
    let mut from = 0;
    while let Some(first) = places.get(from) {
        let group = first.column.spec().group;
        let count = places[from..].iter().take_while(|p| p.column.spec().group == group).count();
        let last = &places[from + count - 1];
        if !group.is_empty() {
            let width = last.x + last.width - first.x;
            // Over a single narrow column the last word has to do: WAIT for ACCEPT WAIT.
            let last_word = group.rsplit(' ').next().unwrap_or(group);
            let group = if format::width(group) <= width.into() { group } else { last_word };
            if count == 1 && first.column.spec().right {
                text::right(buf, first.x, area.y, width, group, app.theme.label());
            } else {
                text::left(buf, first.x, area.y, width, group, app.theme.label());
                let used = format::width(group) as u16 + 1;
                if width > used {
                    let line = "─".repeat((width - used).into());
                    text::put(buf, first.x + used, area.y, width - used, &line, app.theme.label());
                }
            }
        }
        from += count;
    }
    for place in places {
        let spec = place.column.spec();
        let sorted = place.column == app.sort.column;
        let arrow = match (sorted, app.sort.descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let style = if sorted { app.theme.strong() } else { app.theme.label() };
        let label = format!("{}{arrow}", spec.label);
        if spec.right {
            text::right(buf, place.x, area.y + 1, place.width, &label, style);
        } else {
            text::left(buf, place.x, area.y + 1, place.width, &label, style);
        }
    }
}

fn draw_row(
    buf: &mut Buffer,
    (area, y): (Rect, u16),
    places: &[Place],
    row: Row,
    selected: bool,
    app: &App,
    model: &Model,
) {
    let item = app.rows.item(row, model);
    let closed = item.figures().closed;
    for place in places {
        match place.column {
            Column::AcceptQueue => accept_queue(buf, *place, y, item, app, model),
            Column::Trend => trend(buf, *place, y, item, app, model),
            Column::Listener => {
                let prefix = prefix(row, app);
                let room = usize::from(place.width).saturating_sub(format::width(&prefix));
                let name = match row {
                    Row::Shard { number, .. } => format!("shard {number}"),
                    _ => format::fit_middle(&Column::Listener.text(item, model), room),
                };
                let count = match row {
                    Row::Group(group) => format!(" ×{}", app.rows.groups[group].members.len()),
                    _ => String::new(),
                };
                text::left(buf, place.x, y, place.width, &format!("{prefix}{name}{count}"), Style::new());
            }
            Column::Process => {
                let words = format::process_within(item.figures(), place.width.into());
                text::left(buf, place.x, y, place.width, &words, Style::new());
            }
            column => {
                let words = column.text(item, model);
                let style = style(column, item, app);
                if column.spec().right {
                    text::right(buf, place.x, y, place.width, &words, style);
                } else {
                    text::left(buf, place.x, y, place.width, &words, style);
                }
            }
        }
    }
    let line = Rect { y, height: 1, width: area.width - 1, ..area };
    if closed {
        buf.set_style(line, Modifier::DIM);
    }
    if selected {
        text::put(buf, area.x, y, 1, "›", app.theme.strong());
        buf.set_style(line, app.theme.selected());
    }
}

fn prefix(row: Row, app: &App) -> String {
    match row {
        Row::Listener(_) => String::new(),
        Row::Group(group) if app.is_unfolded(app.rows.groups[group].id) => "▾ ".to_owned(),
        Row::Group(_) => "▸ ".to_owned(),
        Row::Shard { last: true, .. } => "  └ ".to_owned(),
        Row::Shard { .. } => "  ├ ".to_owned(),
    }
}

fn style(column: Column, item: Item<'_>, app: &App) -> Style {
    let figures = item.figures();
    match column {
        Column::Severity | Column::Finding => {
            figures.findings.iter().map(|f| f.severity).max().map_or(Style::new(), |s| app.theme.severity(s))
        }
        Column::Drops if figures.rate.drops.is_some_and(|r| r > 0.0) => app.theme.critical(),
        _ => Style::new(),
    }
}

fn accept_queue(buf: &mut Buffer, place: Place, y: u16, item: Item<'_>, app: &App, model: &Model) {
    if item.figures().closed {
        return text::right(buf, place.x, y, place.width, "closed", app.theme.strong());
    }
    let numbers = Column::AcceptQueue.text(item, model);
    let room = format::width(&numbers).max(app.rows.numbers_width) as u16;
    let fullest = &item.fullest().now;
    let peak = fullest.recent_accept_peak.map(|p| f64::from(p) / f64::from(fullest.limit.max(1)));
    queue_bar::draw(buf, (place.x, y), place.width.saturating_sub(room + 1), (fill(fullest), peak), app.theme);
    text::right(buf, place.x, y, place.width, &numbers, app.theme.fill(fill(&item.figures().now)));
}

fn trend(buf: &mut Buffer, place: Place, y: u16, item: Item<'_>, app: &App, model: &Model) {
    let limit = f64::from(item.fullest().now.limit);
    let history = item.history();
    let points = history.last(place.width.into(), &model.timeline);
    let values = points.map(|p| f64::from(p.accept_peak.unwrap_or(p.accept_depth)));
    let line = sparkline::sparkline(values, limit, place.width.into());
    text::left(buf, place.x, y, place.width, &line, app.theme.flow());
}

/// The selected row in words: what had no place in the table, and its findings.
fn draw_selected(buf: &mut Buffer, area: Rect, places: &[Place], app: &App, model: &Model) {
    let theme = app.theme;
    let Some(item) = app.selected_item() else { return text::rule(buf, area, "", theme) };
    let figures = item.figures();
    let shard = match app.selected_row() {
        Some(Row::Shard { number, .. }) => format!(" shard {number}"),
        _ => String::new(),
    };
    let netns = if model.namespaces.len() > 1 { format!(" netns {}", format::netns(figures)) } else { String::new() };
    let mut title = format!(
        "{}{shard}{netns} {} {}",
        format::listener_endpoint(figures),
        format::process(figures),
        figures.pattern.name.name()
    );
    if figures.pattern.confidence > 0.0 {
        title.push_str(&format!(", fits {}", format::whole_percent(figures.pattern.confidence)));
    }
    if let Item::Group(group, _) = item {
        let fullest = &item.fullest().now;
        title.push_str(&format!(
            " · fullest shard {}: {} of {}",
            group.fullest + 1,
            format::short(fullest.accept_depth.into()),
            format::short(fullest.limit.into())
        ));
    }
    text::rule(buf, area, &title, theme);

    let mut spans = Vec::new();
    let missing = Column::ALL.into_iter().filter(|c| {
        let drawn = places.iter().any(|p| p.column == *c);
        !drawn && !matches!(c, Column::Trend | Column::Finding | Column::Pattern | Column::Netns | Column::Process)
    });
    for column in missing {
        spans.extend(text::fact(column.spec().name, column.text(item, model), theme.strong(), theme));
    }
    let status = format::status(model, Measure::QueuedBytes);
    let unread = format::marked(figures.now.queued_bytes.map(format::bytes), status);
    spans.extend(text::fact("unread", unread, theme.strong(), theme));
    let mut y = area.y + 1;
    for line in broken(spans, area.width).into_iter().take(2) {
        text::line(buf, Rect { y, height: 1, ..area }, line);
        y += 1;
    }

    let mut lines: Vec<(String, Style)> = Vec::new();
    for finding in &figures.findings {
        let mark = format!("{} {}: ", format::severity_mark(finding.severity), finding.severity.name());
        let style = theme.severity(finding.severity);
        let text = format!("{mark}{}", finding.summary);
        if area.height <= 4 {
            lines.push((text, style));
            continue;
        }
        lines.extend(format::wrap(&text, usize::from(area.width) - 2).into_iter().map(|line| (line, style)));
        lines.extend(
            format::wrap(&finding.advice, usize::from(area.width) - 4)
                .into_iter()
                .map(|l| (format!("  {l}"), Style::new())),
        );
    }
    if lines.is_empty() {
        lines.push(("no findings".to_owned(), theme.label()));
    }
    for (y, (words, style)) in (y..area.bottom()).zip(&lines) {
        text::left(buf, area.x + 1, y, area.width - 2, words, *style);
    }
}

/// Facts of four spans each, in lines of at most `width`.
fn broken(spans: Vec<Span<'static>>, width: u16) -> Vec<Line<'static>> {
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
