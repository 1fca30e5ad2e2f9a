//! What began and what ended while the dashboard ran, or in a whole recording: findings as episodes, listeners that
//! opened and closed; and what a lab did. The newest is first. While a moment of the past is shown, a line marks it.

use listentop_model::{
    episodes::{Event, Happening},
    model::{Model, Severity},
    words,
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
};

use super::findings::LIST;
use crate::dashboard::{
    action::Action,
    keymap::{Scope, bind, char},
    log::Entry,
    state::State,
    theme::Theme,
    view::{Declaration, Outcome, View},
    widgets::{marks::MARK, text},
};

pub(super) static VIEW: Declaration = Declaration {
    name: "events",
    tab: Some("Events"),
    key: Some(bind(&[char('4')], Action::Show("events"), "", "what began and ended: findings, listeners")),
    over: false,
    scopes: &[&LIST],
    explained: ("In the list of events", || EXPLAINED.to_vec()),
    lists_connections: false,
    needs_model: true,
    make: || Box::new(Events::default()),
};

const EXPLAINED: &[(&str, &str)] = &[
    ("began, worsened", "A finding began to hold, or became worse. The time is when it did, UTC."),
    (
        "ended after",
        "A finding no longer holds. One that is back within 5 s has not ended; the time is when it was seen last.",
    ),
    ("refused, accepted", "Of an episode: attempts that were refused, and connections accepted, while it lasted."),
    ("deepest", "Of an episode: the largest depth of the accept queue that was seen in it."),
    ("┊", "Something was done on purpose: in a lab a step that began, or an act. Graphs over time have it too."),
    (
        "◀ shown",
        "The moment that the screen shows; what is above it came later. In a replay, Enter goes to the moment of a line \
         and stops there. Enter once more opens the listener.",
    ),
];

/// Names whose widths are looked at.
const MEASURED: usize = 1_000;

/// Where the user is in the list. The newest event is at its top.
#[derive(Debug, Default)]
struct Events {
    at: usize,
    /// The number of the event that is chosen; `None`: the newest, whichever that is.
    chosen: Option<u64>,
}

impl Events {
    fn choose(&mut self, at: usize, state: &State) {
        self.at = at.min(last(state));
        let is_free = self.at > 0 || state.options.is_replay;
        self.chosen = state.log.newest(self.at).map(|entry| entry.number).filter(|_| is_free);
    }

    fn open_chosen(&self, state: &mut State) -> Outcome {
        let entry = state.log.newest(self.at).map(|entry| (entry.moment, entry.event.listener));
        let shown = state.moment.map(|moment| moment.unix_ms);
        if let Some((moment, listener)) = entry.filter(|(at, _)| state.options.is_replay && shown != Some(*at)) {
            return Outcome::Travel(state.stop_at(moment, listener));
        }
        match state.log.newest(self.at).map(|entry| entry.event.listener) {
            Some(Some(id)) if state.select_listener(id) => Outcome::Show("listener"),
            Some(listener) => {
                state.message = Some(match listener {
                    Some(_) => "this listener is hidden, or gone: by the filter, or because it has closed (x)".into(),
                    None => "this concerns all listeners".into(),
                });
                Outcome::Changed
            }
            None => Outcome::Unchanged,
        }
    }
}

impl View for Events {
    /// Stays with the event that is chosen while others come.
    fn arrange(&mut self, state: &State) {
        let at = self.chosen.and_then(|number| state.log.position(number));
        let newest = if state.options.is_replay { marked(state).unwrap_or(0) } else { 0 };
        self.at = at.unwrap_or(if self.chosen.is_some() { self.at } else { newest }).min(last(state));
    }

    fn scope(&self, _: &State) -> &'static Scope {
        &LIST
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let before = self.at;
        match action {
            Action::Open => return self.open_chosen(state),
            Action::PickLine(at) if at == self.at => return self.open_chosen(state),
            Action::PickLine(at) => self.choose(at, state),
            movement => {
                let page = usize::from(parts(state.body())[0].height).saturating_sub(2);
                self.choose(movement.travel(self.at, page, last(state)), state);
            }
        }
        Outcome::changed_if(before != self.at)
    }

    fn copies(&self, state: &State) -> Option<String> {
        let entry = state.log.newest(self.at)?;
        let time = words::utc(entry.event.unix_ms);
        Some(format!("{time} {} {}", entry.name, what(&entry.event)))
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, _: Option<&Model>) {
        let theme = state.theme;
        let [area, below] = parts(area);
        text::rule(buf, area, &title(state), theme);
        let rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        if state.log.len() == 0 {
            let nothing = match (state.options.is_replay, state.log.is_whole()) {
                (false, _) => "Nothing began or ended since the dashboard started.",
                (true, true) => "Nothing began or ended in this recording.",
                (true, false) => "Nothing began or ended so far: the recording is being read.",
            };
            return text::left(buf, rows.x + 1, rows.y + 1, rows.width - 1, nothing, theme.strong());
        }
        let names = names_width(state, rows.width);
        // The line that marks the shown moment is among the others.
        let mark = marked(state);
        let row_of = |at: usize| at + usize::from(mark.is_some_and(|mark| mark <= at));
        let visible = usize::from(rows.height);
        let first = (row_of(self.at) + 1).saturating_sub(visible);
        for (y, row) in (rows.y..rows.bottom()).zip(first..) {
            let line = Rect { y, height: 1, width: rows.width - 1, ..rows };
            if mark == Some(row) {
                draw_mark(buf, line, state);
                continue;
            }
            let at = row - usize::from(mark.is_some_and(|mark| mark < row));
            let Some(entry) = state.log.newest(at) else { continue };
            draw_line(buf, line, entry, (names, theme));
            if at == self.at {
                text::put(buf, line.x, y, 1, "›", theme.strong());
                theme.select(buf, line);
                draw_chosen(buf, below, entry, theme);
            }
            state.hits.borrow_mut().add(line, Action::PickLine(at));
        }
        text::scrollbar(buf, rows, state.log.len() + usize::from(mark.is_some()), first, theme);
    }
}

/// Rows about the chosen event, below the list.
const BELOW: u16 = 4;

/// The list with its title, and the chosen event.
fn parts(body: Rect) -> [Rect; 2] {
    Layout::vertical([Constraint::Min(0), Constraint::Length(BELOW)]).areas(body)
}

/// The chosen event in full: its line may be cut.
fn draw_chosen(buf: &mut Buffer, area: Rect, entry: &Entry, theme: Theme) {
    text::rule(buf, area, &format!("{} {}", clock(entry.event.unix_ms), entry.name), theme);
    let room = usize::from(area.width).saturating_sub(3);
    for (y, line) in (area.y + 1..area.bottom()).zip(words::wrap(&what(&entry.event), room)) {
        text::left(buf, area.x + 1, y, area.width.saturating_sub(2), &line, Style::new());
    }
}

/// The place of the last event.
fn last(state: &State) -> usize {
    state.log.len().saturating_sub(1)
}

/// How many events are later than the moment of the past that is shown.
fn marked(state: &State) -> Option<usize> {
    state.moment.map(|moment| state.log.after(moment.unix_ms))
}

/// How many events there are, of what, and whether these are all.
fn title(state: &State) -> String {
    let log = &state.log;
    let (total, kept) = (log.total(), log.len() as u64);
    let order = if kept < total {
        format!("the newest {} of them", words::grouped(kept))
    } else {
        "the newest first".to_owned()
    };
    let of = match (state.options.is_replay, log.is_whole()) {
        (false, _) => "since the start",
        (true, true) => "in the recording",
        (true, false) => {
            return format!("Events: {} until {} UTC, reading on", words::grouped(total), clock(log.read()));
        }
    };
    format!("Events: {} {of}, {order}; times are UTC", words::grouped(total))
}

/// The time of day.
fn clock(unix_ms: u64) -> String {
    words::utc(unix_ms)[11..19].to_owned()
}

/// The moment that is shown, between what came before and after.
fn draw_mark(buf: &mut Buffer, line: Rect, state: &State) {
    let Some(moment) = state.moment else { return };
    let words = format!("{} ◀ shown ", clock(moment.unix_ms));
    text::put(buf, line.x + 1, line.y, line.width - 1, &words, state.theme.title());
    let x = line.x + 1 + words::width(&words) as u16;
    let rest = line.right().saturating_sub(x);
    text::put(buf, x, line.y, rest, &"─".repeat(rest.into()), state.theme.label());
}

/// Columns for the names of listeners: as many as the widest takes, up to nearly half of the line.
fn names_width(state: &State, width: u16) -> u16 {
    let names = (0..state.log.len().min(MEASURED)).filter_map(|at| state.log.newest(at));
    let widest = names.map(|entry| words::width(&entry.name)).max().unwrap_or(0);
    (widest as u16).clamp(24, 44.min(width * 2 / 5))
}

fn draw_line(buf: &mut Buffer, line: Rect, entry: &Entry, (who, theme): (u16, Theme)) {
    let Event { unix_ms, happening, finding, .. } = &entry.event;
    let severity = finding.as_ref().map(|episode| episode.severity).filter(|_| *happening != Happening::Ended);
    let style = severity.map_or(theme.label(), |severity| theme.severity(severity));
    let mark = match severity {
        Some(severity) => words::severity_mark(severity),
        None => match happening {
            Happening::Marked => MARK,
            Happening::Opened => "+",
            _ => "-",
        },
    };
    let style = if *happening == Happening::Marked { theme.title() } else { style };
    text::put(buf, line.x + 1, line.y, 8, &clock(*unix_ms), theme.label());
    text::put(buf, line.x + 10, line.y, 1, mark, style);
    text::left(buf, line.x + 12, line.y, who, &entry.name, Style::new());
    let x = line.x + 13 + who;
    text::left(buf, x, line.y, line.right().saturating_sub(x), &what(&entry.event), style);
}

/// What happened, in words.
fn what(event: &Event) -> String {
    if let Some(mark) = &event.mark {
        return words::clean(mark);
    }
    let Some(episode) = &event.finding else {
        return if event.happening == Happening::Opened { "began to listen" } else { "stopped listening" }.to_owned();
    };
    let name = episode.id.replace('_', " ");
    let summary = words::clean(&episode.summary);
    match event.happening {
        Happening::Ended => {
            let lasted = event.unix_ms.saturating_sub(episode.since_unix_ms) * 1_000;
            let totals = &episode.totals;
            let count = |count: Option<u64>, what: &str| {
                count.filter(|n| *n > 0).map_or(String::new(), |n| format!(", {} {what}", words::grouped(n)))
            };
            format!(
                "{name} ended after {}{}{}, deepest {}",
                words::duration(lasted),
                count(totals.refused, "refused"),
                count(totals.accepted, "accepted"),
                totals.deepest
            )
        }
        Happening::Worsened => format!("{name} worsened to {}: {summary}", episode.severity.name()),
        _ if episode.severity == Severity::Info => format!("{name} began: {summary}"),
        _ => format!("{name} began, {}: {summary}", episode.severity.name()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use listentop_model::{fixtures, tracker::Tracker};

    use crate::dashboard::{Action, App, DashboardOptions, frame::picture};

    #[test]
    fn what_begins_and_ends_is_listed_the_newest_first() {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        let mut app = App::new(DashboardOptions::default());
        app.update(Action::Resize(160, 40));
        app.set_model(Arc::new(tracker.model().clone()));
        app.update(Action::Show("events"));
        assert!(picture(&app).contains("Nothing began or ended"), "{}", picture(&app));
        for sample in &samples[1..] {
            tracker.push(sample);
            app.set_model(Arc::new(tracker.model().clone()));
        }
        let text = picture(&app);
        assert!(text.contains("accept queue overflow began, critical: The accept queue"), "{text}");
        // It has stopped: 20 s later the episode has ended, and the listener closes.
        let mut model = tracker.model().clone();
        model.interval.seconds += 20.0;
        model.listeners[0].findings.clear();
        model.listeners[0].closed = true;
        app.set_model(Arc::new(model));
        let text = picture(&app);
        let newest = text.lines().position(|line| line.contains("stopped listening")).expect(&text);
        let ended = text.lines().position(|line| line.contains("accept queue overflow ended after")).expect(&text);
        let began = text.lines().position(|line| line.contains("accept queue overflow began")).expect(&text);
        assert!(newest < began && ended < began, "{text}");
        assert!(text.contains("refused") && text.contains("deepest 129"), "{text}");
        // The listener is hidden now.
        app.update(Action::Open);
        assert!(picture(&app).contains("this listener is hidden"), "{}", picture(&app));
    }

    #[test]
    fn the_chosen_event_stays_while_others_come() {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        let mut app = App::new(DashboardOptions::default());
        for sample in &samples[1..] {
            tracker.push(sample);
            app.set_model(Arc::new(tracker.model().clone()));
        }
        app.update(Action::Show("events"));
        app.update(Action::Last);
        let chosen = |app: &App| picture(app).lines().find(|line| line.starts_with('›')).map(str::to_owned);
        let before = chosen(&app);
        assert!(before.is_some());
        let mut model = tracker.model().clone();
        model.listeners[0].closed = true;
        model.interval.seconds += 1.0;
        app.set_model(Arc::new(model));
        assert_eq!(chosen(&app), before);
    }
}
