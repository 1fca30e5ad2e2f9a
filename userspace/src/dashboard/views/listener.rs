//! One listener: the pipeline, and below it findings, distributions, graphs and threads: as many as fit, the others by
//! tab.

mod distributions;
mod findings;
mod threads;

pub(super) use self::findings::evidence;

use crossterm::event::KeyCode;
use listentop_model::{
    coverage::{Measure, Status},
    history::HistoryPoint,
    model::{ListenerModel, Model, ThreadModel},
    words,
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
};

use crate::dashboard::{
    action::Action,
    keymap::{Binding, Key::Plain, Others, Scope, bind, char},
    rows::{Row, RowId},
    state::State,
    theme::Theme,
    view::{Declaration, Outcome, View},
    widgets::{
        graph::{Graph, Point},
        heat, pipeline, text,
    },
};

pub(super) static VIEW: Declaration = Declaration {
    name: "listener",
    tab: Some("Listener"),
    key: Some(bind(&[char('2')], Action::Show("listener"), "", "the selected listener")),
    over: false,
    scopes: &[&KEYS],
    explained: ("In the listener view", || EXPLAINED.to_vec()),
    needs_model: true,
    make: || Box::new(Listener::default()),
};

static KEYS: Scope = Scope { title: "Keys in the listener view", others: Others::AsEverywhere, bindings: BINDINGS };

const BINDINGS: &[Binding] = &[
    bind(&[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)], Action::Back, "back", "back to the overview"),
    bind(
        &[char('n'), Plain(KeyCode::Right)],
        Action::NextListener,
        "next",
        "the next listener, in the order of the overview",
    ),
    bind(&[char('b'), Plain(KeyCode::Left)], Action::PreviousListener, "", "the listener before"),
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

/// What is not a column of the overview, in the order of the screen.
const EXPLAINED: &[(&str, &str)] = &[
    ("backlog", "In the title: the argument of listen(), as the kernel capped it to net.core.somaxconn."),
    ("now, young", "Handshakes in progress now, and how many of them had no SYN-ACK sent again."),
    ("peak", "The largest depth in the interval. In the graph: since the refresh before."),
    (
        "SYN-ACK again",
        "SYN-ACKs sent again, per second and, below, in the interval: the final ACK was late, lost or refused.",
    ),
    ("enqueued/s", "Handshakes completed: connections put on the accept queue per second."),
    (
        "8 of 9, 8/9, limit",
        "Connections waiting to be accepted, of those that the kernel admits: the backlog and one more. CPUs that complete \
         handshakes at the same moment can exceed it.",
    ),
    (
        "oldest, none waits",
        "Under ACCEPT QUEUE: how long the connection at its head has waited so far. Under RECEIVE QUEUES: how long the oldest unread byte \
         has waited, since it arrived or, if later, since its connection was accepted. none waits: there is none.",
    ),
    ("accepted/s", "Connections taken from the accept queue per second."),
    (
        "threads, processes",
        "Under ACCEPTORS: threads that were seen accepting in the interval, and the processes that they belong to. Under READERS: \
         threads seen reading. none seen: nothing was accepted, read or written yet.",
    ),
    ("writers", "Threads that were seen writing to its connections in the interval."),
    ("thr., proc., wr.", "Short for threads, processes and writers."),
    (
        "would-block, EAGAIN",
        "Accepts per second that returned EAGAIN: a thread was woken and found no connection. Also: empty.",
    ),
    ("failed", "Accepts that failed with another error in the interval, such as a lack of file descriptors (EMFILE)."),
    (
        "gone",
        "Accepts in the interval that went to clients that were gone: they had closed, or reset the connection, while they waited. \
         A client that only closed its side and waits for the answer counts too.",
    ),
    (
        "open",
        "Connections that were accepted and are not yet destroyed: also those that the program has closed, while the client has yet to \
         acknowledge the last data.",
    ),
    ("unread, left", "Bytes that arrived on open connections and are not read yet."),
    ("reads/s, read", "Successful reads per second, and the bytes that they took per second."),
    (
        "SYNs, by SYN queue",
        "SYNs refused: new connections refused at their SYN: the accept queue or the SYN queue was full. The client tries again after 1 s, 3 s, 7 s. \
         In brackets: per second, in the recent span.",
    ),
    (
        "final ACKs refused",
        "Handshakes that the client believes complete, but the accept queue was full: the client waits, or is reset.",
    ),
    ("all drops", "Attempts refused in the interval: the sum of all causes, other and unexplained."),
    ("other", "Refused for another known reason: no memory, no route, or the last quarter of tcp_max_syn_backlog."),
    ("unexplained", "Refused, cause not known."),
    ("clients", "Distinct client addresses and ports among the refused attempts."),
    (
        "aborted",
        "Connections that left the accept queue without being accepted: the listener closed and discarded them.",
    ),
    ("cookies", "SYN cookies sent in the interval: handshakes answered without a place in the SYN queue."),
    (
        "accept queue depth",
        "Over time, a column per refresh: waiting connections; ▔: the peak since the refresh before; line: the limit.",
    ),
    (
        "wait over time",
        "A row per band of waits, a column per refresh: the darker, the more connections had waited so long when they were accepted. \
         <1.0ms: shorter than that, and not in the band below.",
    ),
    ("drops per refresh", "Over time: attempts refused since the refresh before."),
    (
        "handshake",
        "From the SYN-ACK until the final ACK: about one round trip to the client. The path of the SYN is not part of it.",
    ),
    (
        "accept wait",
        "From when a connection enters the accept queue until accept takes it. The client's network is not part of it.",
    ),
    (
        "first byte",
        "From accept until the client's first byte arrives; <1µs if it was there already. Large: the client is slow.",
    ),
    ("first read", "From accept until the server's first read. Large while first byte is small: the server is slow."),
    (
        "residency",
        "From the arrival of the first unread byte until a thread reads it: how long requests wait for a reader.",
    ),
    ("client gone", "Accept wait of the connections whose client was gone when they were accepted."),
    (
        "answer, ans.",
        "From the arrival of the first unread byte until the first write after it was read: what the server takes, seen from outside. \
         Where clients send on before they are answered (pipelining, HTTP/2), one write answers all that was read: a bound.",
    ),
    ("bytes per read", "How much one read takes. Small reads cost CPU."),
    ("nothing seen yet", "The distribution has no value in the span that is shown."),
    ("count, n", "How many values a distribution has."),
    (
        "p50, p90, p99, max",
        "50, 90, 99 and 100 % of the values are no larger than this. Below the columns: smallest and largest value.",
    ),
    ("THREAD, ended", "Name and id of a thread; ended: it does not exist any more."),
    ("ARW, ROLES", "What a thread was seen doing: A accepts, R reads, W writes."),
    (
        "accepts … writes",
        "Of that thread in the interval: accepts, those that returned EAGAIN, reads, bytes read, writes.",
    ),
    ("share", "A thread's part of the accepts or reads of its listener; for a shard, of its group."),
    ("onCPU", "Part of the time since the thread was first seen in which it ran, for any work."),
    ("runq", "Part of that time in which it was ready to run but waited for a CPU: the machine is too busy."),
    ("block", "The rest: asleep, without work or waiting for something."),
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
                let length = findings::lines(&listener, width, state.theme).len();
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
            graphs(buf, area, listener, theme, model);
        }
        if let Some(area) = parts.heat {
            heat_map(buf, area, listener, theme, model);
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
                text::scrolled(buf, inner, &findings::lines(listener, area.width, theme), self.scroll, theme);
                if let Some(area) = below {
                    graphs(buf, area, listener, theme, model);
                }
            }
            Section::Distributions => self.distributions.draw(buf, parts.tabbed, listener, theme, model),
            Section::OverTime => {
                // The graphs, unless they have a place of their own; and the waits.
                let graph = if parts.graphs.is_none() { GRAPH } else { 0 };
                let [above, below] =
                    Layout::vertical([Constraint::Length(graph), Constraint::Min(0)]).areas(parts.tabbed);
                graphs(buf, above, listener, theme, model);
                heat_map(buf, below, listener, theme, model);
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
    let rest = |family: &str, netns: &str| {
        let process = words::process(listener);
        format!("{shard}{family} · {process}{netns} · backlog {}{closed}", listener.now.backlog)
    };
    let endpoint = words::listener_endpoint(listener);
    let room = |rest: &str| text::title_room(width).saturating_sub(words::width(rest));
    let titles = [rest(&family, &netns), rest("", &netns), rest("", "")];
    let fits = |rest: &&String| words::width(&endpoint) <= room(rest);
    let rest = titles.iter().find(fits).unwrap_or(&titles[2]);
    words::fit_middle(&endpoint, room(rest)) + rest
}

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
    text::line(buf, Rect { x: area.x + 1, width: area.width - 1, ..area }, Line::from(spans));
}

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
fn graphs(buf: &mut Buffer, area: Rect, listener: &ListenerModel, theme: Theme, model: &Model) {
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
        }
        .draw(buf, *cell, theme);
    }
}

fn heat_map(buf: &mut Buffer, area: Rect, listener: &ListenerModel, theme: Theme, model: &Model) {
    let points = listener.history.points(&model.timeline);
    heat::draw(buf, area, points, nothing(Measure::AcceptWait, model), theme);
}

#[cfg(test)]
mod tests;
