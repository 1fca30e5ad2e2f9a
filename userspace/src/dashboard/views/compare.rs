//! Two to eight rows beside each other, on the same axes: marked listeners, the shards of a group, or the first rows.

use crossterm::event::KeyCode;
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
    action::Action,
    keymap::{Binding, Key::Plain, Others, Scope, bind, char},
    rows::{Row, RowId},
    state::{MARKED, State},
    theme::Theme,
    view::{Declaration, Outcome, View},
    widgets::{
        graph::{Graph, Point, round_up},
        text,
    },
};

pub(super) static VIEW: Declaration = Declaration {
    name: "compare",
    tab: Some("Compare"),
    key: Some(bind(
        &[char('3')],
        Action::Show("compare"),
        "",
        "compare the marked rows; without marks, the shards of the selected group, or the first rows",
    )),
    over: false,
    scopes: &[&KEYS],
    explained: ("In the comparison", || {
        vec![(
            "same axes",
            "All graphs of the comparison have the same scale, from 0 to the largest value that any of them shows.",
        )]
    }),
    needs_model: true,
    make: || Box::new(Compare::default()),
};

static KEYS: Scope = Scope { title: "Keys in the comparison", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(&[Plain(KeyCode::Tab), char('n')], Action::NextSection, "figure", "the next figure"),
    bind(&[Plain(KeyCode::BackTab), char('b')], Action::PreviousSection, "", "the figure before"),
];

/// A figure that can be compared.
struct Figure {
    name: &'static str,
    measure: Measure,
    /// Value and peak at a step.
    pick: fn(&HistoryPoint) -> (Option<f64>, Option<f64>),
    /// How a value of a queue with this limit looks.
    style: fn(Theme, f64, f64) -> Style,
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "accept queue depth, peak",
        measure: Measure::AcceptQueueDepth,
        pick: |point| (Some(point.accept_depth.into()), point.accept_peak.map(f64::from)),
        style: |theme, depth, limit| theme.fill(depth / limit.max(1.0)),
    },
    Figure {
        name: "drops per refresh",
        measure: Measure::Drops,
        pick: |point| (point.drops.map(|n| n as f64), None),
        style: |theme, drops, _| if drops > 0.0 { theme.critical() } else { theme.label() },
    },
    Figure {
        name: "accepted/s",
        measure: Measure::Accepts,
        pick: |point| (point.accepts, None),
        style: |theme, _, _| theme.flow(),
    },
    Figure {
        name: "reads/s",
        measure: Measure::Reads,
        pick: |point| (point.reads, None),
        style: |theme, _, _| theme.flow(),
    },
];

/// The comparison.
#[derive(Debug, Default)]
struct Compare {
    figure: usize,
}

/// What is compared, each with its name.
fn compared(state: &State, model: &Model) -> Vec<(String, RowId)> {
    let rows = &state.rows;
    let named = |row: &Row| {
        let item = rows.item(*row, model);
        let shard = match row {
            Row::Shard { number, .. } => format!(" shard {number}"),
            _ => String::new(),
        };
        let process = words::process(item.figures());
        (format!("{}{shard} {process}", words::listener_endpoint(item.figures())), rows.id(*row, model))
    };
    if !state.marked.is_empty() {
        let row = |id: &RowId| rows.position(*id, model).map(|at| named(&rows.rows[at]));
        return state.marked.iter().filter_map(row).collect();
    }
    let group = state.selected_row().and_then(|row| rows.group_of(row));
    if let Some(group) = group.and_then(|id| rows.groups.iter().find(|group| group.id == id)) {
        let shard =
            |&(at, number): &(usize, usize)| (format!("shard {number}"), RowId::Listener(model.listeners[at].id));
        return group.members.iter().take(MARKED).map(shard).collect();
    }
    rows.rows.iter().take(MARKED / 2).map(named).collect()
}

/// Where the graphs are: two or four columns on wide screens, as many rows as that takes.
fn grid(area: Rect, count: usize) -> Vec<Rect> {
    let columns = match area.width {
        0..160 => 2,
        _ => 4,
    };
    let columns = columns.min(count.max(1));
    let rows = count.div_ceil(columns).max(1);
    let heights = vec![Constraint::Fill(1); rows];
    let rows = Layout::vertical(heights).split(area);
    let row = |row: &Rect| {
        let cells = Layout::horizontal(vec![Constraint::Fill(1); columns]).spacing(2).split(*row);
        cells.to_vec()
    };
    rows.iter().flat_map(row).take(count).collect()
}

impl View for Compare {
    fn scope(&self, _: &State) -> &'static Scope {
        &KEYS
    }

    fn update(&mut self, action: Action, _: &mut State) -> Outcome {
        let step = match action {
            Action::NextSection => 1,
            Action::PreviousSection => FIGURES.len() - 1,
            _ => return Outcome::Unchanged,
        };
        self.figure = (self.figure + step) % FIGURES.len();
        Outcome::Changed
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let (Some(model), theme) = (model, state.theme) else { return };
        let figure = &FIGURES[self.figure];
        let compared = compared(state, model);
        let how = if state.marked.is_empty() { "m marks rows" } else { "marked" };
        let title = format!("{} of {} ({how}) on the same axes; Tab: another", figure.name, compared.len());
        text::rule(buf, area, &title, theme);
        let listeners: Vec<_> = compared.iter().filter_map(|(name, id)| Some((name, state.listener(*id)?))).collect();
        let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let nothing = match words::status(model, figure.measure) {
            Status::Unavailable => "n/a: cannot be measured here (c)",
            _ => "nothing seen yet",
        };
        let points: Vec<Vec<Point>> = listeners.iter().map(|(_, listener)| points(figure, listener, model)).collect();
        let largest = points.iter().flatten().flat_map(|p| [p.value, p.peak]).flatten().fold(0.0, f64::max);
        for ((cell, (name, listener)), points) in grid(body, listeners.len()).into_iter().zip(&listeners).zip(points) {
            let limit = f64::from(listener.now.limit);
            Graph {
                title: format!(" {}", words::fit(name, usize::from(cell.width).saturating_sub(2))),
                points,
                limit: None,
                top: Some(round_up(largest)),
                style: &|value| (figure.style)(theme, value, limit),
                nothing,
                marks: &model.marks,
            }
            .draw(buf, cell, theme);
        }
    }
}

fn points(figure: &Figure, listener: &ListenerModel, model: &Model) -> Vec<Point> {
    let point = |p: HistoryPoint| {
        let (value, peak) = (figure.pick)(&p);
        Point { at: p.at, value, peak }
    };
    listener.history.points(&model.timeline).map(point).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use listentop_model::{fixtures, sample::Sample, tracker::Tracker};

    use super::*;
    use crate::dashboard::{App, DashboardOptions, frame::picture};

    fn app(samples: &[Sample]) -> App {
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let mut app = App::new(DashboardOptions::default());
        app.set_model(Arc::new(tracker.model().clone()));
        app
    }

    #[test]
    fn shards_stand_beside_each_other_on_the_same_axis() {
        let mut app = app(&fixtures::dead_shard());
        app.update(Action::Show("compare"));
        let text = picture(&app);
        for shard in ["shard 1", "shard 2", "shard 3", "shard 4"] {
            assert!(text.contains(shard), "{text}");
        }
        assert_eq!(text.matches("100│").count(), 4, "the scale of each goes to 100:\n{text}");
        app.update(Action::NextSection);
        assert!(picture(&app).contains("drops per refresh of 4"), "{}", picture(&app));
        app.update(Action::PreviousSection);
        app.update(Action::PreviousSection);
        assert!(picture(&app).contains("reads/s of 4"), "{}", picture(&app));
    }

    #[test]
    fn marked_rows_are_compared_and_eight_are_enough() {
        let mut app = app(&fixtures::many(20));
        app.update(Action::Show("compare"));
        assert!(picture(&app).contains("depth, peak of 4"), "{}", picture(&app));
        app.update(Action::Back);
        for _ in 0..10 {
            app.update(Action::Mark);
            app.update(Action::Down);
        }
        assert_eq!(picture(&app).matches('●').count(), 8, "{}", picture(&app));
        app.update(Action::Show("compare"));
        assert!(picture(&app).contains("depth, peak of 8"), "{}", picture(&app));
        for (columns, rows) in [(80, 24), (120, 40), (200, 60)] {
            app.update(Action::Resize(columns, rows));
            assert_eq!(picture(&app).matches(" now").count(), 8, "{}", picture(&app));
        }
    }

    #[test]
    fn cells_cover_the_area_without_overlap() {
        for width in [80, 120, 200] {
            for count in 1..=MARKED {
                let cells = grid(Rect::new(0, 0, width, 17), count);
                assert_eq!(cells.len(), count);
                for (i, a) in cells.iter().enumerate() {
                    assert!(a.height >= 4 && a.right() <= width, "{count} {a:?}");
                    assert!(cells[..i].iter().all(|b| !a.intersects(*b)), "{count}");
                }
            }
        }
    }
}
