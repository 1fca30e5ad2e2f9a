//! One row of the overview.

use listentop_model::{
    model::Model,
    words::{self, verdict::Standing},
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::place_text;
use crate::dashboard::{
    column::Column,
    group::Item,
    layout::Place,
    rows::Row,
    state::State,
    widgets::{marks, queue_bar, sparkline, text},
};

/// Draws it in line `y` of `area`.
pub(super) fn draw(
    buf: &mut Buffer,
    (area, y): (Rect, u16),
    places: &[Place],
    (row, selected): (Row, bool),
    state: &State,
    model: &Model,
) {
    let item = state.rows.item(row, model);
    for place in places {
        match place.column {
            Column::AcceptQueue => accept_queue(buf, *place, y, item, state, model),
            Column::Trend => trend(buf, *place, y, item, state, model),
            Column::Listener => listener(buf, *place, y, row, state, model),
            Column::Process => {
                let words = words::process_within(item.figures(), place.width.into());
                text::left(buf, place.x, y, place.width, &words, Style::new());
            }
            Column::Container => {
                let words = words::fit_middle(&place.column.text(item, model), place.width.into());
                text::left(buf, place.x, y, place.width, &words, Style::new());
            }
            Column::Netns => {
                let words = words::netns_within(item.figures(), place.width.into());
                text::left(buf, place.x, y, place.width, &words, Style::new());
            }
            column => {
                let mut words = column.text(item, model);
                if column == Column::Finding && is_expected(item, state) {
                    words.insert(0, '✓');
                }
                let style = style(column, &words, item, state);
                place_text(buf, *place, y, &words, style);
            }
        }
    }
    let line = Rect { y, height: 1, width: area.width - 1, ..area };
    if item.figures().closed {
        buf.set_style(line, state.theme.label());
    }
    if state.marked.contains(&state.rows.id(row, model)) {
        text::put(buf, area.x, y, 1, "●", state.theme.title());
    }
    if selected {
        text::put(buf, area.x, y, 1, "›", state.theme.strong());
        state.theme.select(buf, line);
    }
    for place in places.iter().filter(|place| is_searched(place.column)) {
        let field = Rect { x: place.x, y, width: place.width, height: 1 };
        text::highlight(buf, field, state.filter.words(), state.theme.matched());
    }
}

/// Whether the finding that the row shows is one that a lab's lesson is about.
fn is_expected(item: Item<'_>, state: &State) -> bool {
    item.figures().findings.first().is_some_and(|finding| state.expects(finding))
}

/// Columns whose words a filter looks at.
const fn is_searched(column: Column) -> bool {
    use Column as C;
    matches!(column, C::Listener | C::Process | C::Container | C::Netns | C::Pattern | C::Finding)
}

fn listener(buf: &mut Buffer, place: Place, y: u16, row: Row, state: &State, model: &Model) {
    let prefix = prefix(row, state);
    let count = match row {
        Row::Group(group) => format!(" ×{}", state.rows.groups[group].members.len()),
        _ => String::new(),
    };
    let room = usize::from(place.width).saturating_sub(words::width(&prefix) + words::width(&count));
    let name = match row {
        Row::Shard { number, .. } => format!("shard {number}"),
        _ => words::fit_middle(&Column::Listener.text(state.rows.item(row, model), model), room),
    };
    text::left(buf, place.x, y, place.width, &format!("{prefix}{name}{count}"), Style::new());
}

fn prefix(row: Row, state: &State) -> String {
    match row {
        Row::Listener(_) => String::new(),
        Row::Group(group) if state.is_unfolded(state.rows.groups[group].id) => "▾ ".to_owned(),
        Row::Group(_) => "▸ ".to_owned(),
        Row::Shard { last: true, .. } => "  └ ".to_owned(),
        Row::Shard { .. } => "  ├ ".to_owned(),
    }
}

/// How words of a column look: what is idle, dim; what is wrong, in its colour.
fn style(column: Column, words: &str, item: Item<'_>, state: &State) -> Style {
    let figures = item.figures();
    match column {
        // What has passed is dim.
        Column::Severity | Column::Finding => match Standing::of(figures).severity {
            Some(holds) => {
                let worst = figures.findings.iter().map(|finding| finding.severity).max();
                state.theme.severity(worst.map_or(holds, |worst| worst.max(holds)))
            }
            None => state.theme.label(),
        },
        Column::Drops if figures.rate.drops.is_some_and(|r| r > 0.0) => state.theme.critical(),
        _ if is_idle(words) => state.theme.label(),
        _ => Style::new(),
    }
}

/// Whether a column has nothing to tell.
fn is_idle(words: &str) -> bool {
    matches!(words.trim_start_matches(words::SAMPLED), "0" | "0/0" | words::NOTHING | words::UNAVAILABLE)
}

fn accept_queue(buf: &mut Buffer, place: Place, y: u16, item: Item<'_>, state: &State, model: &Model) {
    if item.figures().closed {
        return text::right(buf, place.x, y, place.width, "closed", state.theme.strong());
    }
    let numbers = Column::AcceptQueue.text(item, model);
    let room = words::width(&numbers).max(state.rows.numbers_width) as u16;
    let fullest = &item.fullest().now;
    let peak = fullest.recent_accept_peak.map(|p| f64::from(p) / f64::from(fullest.limit.max(1)));
    queue_bar::draw(buf, (place.x, y), place.width.saturating_sub(room + 1), (fullest.fill(), peak), state.theme);
    text::right(buf, place.x, y, place.width, &numbers, state.theme.fill(fullest.fill()));
}

fn trend(buf: &mut Buffer, place: Place, y: u16, item: Item<'_>, state: &State, model: &Model) {
    let limit = f64::from(item.fullest().now.limit);
    let history = item.history();
    let points: Vec<_> = history.last(place.width.into(), &model.timeline).collect();
    let value = |at: usize| {
        let point = &points[at];
        let before = at.checked_sub(1).map(|before| points[before].at);
        let depth = f64::from(point.accept_peak.unwrap_or(point.accept_depth));
        (depth, marks::within(&model.marks, before, point.at))
    };
    let values = (0..points.len()).map(value);
    sparkline::draw(buf, (place.x, y), place.width, values, limit, state.theme);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_idle_and_a_number_is_not() {
        for (words, idle) in [("0", true), ("~0/0", true), ("-", true), ("n/a", true), ("10", false), ("0/3", false)] {
            assert_eq!(is_idle(words), idle, "{words}");
        }
    }
}
