//! What is measured, by which hook, and why not more; and what was lost.

use listentop_model::{
    coverage::{Coverage, Status},
    model::Model,
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use crate::{
    dashboard::{app::App, format, theme::Theme, widgets::text},
    losses::{self, Loss},
};

pub(super) fn draw(buf: &mut Buffer, area: Rect, app: &App, model: &Model) {
    text::rule(buf, area, "Coverage: what is measured here", app.theme);
    let body = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 1, height: area.height - 1 };
    text::scrolled(buf, body, &lines(model, area.width, app.theme), app.overlay_scroll, app.theme);
}

/// The table, wrapped to a screen of `width`.
pub(super) fn lines(model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    const MEASURE: usize = 20;
    const STATUS: usize = 14;
    let room = usize::from(width).saturating_sub(MEASURE + STATUS + 3);
    let row = |measure: &str, state: &str, style: Style, text: &str, text_style: Style| {
        Line::from(vec![
            Span::raw(format!("{measure:MEASURE$}")),
            Span::styled(format!("{state:STATUS$}"), style),
            Span::styled(text.to_owned(), text_style),
        ])
    };
    let mut lines = vec![row("MEASURE", "STATUS", theme.label(), "VIA, AND WHY NOT MORE", theme.label())];
    // Many measures may share a long reason: it is said once.
    let mut said: Vec<&Coverage> = Vec::new();
    for coverage in &model.coverage {
        let (mark, style) = match coverage.status {
            Status::Measured => ("✓", theme.flow()),
            Status::Sampled => ("~", theme.warning()),
            Status::Unavailable => ("✗", theme.critical()),
        };
        let state = format!("{mark} {}", coverage.status);
        let mut texts: Vec<(String, Style)> = Vec::new();
        let before = said.iter().find(|before| before.reason == coverage.reason && coverage.reason.len() > room);
        let reason = match before {
            Some(before) => format!("as for {}", before.measure),
            None => coverage.reason.clone(),
        };
        said.push(coverage);
        for (text, style) in [(&coverage.via, Style::new()), (&reason, theme.strong())] {
            if !text.is_empty() {
                texts.extend(format::wrap(&format::clean(text), room).into_iter().map(|line| (line, style)));
            }
        }
        let mut texts = texts.into_iter();
        let (first, first_style) = texts.next().unwrap_or_default();
        lines.push(row(coverage.measure.name(), &state, style, &first, first_style));
        lines.extend(texts.map(|(text, style)| row("", "", Style::new(), &text, style)));
    }
    lines.push(Line::raw(""));
    let meaning = [
        "measured: every event is seen. sampled: read now and then, inferred, or a bound; such a number has a ~ before it.",
        "unavailable: not to be had here; shown as n/a.",
    ];
    for text in meaning {
        lines.extend(format::wrap(text, usize::from(width) - 3).into_iter().map(|l| Line::styled(l, theme.label())));
    }
    lines.push(Line::raw(""));
    let lost = losses::of(&model.losses);
    if lost.is_empty() {
        lines.push(Line::raw("Nothing was lost: every table had room, and no probe run was skipped."));
        return lines;
    }
    let (certain, word) = losses::verdict(&model.losses);
    let style = if certain { theme.critical() } else { theme.warning() };
    let words: Vec<String> = lost.iter().map(Loss::brief).collect();
    let since = format!("{word}. Since the start: {}", words.join(", "));
    lines.extend(format::wrap(&since, usize::from(width) - 3).into_iter().map(|l| Line::styled(l, style)));
    for Loss { meaning, .. } in &lost {
        lines.extend(format::wrap(meaning, usize::from(width) - 5).into_iter().map(|l| Line::raw(format!("  {l}"))));
    }
    lines
}
