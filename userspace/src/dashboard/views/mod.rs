//! The screens, one per file, and what surrounds them.

pub(super) mod coverage;
pub(super) mod distributions;
pub(super) mod findings;
pub(super) mod help;
pub(super) mod listener;
pub(super) mod overview;
pub(super) mod threads;
mod too_small;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use super::{
    app::{App, Overlay, View},
    keymap,
    widgets::{status, text},
};

/// Columns that the dashboard needs.
pub const MIN_COLUMNS: u16 = 80;
/// Rows that the dashboard needs.
pub const MIN_ROWS: u16 = 24;

/// Whether a terminal of this size has no room for the dashboard.
pub(super) const fn is_too_small(columns: u16, rows: u16) -> bool {
    columns < MIN_COLUMNS || rows < MIN_ROWS
}

/// Draws the state.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let buf = frame.buffer_mut();
    if is_too_small(area.width, area.height) {
        return too_small::draw(buf, area, app.theme);
    }
    let [header, body, footer] = parts(area, app);
    status::draw(buf, header, app);
    match (app.overlay, app.view, &app.model) {
        (Some(Overlay::Help), ..) => help::draw(buf, body, app),
        (_, _, None) => {
            text::left(buf, 1, body.y + 1, body.width - 1, "Waiting for the first sample …", app.theme.strong());
        }
        (Some(Overlay::Coverage), _, Some(model)) => coverage::draw(buf, body, app, model),
        (None, View::Overview, Some(model)) => overview::draw(buf, body, app, model),
        (None, View::Listener(_), Some(model)) => listener::draw(buf, body, app, model),
    }
    draw_footer(buf, footer, app);
}

/// Header, body and footer.
fn parts(area: Rect, app: &App) -> [Rect; 3] {
    Layout::vertical([Constraint::Length(status::height(app)), Constraint::Min(0), Constraint::Length(1)]).areas(area)
}

/// The body on a screen of the size that the state knows of.
pub(super) fn body(app: &App) -> Rect {
    parts(Rect::new(0, 0, app.size.0, app.size.1), app)[1]
}

fn draw_footer(buf: &mut ratatui::buffer::Buffer, area: Rect, app: &App) {
    let mut spans = vec![Span::raw(" ")];
    for (key, word) in keymap::footer(app.scope()) {
        spans.push(Span::styled(key, app.theme.strong()));
        spans.push(Span::styled(format!(" {word}  "), app.theme.label()));
    }
    text::line(buf, area, Line::from(spans));
}

/// Rows of a page of the overlay, and how far it can be scrolled.
pub(super) fn overlay_extent(app: &App) -> (usize, usize) {
    let body = body(app);
    let page = usize::from(body.height).saturating_sub(1).max(1);
    let length = match (app.overlay, &app.model) {
        (Some(Overlay::Help), _) => help::lines(body.width, app.theme).len(),
        (Some(Overlay::Coverage), Some(model)) => coverage::lines(model, body.width, app.theme).len(),
        _ => 0,
    };
    // The first row is the title.
    (page, length.saturating_sub(page))
}
