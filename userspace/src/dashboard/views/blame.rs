//! Queue-wait blame, live: while connections waited for the selected listener, what did its acceptors do? They are
//! watched while this view is on the screen.

mod flame;

use crossterm::event::KeyCode;
use listentop_model::{
    blame::{Blamed, Doing, Place, share, thread_name},
    model::{Model, Severity},
    words::{self, precise_duration},
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
};

use self::flame::{Flame, Placed, way_to_telling};
use super::overview::FILTER_KEYS;
use crate::dashboard::{
    BlameWanted,
    action::Action,
    keymap::{Binding, Key::Ctrl, Key::Plain, Others, Scope, bind, char},
    rows::RowId,
    state::State,
    theme::Theme,
    view::{Declaration, Entries, Outcome, View},
    widgets::text,
};

pub(super) static VIEW: Declaration = Declaration {
    name: "blame",
    tab: Some("Blame"),
    key: Some(bind(
        &[char('8')],
        Action::Show("blame"),
        "",
        "blame: what the acceptors of the selected listener do while connections wait; watched while it is open",
    )),
    over: false,
    scopes: &[&KEYS, &FILTER_KEYS],
    explained: ("In the view of blame", explained),
    lists_connections: false,
    needs_model: true,
    make: || Box::new(BlameView::default()),
};

static KEYS: Scope = Scope { title: "Keys in the view of blame", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc)], Action::Back, "back", "back; the acceptors are not watched any more"),
    bind(&[Plain(KeyCode::Enter)], Action::Open, "zoom", "the chosen frame takes the whole width"),
    bind(&[Plain(KeyCode::Backspace)], Action::ZoomOut, "", "out again; back, if nothing is zoomed"),
    bind(&[Plain(KeyCode::Tab)], Action::NextSection, "", "choose the next place of the list"),
    bind(&[Plain(KeyCode::BackTab)], Action::PreviousSection, "", "choose the place before"),
    bind(&[Plain(KeyCode::Left), char('h')], Action::FrameBefore, "", "the frame at the left"),
    bind(&[Plain(KeyCode::Right), char('l')], Action::FrameAfter, "", "the frame at the right"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "", "the frame that called it"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "the frame that it called, which most was waited for"),
    bind(&[Plain(KeyCode::PageUp), Ctrl('b')], Action::PageUp, "", "five frames up"),
    bind(&[Plain(KeyCode::PageDown), Ctrl('f')], Action::PageDown, "", "five frames down"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "to all waiting"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "to the innermost frame"),
    bind(&[char('/')], Action::FilterStart, "search", "search as you type: functions, files, threads, states"),
    bind(&[char('>'), char('.')], Action::SortNext, "", "the next frame that was found"),
    bind(&[char('<'), char(',')], Action::SortPrevious, "", "the frame before that was found"),
    bind(&[char('x')], Action::FilterClear, "", "clear the search"),
    bind(&[char('a')], Action::Anew, "anew", "begin anew: what was charged so far is forgotten"),
    bind(&[char('n')], Action::NextListener, "", "the next listener, in the order of the overview"),
    bind(&[char('b')], Action::PreviousListener, "", "the listener before"),
];

/// What the help says of it.
fn explained() -> Entries {
    vec![
        ("running", "An acceptor was on a CPU: the frames are the code that it ran, by samples."),
        ("runnable", "It waited for a CPU: others ran, or a CPU limit was used up."),
        ("asleep", "It slept: the frames are the calls in which it left the CPU."),
        ("nobody", "There was no acceptor: none has accepted since the view was opened, and none waits."),
        ("flame graph", "What is wide was waited for long, summed over connections: it is not how long it ran."),
    ]
}

/// Frames that a page key goes over.
const PAGE: usize = 5;

/// The list of places and the flame graph, and where the user is in it.
#[derive(Debug, Default)]
struct BlameView {
    /// What it is about.
    id: Option<RowId>,
    /// The listeners of that: one, or the shards of a group.
    listeners: Vec<u64>,
    /// How often it was begun anew.
    anew: u64,
    blamed: Option<Blamed>,
    flame: Flame,
    /// The frame that takes the whole width, by labels.
    zoomed: Vec<String>,
    /// The chosen frame; `None`: that of the most blamed place, whichever that is.
    chosen: Option<Vec<String>>,
    sought: String,
    typing: bool,
}

/// Where the parts of the screen are.
struct Parts {
    title: Rect,
    states: Rect,
    heads: Rect,
    places: Rect,
    rule: Rect,
    flame: Rect,
    below: Rect,
}

impl Parts {
    fn of(body: Rect) -> Self {
        let places = (body.height / 6).clamp(3, 8);
        let [title, states, heads, places, rule, flame, below] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(2),
            Constraint::Length(1),
            Constraint::Length(places),
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(2),
        ])
        .areas(body);
        Self { title, states, heads, places, rule, flame: inner(flame), below }
    }
}

fn inner(area: Rect) -> Rect {
    Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area }
}

impl BlameView {
    fn follow_selection(&mut self, state: &State) {
        let id = state.selected_id().or(self.id);
        if id != self.id {
            self.id = id;
            self.zoomed.clear();
            self.chosen = None;
        }
        self.arrange(state);
    }

    /// The chosen frame, or that of the worst place.
    fn at(&self) -> usize {
        if let Some(labels) = &self.chosen {
            return self.flame.find(labels);
        }
        let worst = self.blamed.as_ref().and_then(|blamed| Some(way_to_telling(blamed.places().first()?.most)));
        self.flame.find(&worst.unwrap_or_default())
    }

    fn zoom(&self) -> usize {
        self.flame.find(&self.zoomed)
    }

    /// Chooses a frame. What is not within the zoomed one ends the zoom.
    fn choose(&mut self, node: usize) {
        if !self.flame.is_within(node, self.zoom()) {
            self.zoomed.clear();
        }
        self.chosen = Some(self.flame.labels(node));
    }

    fn go_up(&mut self, frames: usize) {
        let zoom = self.zoom();
        let mut at = self.at();
        for _ in 0..frames {
            match self.flame.nodes.get(at).and_then(|node| node.parent) {
                Some(parent) if at != zoom => at = parent,
                _ => break,
            }
        }
        self.choose(at);
    }

    fn go_down(&mut self, frames: usize) {
        let mut at = self.at();
        for _ in 0..frames {
            match self.flame.nodes.get(at).and_then(|node| node.children.first()) {
                Some(&child) => at = child,
                None => break,
            }
        }
        self.choose(at);
    }

    /// To the neighbour in the same row.
    fn go_aside(&mut self, forwards: bool, width: u16) {
        let at = self.at();
        let placed = self.flame.place(self.zoom(), width);
        let Some(row) = placed.iter().find(|place| place.node == at).map(|place| place.row) else { return };
        let mut row: Vec<&Placed> = placed.iter().filter(|place| place.row == row).collect();
        row.sort_by_key(|place| place.x);
        let here = row.iter().position(|place| place.node == at).unwrap_or(0);
        let there = if forwards { here + 1 } else { here.wrapping_sub(1) };
        if let Some(place) = row.get(there) {
            self.choose(place.node);
        }
    }

    /// To the next frame that was found, and from the last to the first; or backwards.
    fn go_to_match(&mut self, forwards: bool) {
        let (at, matches) = (self.at(), self.flame.matches(&self.sought));
        let next = if forwards {
            matches.iter().find(|&&node| node > at).or(matches.first())
        } else {
            matches.iter().rfind(|&&node| node < at).or(matches.last())
        };
        if let Some(&node) = next {
            self.choose(node);
        }
    }

    /// Chooses a place of the list: `step` further than the one that is chosen, and from the last to the first.
    fn go_to_place(&mut self, step: isize) {
        let Some(blamed) = &self.blamed else { return };
        let places = blamed.places();
        if places.is_empty() {
            return;
        }
        let here = self.place_of(&places);
        let to = here.map_or(0, |here| (here as isize + step).rem_euclid(places.len() as isize) as usize);
        let node = self.flame.find(&way_to_telling(places[to].most));
        self.choose(node);
    }

    /// The place of the list that the chosen frame is.
    fn place_of(&self, places: &[Place<'_>]) -> Option<usize> {
        let at = self.at();
        places.iter().position(|place| self.flame.find(&way_to_telling(place.most)) == at)
    }

    fn search(&mut self, edit: impl FnOnce(&mut String)) {
        edit(&mut self.sought);
        if let Some(&first) = self.flame.matches(&self.sought).first() {
            self.choose(first);
        }
    }

    /// What an action can change on the screen.
    fn visible(&self) -> impl PartialEq + use<> {
        (self.zoomed.clone(), self.chosen.clone(), self.sought.clone(), self.typing, self.anew, self.id)
    }
}

impl View for BlameView {
    fn open(&mut self, state: &State) {
        (self.zoomed, self.chosen) = (Vec::new(), None);
        self.follow_selection(state);
    }

    fn arrange(&mut self, state: &State) {
        let Some(model) = state.model.as_deref() else { return };
        self.listeners = match self.id {
            Some(RowId::Listener(id)) => vec![id],
            Some(RowId::Group(id)) => {
                model.groups.iter().find(|group| group.id == id).map(|group| group.shards.clone()).unwrap_or_default()
            }
            None => Vec::new(),
        };
        self.blamed = model.blame.as_ref().and_then(|blame| blame.of(&self.listeners));
        self.flame = self.blamed.as_ref().map(Flame::new).unwrap_or_default();
    }

    fn blames(&self) -> BlameWanted {
        BlameWanted { listeners: self.listeners.clone(), anew: self.anew }
    }

    fn scope(&self, _: &State) -> &'static Scope {
        if self.typing { &FILTER_KEYS } else { &KEYS }
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let before = self.visible();
        let width = Parts::of(state.body()).flame.width;
        match action {
            Action::NextListener | Action::PreviousListener => {
                state.select_neighbour(if action == Action::NextListener { 1 } else { -1 });
                self.follow_selection(state);
            }
            Action::Anew => self.anew += 1,
            Action::Open => self.zoomed = self.flame.labels(self.at()),
            Action::PickLine(node) if node == self.at() => self.zoomed = self.flame.labels(node),
            Action::PickLine(node) => self.choose(node),
            Action::PickSection(place) => {
                let places = self.blamed.as_ref().map(Blamed::places).unwrap_or_default();
                if let Some(node) = places.get(place).map(|place| self.flame.find(&way_to_telling(place.most))) {
                    self.choose(node);
                }
            }
            Action::ZoomOut if self.zoom() == 0 => return Outcome::Back,
            Action::ZoomOut => _ = self.zoomed.pop(),
            Action::NextSection => self.go_to_place(1),
            Action::PreviousSection => self.go_to_place(-1),
            Action::FrameBefore => self.go_aside(false, width),
            Action::FrameAfter => self.go_aside(true, width),
            Action::Up | Action::ScrollUp => self.go_up(1),
            Action::Down | Action::ScrollDown => self.go_down(1),
            Action::PageUp => self.go_up(PAGE),
            Action::PageDown => self.go_down(PAGE),
            Action::First => self.choose(self.zoom()),
            Action::Last => self.go_down(usize::MAX),
            Action::SortNext => self.go_to_match(true),
            Action::SortPrevious => self.go_to_match(false),
            Action::FilterStart => self.typing = true,
            Action::FilterAccept => self.typing = false,
            Action::FilterInput(c) => self.search(|sought| sought.push(c)),
            Action::FilterErase => self.search(|sought| _ = sought.pop()),
            Action::FilterClear => {
                self.typing = false;
                self.sought.clear();
            }
            _ => {}
        }
        Outcome::changed_if(before != self.visible())
    }

    fn copies(&self, _: &State) -> Option<String> {
        self.blamed.as_ref().and_then(Blamed::sentence)
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let (Some(model), theme) = (model, state.theme) else { return };
        let parts = Parts::of(area);
        text::rule(buf, parts.title, &self.title(state), theme);
        let Some(blamed) = self.blamed.as_ref().filter(|blamed| blamed.total_ns() > 0) else {
            let room = usize::from(area.width).saturating_sub(2);
            let lines = words::wrap(&self.nothing(state, model), room);
            for (y, line) in (area.y + 2..area.bottom()).zip(lines) {
                text::left(buf, area.x + 1, y, area.width - 1, &line, theme.strong());
            }
            return;
        };
        draw_states(buf, inner(parts.states), blamed, theme);
        self.draw_places(buf, &parts, blamed, state);
        self.draw_rule(buf, parts.rule, theme);
        self.draw_flame(buf, parts.flame, state);
        self.draw_below(buf, parts.below, model, theme);
    }
}

impl BlameView {
    fn title(&self, state: &State) -> String {
        let Some(listener) = self.id.and_then(|id| state.listener(id)) else { return "Blame".to_owned() };
        let endpoint = words::listener_endpoint(&listener);
        let waited = self.blamed.as_ref().map_or(String::new(), |blamed| {
            let time = |ns: u64| precise_duration(ns / 1_000);
            format!(" · waited {} in {}", time(blamed.total_ns()), time(blamed.elapsed_ns()))
        });
        format!("Blame: {endpoint} · {}{waited}", words::process(&listener))
    }

    /// Why there is nothing to show.
    fn nothing(&self, state: &State, model: &Model) -> String {
        if self.id.and_then(|id| state.listener(id)).is_none_or(|listener| listener.closed) {
            return "This listener does not exist any more. Esc goes back.".to_owned();
        }
        let unavailable = model.blame.as_ref().and_then(|blame| blame.unavailable.as_deref());
        if let Some(reason) = unavailable {
            let remedy = state.options.notice.as_deref().map_or(String::new(), |notice| format!(" ({notice})"));
            let reason = words::clean(&format!("{reason}{remedy}"));
            return format!("unavailable: what acceptors do cannot be watched here: {reason}.");
        }
        match &self.blamed {
            Some(blamed) => {
                let time = precise_duration(blamed.elapsed_ns() / 1_000);
                format!("No connection has waited in {time}: nobody is to blame. What waits from now on is shown here.")
            }
            None if state.options.is_replay => {
                "The recording does not have what acceptors did here: a dashboard knows it while this view is open, or \
                 with --blame-on critical."
                    .to_owned()
            }
            None if state.is_past() => {
                "What acceptors do is watched while this view is open: it was not at that moment.".to_owned()
            }
            None if state.paused => "Paused: what acceptors do is shown when it goes on (p).".to_owned(),
            None => "Attaching the probes that watch its acceptors…".to_owned(),
        }
    }

    /// The most blamed places.
    fn draw_places(&self, buf: &mut Buffer, parts: &Parts, blamed: &Blamed, state: &State) {
        let theme = state.theme;
        let columns = format!("  {:>7}  {:>8}  {:<8}  {:<18}  WHERE", "SHARE", "WAIT", "STATE", "THREAD");
        text::left(buf, parts.heads.x, parts.heads.y, parts.heads.width, &columns, theme.label());
        let places = blamed.places();
        let chosen = self.place_of(&places);
        let visible = usize::from(parts.places.height);
        let first = chosen.map_or(0, |chosen| (chosen + 1).saturating_sub(visible));
        for (y, (at, place)) in (parts.places.y..parts.places.bottom()).zip(places.iter().enumerate().skip(first)) {
            let line = Rect { y, height: 1, width: parts.places.width.saturating_sub(1), ..parts.places };
            let doing = place.most.doing;
            let share = percent(share(place.wait_ns, blamed.total_ns()));
            let wait = precise_duration(place.wait_ns / 1_000);
            let thread = words::fit(&words::clean(&thread_name(place.most.thread.as_ref())), 18);
            let spans = vec![
                Span::raw(format!("{:2}{share:>7}  {wait:>8}  ", if chosen == Some(at) { "›" } else { "" })),
                Span::styled(format!("{:<8}  ", doing.name()), style(Some(doing), theme)),
                Span::raw(format!("{thread}{}  ", " ".repeat(18 - words::width(&thread).min(18)))),
                Span::raw(words::clean(&place.way)),
            ];
            text::line(buf, line, Line::from(spans));
            text::highlight(buf, line, std::iter::once(&*self.sought.to_lowercase()), theme.matched());
            if chosen == Some(at) {
                theme.select(buf, line);
            }
            state.hits.borrow_mut().add(line, Action::PickSection(at));
        }
        text::scrollbar(buf, parts.places, places.len(), first, theme);
    }

    /// What the flame graph shows: what is zoomed into, and what was found.
    fn draw_rule(&self, buf: &mut Buffer, area: Rect, theme: Theme) {
        let mut title = match self.zoomed.last() {
            None => "Flame graph: what is wide was waited for long".to_owned(),
            Some(label) => {
                format!("Flame graph of {label}, {} of the wait (⌫ out)", percent(self.flame.share(self.zoom())))
            }
        };
        if self.typing || !self.sought.is_empty() {
            let found = self.flame.matches(&self.sought);
            let share = percent(self.flame.share_within(&found));
            let count = words::plural(found.len() as u64, "frame");
            let (cursor, clear) = if self.typing { ("▏", "") } else { ("", " (> next, x clears)") };
            title = format!("/{}{cursor} {count}, {share} of the wait{clear}", words::clean(&self.sought));
        }
        text::rule(buf, area, &title, theme);
    }

    fn draw_flame(&self, buf: &mut Buffer, area: Rect, state: &State) {
        let theme = state.theme;
        let (at, zoom) = (self.at(), self.zoom());
        let placed = self.flame.place(zoom, area.width);
        let found = self.flame.matches(&self.sought);
        let height = usize::from(area.height);
        let last = placed.iter().map(|place| place.row).max().unwrap_or(0);
        let depth = |node: usize| self.flame.nodes.get(node).map_or(0, |node| node.depth);
        // The chosen frame stays in the middle of what does not fit.
        let row = depth(at).saturating_sub(depth(zoom));
        let scroll = row.saturating_sub(height / 2).min((last + 1).saturating_sub(height));
        for place in placed.iter().filter(|place| (scroll..scroll + height).contains(&place.row)) {
            let y = area.y + (place.row - scroll) as u16;
            let cells = Rect { x: area.x + place.x, y, width: place.width, height: 1 };
            let node = &self.flame.nodes[place.node];
            let style = style(node.doing, theme);
            // A frame ends with a blank, so that neighbours are told apart.
            let width = usize::from(place.width);
            let label = if width >= 3 { words::fit(&node.label, width - 1) } else { String::new() };
            let fill = width.saturating_sub(words::width(&label)).saturating_sub(usize::from(width > 1));
            text::put(buf, cells.x, y, place.width, &label, style);
            let from = words::width(&label) as u16;
            text::put(buf, cells.x + from, y, place.width - from, &glyph(node.doing).repeat(fill), style);
            if found.contains(&place.node) {
                for x in cells.x..cells.right() {
                    buf[(x, y)].set_style(theme.matched());
                }
            }
            if place.node == at {
                theme.select(buf, cells);
            }
            state.hits.borrow_mut().add(cells, Action::PickLine(place.node));
        }
        let bar = Rect { width: area.width + 1, ..area };
        text::scrollbar(buf, bar, last + 1, scroll, theme);
    }

    /// The chosen frame in full, and what could not be seen.
    fn draw_below(&self, buf: &mut Buffer, area: Rect, model: &Model, theme: Theme) {
        let at = self.at();
        let Some(node) = self.flame.nodes.get(at) else { return };
        let place = if node.place.is_empty() { String::new() } else { format!(" ({})", node.place) };
        let doing = node.doing.map_or("", Doing::name);
        let wait = precise_duration(node.wait_ns / 1_000);
        let what = if node.label == doing { String::new() } else { format!("{doing} ") };
        let facts = format!("{what}{wait}, {} of the wait", percent(self.flame.share(at)));
        // Its name may be long: of it the end is left out, not of the figures.
        let room = usize::from(area.width).saturating_sub(2);
        let name = words::fit(&format!("{}{place}", node.label), room.saturating_sub(words::width(&facts) + 2));
        let line =
            Line::from(vec![Span::raw(" "), Span::styled(name, theme.strong()), Span::raw(": "), Span::raw(facts)]);
        text::line(buf, area, line);
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        let remarks = model.blame.as_ref().map(|blame| blame.remarks.join("; ")).unwrap_or_default();
        if !remarks.is_empty() {
            let note = format!(" Note: {}", words::clean(&remarks));
            text::left(buf, below.x, below.y, below.width, &note, theme.warning());
        }
    }
}

/// The shares of the states in words, and as a bar.
fn draw_states(buf: &mut Buffer, area: Rect, blamed: &Blamed, theme: Theme) {
    let (states, total_ns) = (blamed.states(), blamed.total_ns());
    let mut spans = Vec::new();
    for doing in Doing::ALL {
        let share = percent(share(states.wait_ns(doing), total_ns));
        spans.push(Span::styled(format!("{} {}", glyph(Some(doing)), doing.name()), style(Some(doing), theme)));
        spans.push(Span::raw(format!(" {share}   ")));
    }
    text::line(buf, area, Line::from(spans));
    let (mut before_ns, y) = (0, area.y + 1);
    let column = |ns: u64| (share(ns, total_ns) * f64::from(area.width)).round() as u16;
    for doing in Doing::ALL.into_iter().filter(|_| area.height > 1) {
        let from = column(before_ns);
        before_ns += states.wait_ns(doing);
        let width = column(before_ns).min(area.width).saturating_sub(from);
        let bar = glyph(Some(doing)).repeat(width.into());
        text::put(buf, area.x + from, y, width, &bar, style(Some(doing), theme));
    }
}

/// What a state's bars and frames are filled with: states differ by more than their colours.
const fn glyph(doing: Option<Doing>) -> &'static str {
    match doing {
        Some(Doing::Running) => "█",
        Some(Doing::Runnable) => "▒",
        Some(Doing::Asleep) => "░",
        Some(Doing::Nobody) => "·",
        None => "─",
    }
}

fn style(doing: Option<Doing>, theme: Theme) -> Style {
    match doing {
        Some(Doing::Running) => theme.flow(),
        Some(Doing::Runnable) => theme.warning(),
        Some(Doing::Asleep) => theme.severity(Severity::Info),
        Some(Doing::Nobody) => theme.critical(),
        None => theme.label(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests;
