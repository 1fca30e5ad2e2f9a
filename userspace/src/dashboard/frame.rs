//! One frame: header, view and footer.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    app::App,
    geometry,
    widgets::{status, text, too_small},
};

/// Draws the application.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let buf = frame.buffer_mut();
    draw_all(buf, area, app);
    app.state.theme.settle(buf);
}

fn draw_all(buf: &mut Buffer, area: Rect, app: &App) {
    let state = &app.state;
    if geometry::is_too_small(area.width, area.height) {
        return too_small::draw(buf, area, state.theme);
    }
    let model = state.model.as_deref();
    let [header, body, footer] = geometry::parts(area, geometry::header_height(model));
    status::draw(buf, header, state);
    if model.is_none() && app.declaration().needs_model {
        text::left(buf, 1, body.y + 1, body.width - 1, "Waiting for the first sample …", state.theme.strong());
    } else {
        app.view().draw(buf, body, state, model);
    }
    draw_footer(buf, footer, app);
}

fn draw_footer(buf: &mut Buffer, area: Rect, app: &App) {
    let theme = app.state.theme;
    let mut spans = vec![Span::raw(" ")];
    for (key, word) in app.footer() {
        spans.push(Span::styled(key, theme.strong()));
        spans.push(Span::styled(format!(" {word}  "), theme.label()));
    }
    text::line(buf, area, Line::from(spans));
}

/// The text of a frame, for tests.
#[cfg(test)]
pub(super) fn picture(app: &App) -> String {
    let (columns, rows) = app.state.size;
    let backend = ratatui::backend::TestBackend::new(columns, rows);
    let mut terminal = ratatui::Terminal::new(backend).expect("a test backend does not fail");
    terminal.draw(|frame| draw(frame, app)).expect("a test backend does not fail");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..rows).map(row).collect::<Vec<_>>().join("\n")
}
