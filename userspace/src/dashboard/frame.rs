//! One frame: header, view and footer.

use ratatui::{Frame, buffer::Buffer, layout::Rect, style::Style};

use super::{
    app::App,
    caption, geometry,
    widgets::{status, text, too_small},
};

/// Draws the application.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let buf = frame.buffer_mut();
    app.state.hits.borrow_mut().clear();
    draw_all(buf, area, app);
    app.state.theme.settle(buf);
}

pub(super) fn draw_all(buf: &mut Buffer, area: Rect, app: &App) {
    let state = &app.state;
    if geometry::is_too_small(area.width, area.height) {
        return too_small::draw(buf, area, state.theme);
    }
    let model = state.model.as_deref();
    let [header, body, footer] = geometry::parts(area, geometry::header_height(state));
    status::draw(buf, header, state, app.declaration().name);
    caption::draw(buf, header, state);
    if model.is_none() && app.declaration().needs_model {
        text::left(buf, 1, body.y + 1, body.width - 1, "Waiting for the first sample …", state.theme.strong());
    } else {
        app.view().draw(buf, body, state, model);
    }
    draw_footer(buf, footer, app);
}

/// What is being typed, or was done; and the keys that fit.
fn draw_footer(buf: &mut Buffer, area: Rect, app: &App) {
    let (theme, state) = (app.state.theme, &app.state);
    let mut x = area.x + 1;
    let mut put = |words: &str, style: Style| {
        text::put(buf, x, area.y, area.right().saturating_sub(x), words, style);
        x += (listentop_model::words::width(words) as u16).min(area.right().saturating_sub(x));
        x
    };
    if state.typing {
        // Of a long filter the end is what is being typed.
        let typed = listentop_model::words::clean(state.filter.typed());
        let most = usize::from(area.width) / 2;
        let chars: Vec<char> = typed.chars().collect();
        let end: String = chars[chars.len().saturating_sub(most)..].iter().collect();
        put(&format!("/{end}▏"), theme.badge());
        put("  ", Style::new());
    } else if let Some(message) = &state.message {
        put(message, theme.strong());
        return;
    }
    for (key, word, action) in app.footer() {
        let begin = put("", Style::new());
        put(&key, theme.strong());
        let end = put(&format!(" {word}"), theme.label());
        state.hits.borrow_mut().add(Rect { x: begin, y: area.y, width: end - begin, height: 1 }, action);
        put("  ", Style::new());
    }
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
