//! Every finding on this machine, the worst first, with its evidence.

use std::cmp::Reverse;

use crossterm::event::KeyCode;
use listentop_model::{
    model::{Finding, ListenerModel, Model, depth},
    words::{
        self,
        verdict::{self, Harm},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::Line,
};

use super::listener::{EXPECTED, evidence};
use crate::dashboard::{
    action::Action,
    keymap::{Binding, Key::Ctrl, Key::Plain, Others, Scope, bind, char},
    state::State,
    view::{Declaration, Outcome, View},
    widgets::text,
};

pub(super) static VIEW: Declaration = Declaration {
    name: "findings",
    tab: Some("Findings"),
    key: Some(bind(&[char('5')], Action::Show("findings"), "", "all findings, with their evidence")),
    over: false,
    scopes: &[&LIST],
    explained: ("In the list of findings", || {
        vec![("✓", "In a lab: the lesson is about this finding. It is expected to be there.")]
    }),
    lists_connections: false,
    needs_model: true,
    make: || Box::new(Findings::default()),
};

/// The keys of a list whose lines are about listeners.
pub(super) static LIST: Scope = Scope { title: "Keys in a list", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back"),
    bind(&[Plain(KeyCode::Enter)], Action::Open, "open", "open the listener that the line is about"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "", "one line up"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "one line down"),
    bind(&[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "one page up"),
    bind(&[Plain(KeyCode::PageDown), Ctrl('f')], Action::PageDown, "", "one page down"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "first line"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "last line"),
];

/// A finding: its listener's place in the model, and its own place there.
type Place = (usize, usize);

/// The list, and where the user is in it.
#[derive(Debug, Default)]
struct Findings {
    /// In order.
    places: Vec<Place>,
    /// The finding that is chosen, by the listener's id and its name.
    chosen: Option<(u64, &'static str)>,
    at: usize,
}

impl Findings {
    fn choose(&mut self, at: usize, state: &State) {
        self.at = at.min(self.places.len().saturating_sub(1));
        let found = self.places.get(self.at).zip(state.model.as_deref());
        self.chosen = found.and_then(|(place, model)| of(*place, model)).map(|(l, finding)| (l.id, finding.id));
    }
}

/// The finding at a place, with its listener.
fn of((listener, finding): Place, model: &Model) -> Option<(&ListenerModel, &Finding)> {
    let listener = model.listeners.get(listener)?;
    Some((listener, listener.findings.get(finding)?))
}

/// Rows of the list, and of what is known of the chosen line below it.
fn parts(body: Rect) -> [Rect; 2] {
    let below = (body.height / 2).clamp(7, 16);
    Layout::vertical([Constraint::Min(0), Constraint::Length(below)]).areas(body)
}

impl View for Findings {
    /// Follows the model, and stays with the finding that is chosen.
    fn arrange(&mut self, state: &State) {
        let Some(model) = state.model.as_deref() else { return };
        self.places.clear();
        for (at, listener) in model.listeners.iter().enumerate().filter(|(_, l)| !l.findings.is_empty()) {
            self.places.extend((0..listener.findings.len()).map(|finding| (at, finding)));
        }
        // What holds before what has passed, and what is worse before the rest; consequences stay with their cause.
        let rank = |&(listener, finding): &Place| {
            let findings = &model.listeners[listener].findings;
            let root = (0..=finding).rev().find(|&at| findings[at].follows_from.is_none()).unwrap_or(finding);
            let block = || findings[root..].iter().enumerate().take_while(|(i, f)| *i == 0 || f.follows_from.is_some());
            let holds = block().any(|(_, f)| f.until_unix_ms.is_none());
            let worst = block().map(|(_, f)| f.severity).max();
            (Reverse((holds, worst)), listener, root, finding)
        };
        self.places.sort_by_cached_key(rank);
        let chosen = |place: &Place| of(*place, model).map(|(l, finding)| (l.id, finding.id)) == self.chosen;
        let at = self.chosen.and_then(|_| self.places.iter().position(chosen)).unwrap_or(self.at);
        self.at = at.min(self.places.len().saturating_sub(1));
    }

    fn scope(&self, _: &State) -> &'static Scope {
        &LIST
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let before = self.at;
        match action {
            Action::Open => return self.open_chosen(state),
            Action::PickLine(at) if at == self.at && self.chosen.is_some() => return self.open_chosen(state),
            Action::PickLine(at) => self.choose(at, state),
            movement => {
                let page = usize::from(parts(state.body())[0].height).saturating_sub(1);
                let last = self.places.len().saturating_sub(1);
                self.choose(movement.travel(self.at, page, last), state);
            }
        }
        Outcome::changed_if(before != self.at)
    }

    fn copies(&self, state: &State) -> Option<String> {
        let model = state.model.as_deref()?;
        let (listener, finding) = of(*self.places.get(self.at)?, model)?;
        let command = verdict::command(&finding.advice).map(words::clean);
        Some(command.unwrap_or_else(|| {
            let endpoint = words::numbered_endpoint(model, listener);
            format!("{endpoint} {}: {}", words::process(listener), words::clean(&finding.summary))
        }))
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let (Some(model), theme) = (model, state.theme) else { return };
        let [list, below] = parts(area);
        text::rule(buf, list, &format!("Findings: {}", words::grouped(self.places.len() as u64)), theme);
        let rows = Rect { y: list.y + 1, height: list.height.saturating_sub(1), ..list };
        if self.places.is_empty() {
            let nothing = if state.verdict.harm > Harm::None {
                // The figures show more than the findings so far.
                format!("No finding holds. The figures show: {}.", state.verdict.text)
            } else {
                "No findings: no measure shows clients that wait too long or are refused.".to_owned()
            };
            let room = usize::from(rows.width).saturating_sub(2);
            for (y, line) in (rows.y + 1..rows.bottom()).zip(words::wrap(&nothing, room)) {
                text::left(buf, rows.x + 1, y, rows.width - 1, &line, theme.strong());
            }
            return;
        }
        let visible = usize::from(rows.height);
        let first = (self.at + 1).saturating_sub(visible);
        for (y, (at, place)) in (rows.y..rows.bottom()).zip(self.places.iter().enumerate().skip(first)) {
            let Some((listener, finding)) = of(*place, model) else { continue };
            let line = Rect { y, height: 1, width: rows.width - 1, ..rows };
            draw_line(buf, line, model, (listener, place.1), state);
            if at == self.at {
                text::put(buf, line.x, y, 1, "›", theme.strong());
                theme.select(buf, line);
                draw_chosen(buf, below, model, (listener, finding), state);
            }
            state.hits.borrow_mut().add(line, Action::PickLine(at));
        }
        text::scrollbar(buf, rows, self.places.len(), first, theme);
    }
}

impl Findings {
    fn open_chosen(&mut self, state: &mut State) -> Outcome {
        self.choose(self.at, state);
        match self.chosen {
            Some((listener, _)) if state.select_listener(listener) => Outcome::Show("listener"),
            Some(_) => {
                state.message = Some("this listener is hidden: by the filter, or because it has closed (x)".to_owned());
                Outcome::Changed
            }
            None => Outcome::Unchanged,
        }
    }
}

/// One finding in a line: how bad, where, what.
fn draw_line(buf: &mut Buffer, line: Rect, model: &Model, (listener, at): (&ListenerModel, usize), state: &State) {
    let theme = state.theme;
    let Some(finding) = listener.findings.get(at) else { return };
    let style = if finding.until_unix_ms.is_some() { theme.label() } else { theme.severity(finding.severity) };
    let margin = "  ".repeat(depth(&listener.findings, at));
    let where_width = (line.width / 3).clamp(24, 44);
    let endpoint = words::numbered_endpoint(model, listener);
    let room = usize::from(where_width).saturating_sub(words::width(&endpoint) + 1);
    let name = format!("{endpoint} {}", words::process_within(listener, room));
    text::put(buf, line.x + 1, line.y, 1, words::severity_mark(finding.severity), style);
    text::left(buf, line.x + 3, line.y, where_width, &words::fit(&name, where_width.into()), Style::new());
    let passed = if finding.until_unix_ms.is_some() { "(passed) " } else { "" };
    let expected = if state.expects(finding) { "✓" } else { "" };
    let what =
        format!("{margin}{passed}{expected}{}: {}", finding.id.replace('_', " "), words::clean(&finding.summary));
    let x = line.x + 4 + where_width;
    text::left(buf, x, line.y, line.right().saturating_sub(x), &what, style);
}

/// The chosen finding: what was seen, by which figures, and what to do.
fn draw_chosen(
    buf: &mut Buffer,
    area: Rect,
    model: &Model,
    (listener, finding): (&ListenerModel, &Finding),
    state: &State,
) {
    let theme = state.theme;
    let title = format!(
        "{} {} · {}{}{}",
        words::numbered_endpoint(model, listener),
        words::process(listener),
        finding.severity.name(),
        if state.expects(finding) { EXPECTED } else { "" },
        words::finding_time(finding)
    );
    text::rule(buf, area, &title, theme);
    let room = usize::from(area.width).saturating_sub(3);
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut add = |text: &str, style: Style| {
        lines.extend(words::wrap(text, room).into_iter().map(|line| Line::styled(format!(" {line}"), style)));
    };
    add(&words::clean(&finding.summary), theme.severity(finding.severity));
    if let Some(command) = verdict::command(&finding.advice) {
        add(&format!("y copies: {}", words::clean(command)), theme.strong());
    }
    add(&evidence(finding), theme.label());
    add(&words::clean(&finding.advice), Style::new());
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        text::line(buf, Rect { y, height: 1, ..area }, line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use listentop_model::{fixtures, sample::Sample, tracker::Tracker};

    use crate::dashboard::{Action, App, DashboardOptions, frame::picture};

    fn model(samples: &[Sample]) -> listentop_model::model::Model {
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        tracker.model().clone()
    }

    #[test]
    fn the_worst_is_first_with_its_evidence_and_enter_opens_it() {
        let mut machine = model(&fixtures::quiet());
        let mut passed = model(&fixtures::overflow()).listeners[0].findings.clone();
        passed.iter_mut().for_each(|finding| finding.until_unix_ms = Some(finding.since_unix_ms + 9));
        machine.listeners[0].findings = passed;
        machine.listeners.push(model(&fixtures::overflow()).listeners[0].clone());
        let mut app = App::new(DashboardOptions::default());
        app.set_model(Arc::new(machine));
        app.update(Action::Show("findings"));
        let text = picture(&app);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("accept queue overflow:")).collect();
        assert!(
            lines[0].contains("0.0.0.0:8080") && lines[1].contains(":22") && lines[1].contains("(passed)"),
            "{text}"
        );
        assert!(text.contains("on_syn 420"), "{text}");
        app.update(Action::Last);
        assert!(picture(&app).contains("── 0.0.0.0:22"), "{}", picture(&app));
        // What is copied is of the chosen line, whichever row the overview has selected.
        app.update(Action::Copy);
        assert!(picture(&app).contains("copied: 0.0.0.0:22 sshd[801]: "), "{}", picture(&app));
        app.update(Action::First);
        app.update(Action::Open);
        assert!(picture(&app).contains("backlog 128") && picture(&app).contains("[Listener]"), "{}", picture(&app));
        // Back in the list.
        app.update(Action::Back);
        assert!(picture(&app).contains("[Findings]"));
    }

    /// Clients wait, and no finding holds yet: no view denies it.
    #[test]
    fn what_the_figures_show_without_a_finding_is_everywhere() {
        let mut machine = model(&fixtures::quiet());
        let now = &mut machine.listeners[1].now;
        (now.accept_depth, now.oldest_waiting_us) = (288, Some(5_800_000));
        let mut app = App::new(DashboardOptions::default());
        app.update(Action::Resize(200, 60));
        app.set_model(Arc::new(machine));
        let shown = |app: &mut App, view| {
            app.update(Action::Show(view));
            picture(app)
        };
        let says = "288 connections wait, the oldest for 5.8 s";
        let overview = shown(&mut app, "overview");
        assert!(overview.contains("1 of 3 listeners keeps clients waiting: "), "{overview}");
        // The verdict, the row, which is the first, and the facts below it.
        assert_eq!(overview.matches(says).count(), 3, "{overview}");
        let row = overview.lines().skip_while(|line| !line.contains("LISTENER")).nth(1).unwrap_or_default();
        assert!(row.contains("! ") && row.contains(says), "{row}");
        let findings = shown(&mut app, "findings");
        assert!(findings.contains("No finding holds. The figures show: 1 of 3"), "{findings}");
        assert!(shown(&mut app, "listener").matches(says).count() >= 2);
        app.update(Action::Show("overview"));
        app.update(Action::FilterStart);
        "critical".chars().for_each(|c| _ = app.update(Action::FilterInput(c)));
        let filtered = picture(&app);
        assert!(filtered.contains("1 of 3 listeners ") && filtered.contains(says), "{filtered}");
    }

    #[test]
    fn a_machine_without_findings_says_so() {
        let mut app = App::new(DashboardOptions::default());
        app.set_model(Arc::new(model(&fixtures::quiet())));
        app.update(Action::Show("findings"));
        assert!(picture(&app).contains("No findings: no measure shows"), "{}", picture(&app));
        app.update(Action::Open);
        assert!(picture(&app).contains("[Findings]"));
    }
}
