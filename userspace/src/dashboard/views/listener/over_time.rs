//! The figures of a listener over time: graphs, and the heat map of accept waits.

use listentop_model::{
    coverage::{Measure, Status},
    history::HistoryPoint,
    model::{ListenerModel, Model},
    words,
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
};

use crate::dashboard::{
    theme::Theme,
    widgets::{
        graph::{Graph, Point},
        heat,
    },
};

/// What stands in for a measure that has no values.
fn nothing(measure: Measure, model: &Model) -> &'static str {
    match words::status(model, measure) {
        Status::Unavailable => "n/a: cannot be measured here (c)",
        _ => "nothing seen yet",
    }
}

/// A figure over time: title, measure, value and peak at a step, and how a value looks.
type OverTime<'a> = (&'static str, Measure, fn(&HistoryPoint) -> (Option<f64>, Option<f64>), &'a dyn Fn(f64) -> Style);

/// Depth and drops over time; accepts and reads beside them on a wide screen.
pub(super) fn graphs(buf: &mut Buffer, area: Rect, listener: &ListenerModel, theme: Theme, model: &Model) {
    let limit = f64::from(listener.now.limit);
    let depth = |depth: f64| theme.fill(depth / limit.max(1.0));
    let drops = |drops: f64| if drops > 0.0 { theme.critical() } else { theme.label() };
    let flow = |_: f64| theme.flow();
    let all: [OverTime<'_>; 4] = [
        (
            " accept queue depth, peak",
            Measure::AcceptQueueDepth,
            |p| (Some(p.accept_depth.into()), p.accept_peak.map(f64::from)),
            &depth,
        ),
        (" drops per refresh", Measure::Drops, |p| (p.drops.map(|n| n as f64), None), &drops),
        (" accepted/s", Measure::Accepts, |p| (p.accepts, None), &flow),
        (" reads/s", Measure::Reads, |p| (p.reads, None), &flow),
    ];
    let shown = if area.width < 160 { 2 } else { 4 };
    let cells = Layout::horizontal(vec![Constraint::Fill(1); shown]).spacing(2).split(area);
    for (cell, (title, measure, pick, style)) in cells.iter().zip(all) {
        let point = |p: HistoryPoint| {
            let (value, peak) = pick(&p);
            Point { at: p.at, value, peak }
        };
        Graph {
            title: title.to_owned(),
            points: listener.history.points(&model.timeline).map(point).collect(),
            limit: (measure == Measure::AcceptQueueDepth).then_some((limit, "limit ")),
            top: None,
            style,
            nothing: nothing(measure, model),
            marks: &model.marks,
        }
        .draw(buf, *cell, theme);
    }
}

/// How long connections had waited that were accepted, over time.
pub(super) fn heat_map(buf: &mut Buffer, area: Rect, listener: &ListenerModel, theme: Theme, model: &Model) {
    let points = listener.history.points(&model.timeline);
    heat::draw(buf, area, points, &model.marks, nothing(Measure::AcceptWait, model), theme);
}
