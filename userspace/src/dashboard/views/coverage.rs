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

use crate::dashboard::{
    app::App,
    format,
    theme::Theme,
    widgets::{status, text},
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
    let lost = status::losses(&model.losses);
    if lost.is_empty() {
        lines.push(Line::raw("Nothing was lost: every table had room, and no probe run was skipped."));
        return lines;
    }
    lines.push(Line::styled(format!("Lost since the start: {}", lost.join(", ")), theme.critical()));
    let remedies = [
        (model.losses.listeners, "listeners beyond --max-listeners are not shown"),
        (
            model.losses.connections,
            "connections beyond --max-connections are counted, without waits, and without reads unless there was room when they were accepted",
        ),
        (model.losses.threads, "threads beyond --max-threads: their work is counted for the listener, by no thread"),
        (model.losses.missed_runs, "probe runs that the kernel skipped, because a probe interrupted itself"),
        (
            model.losses.unseen,
            "connections whose beginning or end the kernel showed to no probe: counted later, without their accept wait",
        ),
        (
            model.losses.other,
            "other: queued sockets that could not be told, queues too long to take over at the start, connections open before it that may \
             have come through another shard of their group",
        ),
    ];
    for (_, text) in remedies.into_iter().filter(|(count, _)| *count > 0) {
        lines.extend(format::wrap(text, usize::from(width) - 5).into_iter().map(|l| Line::raw(format!("  {l}"))));
    }
    lines
}
