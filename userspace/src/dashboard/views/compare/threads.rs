//! The threads of a listener beside each other.

use listentop_model::{
    coverage::{Measure, Status},
    history::ThreadRates,
    model::{ListenerModel, Model, ThreadModel},
    words,
};
use ratatui::{buffer::Buffer, layout::Rect};

use super::{Cell, MARKED, Point, draw_all};
use crate::dashboard::{state::State, widgets::text};

/// A figure of threads that can be compared.
pub(super) struct Figure {
    name: &'static str,
    /// What a share is of.
    of: &'static str,
    measure: Measure,
    pick: fn(&ThreadRates) -> f32,
    /// What the thread did in the interval, and all threads.
    total: fn(&ThreadModel) -> u64,
}

pub(super) const FIGURES: [Figure; 3] = [
    Figure {
        name: "accepted/s",
        of: "accepts",
        measure: Measure::Accepts,
        pick: |rates| rates.accepts,
        total: |thread| thread.accepts,
    },
    Figure {
        name: "reads/s",
        of: "reads",
        measure: Measure::Reads,
        pick: |rates| rates.reads,
        total: |thread| thread.reads,
    },
    Figure {
        name: "writes/s",
        of: "writes",
        measure: Measure::Writes,
        pick: |rates| rates.writes,
        total: |thread| thread.writes,
    },
];

/// Draws them; `area` begins with the title, `body` is below it.
pub(super) fn draw(buf: &mut Buffer, area: Rect, body: Rect, figure: &Figure, (state, model): (&State, &Model)) {
    let theme = state.theme;
    let Some(listener) = state.selected_id().and_then(|id| state.listener(id)) else {
        return text::rule(buf, area, "No listener is selected", theme);
    };
    let count = listener.threads.iter().map(ThreadModel::threads).sum::<u64>();
    let alone = count == 1 && listener.threads.iter().all(|thread| thread.history.is_empty());
    // What ended long ago is no longer of interest, and a sum is no thread.
    let compared = |thread: &&ThreadModel| thread.summed.is_none() && !(thread.ended && thread.history.is_empty());
    let threads = || listener.threads.iter().filter(compared).take(if alone { 0 } else { MARKED });
    let shown = threads().count();
    let which = if shown == 0 || shown as u64 == count {
        words::plural(count, "thread")
    } else {
        format!("{shown} of {} (those that did most)", words::plural(count, "thread"))
    };
    let endpoint = words::listener_endpoint(&listener);
    let title = format!("{} of {which} of {endpoint} on the same axes", figure.name);
    text::rule(buf, area, &title, theme);
    if shown == 0 {
        let why = match count {
            0 => "No thread was seen working for it yet.",
            1 => "It has one thread: the listener's own graphs (2) show what that does.",
            _ => "All threads that worked for it have ended.",
        };
        return text::left(buf, body.x + 1, body.y + 1, body.width - 1, why, theme.strong());
    }
    let cell = |thread| Cell {
        name: name(thread, figure, &listener),
        points: points(thread, figure, model),
        style: Box::new(move |_| theme.flow()),
    };
    draw_all(buf, body, threads().map(cell).collect(), figure.measure, model, theme);
}

/// Which thread it is, and how much of the work it did.
fn name(thread: &ThreadModel, figure: &Figure, listener: &ListenerModel) -> String {
    let id = if thread.tid == 0 { String::new() } else { format!("[{}]", thread.tid) };
    let ended = if thread.ended { " ended" } else { "" };
    let all: u64 = listener.threads.iter().map(figure.total).sum();
    let share = match all {
        0 => String::new(),
        all => format!(" {} of {}", words::whole_percent((figure.total)(thread) as f64 / all as f64), figure.of),
    };
    format!("{}{id}{ended}{share}", words::thread_name(thread))
}

fn points(thread: &ThreadModel, figure: &Figure, model: &Model) -> Vec<Point> {
    let known = words::status(model, figure.measure) != Status::Unavailable;
    let value = |rates: Option<ThreadRates>| rates.filter(|_| known).map(|rates| f64::from((figure.pick)(&rates)));
    let point = |(at, rates)| Point { at, value: value(rates), peak: None };
    thread.history.points(&model.timeline).map(point).collect()
}
