//! One listener: the pipeline, and below it findings, distributions, graphs and threads: as many as fit, the others by
//! tab.

mod distributions;
mod explained;
mod findings;
mod over_time;
mod threads;

pub(super) use self::findings::{EXPECTED, evidence};

use crossterm::event::KeyCode;
use listentop_model::{
    model::{ListenerModel, Model, ThreadModel},
    words::{self, verdict},
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use crate::dashboard::{
    action::Action,
    keymap::{Binding, Key::Plain, Others, Scope, bind, char},
    rows::{Row, RowId},
    state::State,
    view::{Declaration, Outcome, View},
    widgets::{pipeline, text},
};

pub(super) static VIEW: Declaration = Declaration {
    name: "listener",
    tab: Some("Listener"),
    key: Some(bind(&[char('2')], Action::Show("listener"), "", "the selected listener")),
    over: false,
    scopes: &[&KEYS],
    explained: ("In the listener view", || explained::EXPLAINED.to_vec()),
    lists_connections: false,
    needs_model: true,
    make: || Box::new(Listener::default()),
};

static KEYS: Scope = Scope { title: "Keys in the listener view", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back to the overview"),
    bind(&[char('n')], Action::NextListener, "next", "the next listener, in the order of the overview"),
    bind(&[char('b')], Action::PreviousListener, "", "the listener before"),
    bind(
        &[Plain(KeyCode::Tab)],
        Action::NextSection,
        "section",
        "the next section: findings, distributions, over time, threads",
    ),
    bind(&[Plain(KeyCode::BackTab)], Action::PreviousSection, "", "the section before"),
    bind(&[Plain(KeyCode::Up), char('k')], Action::Up, "", "scroll the section up; choose the distribution before"),
    bind(&[Plain(KeyCode::Down), char('j')], Action::Down, "", "scroll the section down; choose the next distribution"),
    bind(&[Plain(KeyCode::PageUp)], Action::PageUp, "", "scroll the section up by a page"),
    bind(&[Plain(KeyCode::PageDown)], Action::PageDown, "", "scroll the section down by a page"),
    bind(&[Plain(KeyCode::Home), char('g')], Action::First, "", "top of the section"),
    bind(&[Plain(KeyCode::End), char('G')], Action::Last, "", "end of the section"),
    bind(&[char('i')], Action::ToggleSpan, "span", "distributions over the whole interval, or over the recent span"),
];

/// The parts of the view below the pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Section {
    /// Pattern and findings.
    #[default]
    Findings,
    /// Distributions.
    Distributions,
    /// Graphs over time.
    OverTime,
    /// Threads.
    Threads,
}

impl Section {
    /// In the order of the tabs.
    const ALL: [Self; 4] = [Self::Findings, Self::Distributions, Self::OverTime, Self::Threads];

    /// Its tab.
    const fn title(self) -> &'static str {
        match self {
            Self::Findings => "Findings",
            Self::Distributions => "Distributions",
            Self::OverTime => "Over time",
            Self::Threads => "Threads",
        }
    }
}

/// The listener view.
#[derive(Debug, Clone, Default, PartialEq)]
struct Listener {
    /// What it is about.
    id: Option<RowId>,
    /// The chosen tab.
    section: Section,
    /// Where the section is scrolled to.
    scroll: usize,
    distributions: distributions::Choice,
}

impl Listener {
    /// Shows what is selected in the overview.
    fn follow_selection(&mut self, state: &State) {
        self.id = state.selected_id().or(self.id);
        self.scroll = 0;
    }

    /// The section in the lower part: the chosen one. If that has a separate place, the first one.
    fn current(&self, parts: &Parts) -> Section {
        let tabs = parts.tabs();
        if tabs.contains(&self.section) { self.section } else { tabs[0] }
    }

    /// Goes to the tab that is `step` further, and from the last one to the first.
    fn change_section(&mut self, step: isize, parts: &Parts) {
        let tabs = parts.tabs();
        let at = tabs.iter().position(|&s| s == self.section).unwrap_or(0);
        self.section = tabs[(at as isize + step).rem_euclid(tabs.len() as isize) as usize];
        self.scroll = 0;
    }

    /// Chooses another distribution, or scrolls the section.
    fn travel(&mut self, action: Action, parts: &Parts, state: &State) {
        if self.current(parts) == Section::Distributions {
            return self.distributions.travel(action);
        }
        let (page, last) = self.extent(parts, state);
        self.scroll = action.travel(self.scroll, page, last);
    }

    /// Rows of a page of the section, and how far it can be scrolled.
    fn extent(&self, parts: &Parts, state: &State) -> (usize, usize) {
        let (page, width) = (usize::from(parts.tabbed.height), parts.tabbed.width);
        let listener = self.id.and_then(|id| state.listener(id));
        let (Some(listener), Some(model)) = (listener, &state.model) else { return (page, 0) };
        match self.current(parts) {
            Section::Findings => {
                let length = findings::lines(&listener, width, state).len();
                let page = usize::from(parts.findings().0.height);
                (page, length.saturating_sub(page))
            }
            Section::Threads => {
                let length = threads::lines(&listener, model, width, state.theme).len();
                (page.saturating_sub(1), length.saturating_sub(page))
            }
            Section::Distributions | Section::OverTime => (page, 0),
        }
    }
}

impl View for Listener {
    fn open(&mut self, state: &State) {
        self.follow_selection(state);
    }

    fn scope(&self, _: &State) -> &'static Scope {
        &KEYS
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        let before = self.clone();
        let parts = Parts::of(state.body());
        match action {
            Action::NextListener | Action::PreviousListener => {
                state.select_neighbour(if action == Action::NextListener { 1 } else { -1 });
                self.follow_selection(state);
            }
            Action::NextSection => self.change_section(1, &parts),
            Action::PreviousSection => self.change_section(-1, &parts),
            Action::PickSection(place) => {
                self.section = Section::ALL.get(place).copied().unwrap_or_default();
                self.scroll = 0;
            }
            Action::ToggleSpan => self.distributions.recent = !self.distributions.recent,
            movement => self.travel(movement, &parts, state),
        }
        Outcome::changed_if(before != *self)
    }

    fn copies(&self, state: &State) -> Option<String> {
        Some(verdict::line_to_copy(&*state.listener(self.id?)?))
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let theme = state.theme;
        let (Some(listener), Some(model)) = (self.id.and_then(|id| state.listener(id)), model) else {
            let gone = "This listener does not exist any more. Esc goes back.";
            return text::left(buf, area.x + 1, area.y + 1, area.width - 1, gone, theme.strong());
        };
        let listener = listener.as_ref();
        let parts = Parts::of(area);
        text::rule(buf, parts.title, &title(listener, state, parts.title.width), theme);
        pipeline::draw(buf, parts.pipeline, listener, model, theme);
        if let Some(area) = parts.graphs {
            over_time::graphs(buf, area, listener, theme, model);
        }
        if let Some(area) = parts.heat {
            over_time::heat_map(buf, area, listener, theme, model);
        }
        if let Some(area) = parts.distributions {
            self.distributions.draw_all(buf, area, listener, theme, model);
        }
        let section = self.current(&parts);
        draw_tabs(buf, &parts, section, (listener, model), state);
        let inner = Rect { x: parts.tabbed.x + 1, width: parts.tabbed.width - 1, ..parts.tabbed };
        match section {
            Section::Findings => {
                let (findings, below) = parts.findings();
                let inner = Rect { height: findings.height, ..inner };
                text::scrolled(buf, inner, &findings::lines(listener, area.width, state), self.scroll, theme);
                if let Some(area) = below {
                    over_time::graphs(buf, area, listener, theme, model);
                }
            }
            Section::Distributions => self.distributions.draw(buf, parts.tabbed, listener, theme, model),
            Section::OverTime => {
                // The graphs, unless they have a place of their own; and the waits.
                let graph = if parts.graphs.is_none() { GRAPH } else { 0 };
                let [above, below] =
                    Layout::vertical([Constraint::Length(graph), Constraint::Min(0)]).areas(parts.tabbed);
                over_time::graphs(buf, above, listener, theme, model);
                over_time::heat_map(buf, below, listener, theme, model);
            }
            Section::Threads => {
                let lines = threads::lines(listener, model, area.width, theme);
                let (head, rows) = lines.split_at(1);
                text::line(buf, inner, head[0].clone());
                let body = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
                text::scrolled(buf, body, rows, self.scroll, theme);
            }
        }
    }
}

/// Rows of a body from which on the pipeline is drawn in full.
const FULL: u16 = 30;
/// Rows of graphs that share their place.
const GRAPH: u16 = 4;

/// Where the parts of the screen are.
struct Parts {
    title: Rect,
    pipeline: Rect,
    graphs: Option<Rect>,
    heat: Option<Rect>,
    distributions: Option<Rect>,
    tabs: Rect,
    tabbed: Rect,
}

impl Parts {
    fn of(body: Rect) -> Self {
        let pipeline_height = if body.height < FULL { pipeline::COMPACT } else { pipeline::HEIGHT };
        // What is drawn gets separate places if enough rows are left for the tabbed section.
        let rest = body.height.saturating_sub(1 + pipeline_height + 1);
        let graphs = if rest >= 16 { 9.max(rest / 5) } else { 0 };
        let heat = if rest >= 34 { 9.max(rest / 6) } else { 0 };
        let columns = if rest >= 42 && body.width >= 120 { 16 } else { 0 };
        let [title, pipeline, graph, heats, distribution, tabs, tabbed] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(pipeline_height),
            Constraint::Length(graphs),
            Constraint::Length(heat),
            Constraint::Length(columns),
            Constraint::Length(1),
            Constraint::Min(0),
        ])
        .areas(body);
        Self {
            title,
            pipeline,
            graphs: (graphs > 0).then_some(graph),
            heat: (heat > 0).then_some(heats),
            distributions: (columns > 0).then_some(distribution),
            tabs,
            tabbed,
        }
    }

    /// The findings, and the graphs below them where these have no place of their own: the cause and its course fit the
    /// smallest screen.
    fn findings(&self) -> (Rect, Option<Rect>) {
        if self.graphs.is_some() || self.tabbed.height < 2 * GRAPH {
            return (self.tabbed, None);
        }
        let [findings, graphs] = Layout::vertical([Constraint::Min(0), Constraint::Length(GRAPH)]).areas(self.tabbed);
        (findings, Some(graphs))
    }

    /// The sections that share the lower part: those without a separate place.
    fn tabs(&self) -> Vec<Section> {
        let is_tab = |section: &Section| match section {
            Section::Distributions => self.distributions.is_none(),
            Section::OverTime => self.heat.is_none(),
            Section::Findings | Section::Threads => true,
        };
        Section::ALL.into_iter().filter(is_tab).collect()
    }
}

/// Which listener it is. If not everything fits, the least important parts are left out.
fn title(listener: &ListenerModel, state: &State, width: u16) -> String {
    let shard = match state.selected_row() {
        Some(Row::Shard { number, group, .. }) => {
            format!(" shard {number} of {}", state.rows.groups[group].shards)
        }
        Some(Row::Group(group)) => format!(" ×{} shards", state.rows.groups[group].members.len()),
        _ => String::new(),
    };
    let closed = if listener.closed { " · CLOSED, last values" } else { "" };
    let family = format!(" · {}", words::family(listener));
    let netns = format!(" · netns {}", words::netns(listener));
    let place = match words::container_in_full(listener) {
        container if !container.is_empty() => format!(" in {container}"),
        _ if !words::service(listener).is_empty() => format!(" in {}", words::service(listener)),
        _ => String::new(),
    };
    let rest = |family: &str, place: &str, netns: &str| {
        let process = words::process(listener);
        format!("{shard}{family} · {process}{place}{netns} · backlog {}{closed}", listener.now.backlog)
    };
    let endpoint = words::listener_endpoint(listener);
    let room = |rest: &str| text::title_room(width).saturating_sub(words::width(rest));
    // Where its whole name does not fit, what tells it from others does.
    let short = match words::container(listener) {
        container if container.is_empty() => String::new(),
        container => format!(" in {container}"),
    };
    let titles = [
        rest(&family, &place, &netns),
        rest("", &place, &netns),
        rest("", &place, ""),
        rest("", &short, if short.is_empty() { &netns } else { "" }),
        rest("", "", ""),
    ];
    let fits = |rest: &&String| words::width(&endpoint) <= room(rest);
    let rest = titles.iter().find(fits).unwrap_or(&titles[4]);
    words::fit_middle(&endpoint, room(rest)) + rest
}

/// How the view of blame is named among the tabs.
const BLAME: &str = " Blame (8) ";

fn draw_tabs(
    buf: &mut Buffer,
    parts: &Parts,
    current: Section,
    (listener, model): (&ListenerModel, &Model),
    state: &State,
) {
    let (theme, hits) = (state.theme, &state.hits);
    let area = parts.tabs;
    text::rule(buf, area, "", theme);
    let mut spans = vec![Span::raw(" ")];
    for tab in parts.tabs() {
        let count = match tab {
            Section::Findings => format!(" {}", listener.findings.len()),
            Section::Threads if !threads::are_measured(model) => format!(" {}", words::UNAVAILABLE),
            Section::Threads => format!(" {}", listener.threads.iter().map(ThreadModel::threads).sum::<u64>()),
            _ => String::new(),
        };
        let width = words::width(tab.title()) + words::width(&count) + 2;
        let x = area.x + 1 + spans.iter().map(|span| Span::width(span) as u16).sum::<u16>();
        let place = Section::ALL.iter().position(|section| *section == tab).unwrap_or_default();
        let action = Action::PickSection(place);
        hits.borrow_mut().add(Rect { x, y: area.y, width: width as u16, height: 1 }, action);
        if tab == current {
            spans.push(Span::styled(format!("[{}{count}]", tab.title()), theme.badge()));
        } else {
            spans.push(Span::styled(format!(" {}{count} ", tab.title()), theme.strong()));
        }
        spans.push(Span::styled(" ", theme.label()));
    }
    spans.push(Span::styled("(Tab) ", theme.label()));
    // It has a screen of its own, and costs something while it is open.
    let x = area.x + 1 + spans.iter().map(|span| Span::width(span) as u16).sum::<u16>();
    let blame = Rect { x, y: area.y, width: BLAME.len() as u16, height: 1 };
    if blame.right() < area.right() {
        hits.borrow_mut().add(blame, Action::Show("blame"));
        spans.push(Span::styled(BLAME, theme.strong()));
    }
    text::line(buf, Rect { x: area.x + 1, width: area.width - 1, ..area }, Line::from(spans));
}

#[cfg(test)]
mod tests;
