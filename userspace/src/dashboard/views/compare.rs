//! Two to eight rows beside each other, on the same axes: marked listeners, the shards of a group, or the first rows;
//! or the threads of the selected one.

mod threads;

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
        "compare the marked rows; without marks, the shards of the selected group, or the first rows; or (t) threads",
    )),
    over: false,
    scopes: &[&KEYS],
    explained: ("In the comparison", || {
        vec![
            (
                "same axes",
                "All graphs of the comparison have the same scale, from 0 to the largest value that any of them shows.",
            ),
            (
                "threads",
                "With t: of the selected listener or group, the threads that did most in the interval, at most eight of \
                 a listener. A share is that of its accepts, reads or writes, among all threads.",
            ),
        ]
    }),
    needs_model: true,
    make: || Box::new(Compare::default()),
};

static KEYS: Scope = Scope { title: "Keys in the comparison", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(&[Plain(KeyCode::Tab), char('n')], Action::NextSection, "figure", "the next figure"),
    bind(&[Plain(KeyCode::BackTab), char('b')], Action::PreviousSection, "", "the figure before"),
    bind(&[char('t')], Action::ToggleThreads, "threads", "the threads of the selected listener, or the rows again"),
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
    /// Threads are compared, by this figure.
    threads: bool,
    of_threads: usize,
}

/// A graph of the comparison.
struct Cell<'a> {
    name: String,
    points: Vec<Point>,
    /// How a value looks.
    style: Box<dyn Fn(f64) -> Style + 'a>,
}

/// Draws graphs of a measure beside each other, on the same axes.
fn draw_all(buf: &mut Buffer, area: Rect, cells: Vec<Cell<'_>>, measure: Measure, model: &Model, theme: Theme) {
    let nothing = nothing(measure, model);
    let largest =
        cells.iter().flat_map(|cell| &cell.points).flat_map(|p| [p.value, p.peak]).flatten().fold(0.0, f64::max);
    for (area, cell) in grid(area, cells.len()).into_iter().zip(cells) {
        Graph {
            title: format!(" {}", words::fit(&cell.name, usize::from(area.width).saturating_sub(2))),
            points: cell.points,
            limit: None,
            top: Some(round_up(largest)),
            style: &cell.style,
            nothing,
            marks: &model.marks,
        }
        .draw(buf, area, theme);
    }
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
        let (at, count) = if self.threads {
            (&mut self.of_threads, threads::FIGURES.len())
        } else {
            (&mut self.figure, FIGURES.len())
        };
        match action {
            Action::NextSection => *at = (*at + 1) % count,
            Action::PreviousSection => *at = (*at + count - 1) % count,
            Action::ToggleThreads => self.threads = !self.threads,
            _ => return Outcome::Unchanged,
        }
        Outcome::Changed
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let (Some(model), theme) = (model, state.theme) else { return };
        let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
        if self.threads {
            return threads::draw(buf, area, body, &threads::FIGURES[self.of_threads], (state, model));
        }
        let figure = &FIGURES[self.figure];
        let compared = compared(state, model);
        let how = if state.marked.is_empty() { "m marks rows" } else { "marked" };
        let title = format!("{} of {} ({how}) on the same axes", figure.name, compared.len());
        text::rule(buf, area, &title, theme);
        let cell = |(name, id): (String, RowId)| {
            let listener = state.listener(id)?;
            let limit = f64::from(listener.now.limit);
            let style = Box::new(move |value| (figure.style)(theme, value, limit));
            Some(Cell { name, points: points(figure, &listener, model), style: style as Box<dyn Fn(f64) -> Style> })
        };
        draw_all(buf, body, compared.into_iter().filter_map(cell).collect(), figure.measure, model, theme);
    }
}

/// What a graph without a known value says.
fn nothing(measure: Measure, model: &Model) -> &'static str {
    match words::status(model, measure) {
        Status::Unavailable => "n/a: cannot be measured here (c)",
        _ => "nothing seen yet",
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
    fn threads_of_the_selected_listener_are_compared() {
        let mut app = app(&busy_threads(3));
        app.update(Action::Resize(120, 40));
        app.update(Action::Show("compare"));
        app.update(Action::ToggleThreads);
        let text = picture(&app);
        assert!(text.contains("accepted/s of 3 threads of 10.0.0.1:80 on the same axes"), "{text}");
        // The first accepts ten times as often as the last, four times a second.
        for (tid, share) in [(101, "62% of accepts"), (102, "31% of accepts"), (103, "6% of accepts")] {
            let name = format!("worker[{tid}] {share}");
            assert!(text.contains(&name), "{name} in\n{text}");
        }
        assert_eq!(text.matches("   50│").count(), 3, "the scale of each goes to 50:\n{text}");
        app.update(Action::NextSection);
        assert!(picture(&app).contains("reads/s of 3 threads"), "{}", picture(&app));
        app.update(Action::PreviousSection);
        app.update(Action::PreviousSection);
        assert!(picture(&app).contains("writes/s of 3 threads"), "{}", picture(&app));
        app.update(Action::ToggleThreads);
        assert!(picture(&app).contains("accept queue depth, peak of"), "{}", picture(&app));
    }

    #[test]
    fn of_many_threads_those_that_did_most_and_one_alone_says_so() {
        let mut many = app(&busy_threads(20));
        many.update(Action::Show("compare"));
        many.update(Action::ToggleThreads);
        for (columns, rows) in [(80, 24), (120, 40), (200, 60)] {
            many.update(Action::Resize(columns, rows));
            let text = picture(&many);
            assert!(
                text.contains("8 of 20 threads (those that did most)") && text.matches(" now").count() == 8,
                "{text}"
            );
        }
        let mut one = app(&busy_threads(1));
        one.update(Action::Show("compare"));
        one.update(Action::ToggleThreads);
        assert!(picture(&one).contains("It has one thread"), "{}", picture(&one));
        // Shards have one each, and a group has all of theirs.
        let mut group = app(&fixtures::dead_shard());
        group.update(Action::Show("compare"));
        group.update(Action::ToggleThreads);
        assert!(
            picture(&group).contains("of 4 threads of") || picture(&group).contains("of 3 threads of"),
            "{}",
            picture(&group)
        );
    }

    /// A listener with so many threads, each of which does less than the one before.
    fn busy_threads(count: u32) -> Vec<Sample> {
        let mut server = fixtures::listener(1, 4_026_531_840, "10.0.0.1:80", 128);
        server.threads = (1..=count).map(|n| fixtures::thread(100, 100 + n, "worker")).collect();
        let mut scene = fixtures::Scene::new(vec![server]);
        for _ in 0..12 {
            for n in 0..count {
                let accepts = if count == 3 { [10, 5, 1][n as usize] } else { u64::from(count - n) };
                scene.listener(0).accept(n as usize, accepts, 90);
                scene.listener(0).read(n as usize, 2 * accepts, accepts, 40);
                scene.listener(0).write(n as usize, accepts);
            }
            scene.tick(250);
        }
        scene.samples()
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
