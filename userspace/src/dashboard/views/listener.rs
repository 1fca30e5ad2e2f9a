//! One listener: the pipeline, and below it findings, distributions, graphs and threads: as many as fit, the others by
//! tab.

use listentop_model::{
    coverage::{Measure, Status},
    model::{ListenerModel, Model},
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use super::{distributions, findings, threads};
use crate::dashboard::{
    app::{App, Section},
    format,
    group::fill,
    rows::Row,
    widgets::{
        graph::{Graph, Point},
        pipeline, text,
    },
};

/// Where the parts of the screen are. `tabbed` is the place of the section that the tab chooses.
struct Parts {
    title: Rect,
    pipeline: Rect,
    graphs: Option<Rect>,
    distributions: Option<Rect>,
    tabs: Rect,
    tabbed: Rect,
}

fn parts(body: Rect) -> Parts {
    // Graphs and distributions get a place of their own as soon as they leave the tabbed section eight rows.
    let rest = body.height.saturating_sub(1 + pipeline::HEIGHT + 1);
    let graphs = if rest >= 18 { 10.max(rest / 4) } else { 0 };
    let columns = if rest >= 40 && body.width >= 120 { 20 } else { 0 };
    let [title, pipeline, graph, distribution, tabs, tabbed] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(pipeline::HEIGHT),
        Constraint::Length(graphs),
        Constraint::Length(columns),
        Constraint::Length(1),
        Constraint::Min(0),
    ])
    .areas(body);
    Parts {
        title,
        pipeline,
        graphs: (graphs > 0).then_some(graph),
        distributions: (columns > 0).then_some(distribution),
        tabs,
        tabbed,
    }
}

fn tabs_of(parts: &Parts) -> Vec<Section> {
    let shown = |section: &Section| match section {
        Section::Distributions => parts.distributions.is_none(),
        Section::OverTime => parts.graphs.is_none(),
        Section::Findings | Section::Threads => true,
    };
    Section::ALL.into_iter().filter(shown).collect()
}

/// The sections that share the lower part of the screen.
pub(in crate::dashboard) fn tabs(app: &App) -> Vec<Section> {
    tabs_of(&parts(super::body(app)))
}

/// The section that is in the lower part: the chosen one, or the first if that has a place of its own.
fn current(app: &App, parts: &Parts) -> Section {
    let tabs = tabs_of(parts);
    if tabs.contains(&app.section) { app.section } else { tabs[0] }
}

/// Whether up and down choose a distribution.
pub(in crate::dashboard) fn chooses_distribution(app: &App) -> bool {
    current(app, &parts(super::body(app))) == Section::Distributions
}

/// Rows of a page of the section, and how far it can be scrolled.
pub(in crate::dashboard) fn section_extent(app: &App) -> (usize, usize) {
    let parts = parts(super::body(app));
    let page = usize::from(parts.tabbed.height);
    let (Some(listener), Some(model)) = (app.listener(), &app.model) else { return (page, 0) };
    match current(app, &parts) {
        Section::Findings => {
            let length = findings::lines(&listener, parts.tabbed.width, app.theme).len();
            (page, length.saturating_sub(page))
        }
        Section::Threads => {
            let length = threads::lines(&listener, model, parts.tabbed.width, app.theme).len();
            (page.saturating_sub(1), length.saturating_sub(page))
        }
        Section::Distributions | Section::OverTime => (page, 0),
    }
}

pub(super) fn draw(buf: &mut Buffer, area: Rect, app: &App, model: &Model) {
    let Some(listener) = app.listener() else {
        let gone = "This listener is not there any more. Esc goes back.";
        return text::left(buf, area.x + 1, area.y + 1, area.width - 1, gone, app.theme.strong());
    };
    let listener = listener.as_ref();
    let parts = parts(area);
    text::rule(buf, parts.title, &title(listener, app, parts.title.width), app.theme);
    pipeline::draw(buf, parts.pipeline, listener, model, app.theme);
    if let Some(area) = parts.graphs {
        graphs(buf, area, listener, app, model);
    }
    if let Some(area) = parts.distributions {
        let span = if app.recent_span { "recent span" } else { "interval" };
        text::rule(buf, area, &format!("Distributions over the {span} (i: the other)"), app.theme);
        let inner = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: area.height - 1 };
        distributions::draw_all(buf, inner, listener, app, model);
    }
    let section = current(app, &parts);
    draw_tabs(buf, parts.tabs, &tabs_of(&parts), section, (listener, model), app);
    let inner = Rect { x: parts.tabbed.x + 1, width: parts.tabbed.width - 1, ..parts.tabbed };
    match section {
        Section::Findings => {
            text::scrolled(
                buf,
                inner,
                &findings::lines(listener, area.width, app.theme),
                app.section_scroll,
                app.theme,
            );
        }
        Section::Distributions => distributions::draw(buf, parts.tabbed, listener, app, model),
        Section::OverTime => graphs(buf, parts.tabbed, listener, app, model),
        Section::Threads => {
            let lines = threads::lines(listener, model, area.width, app.theme);
            let (head, rows) = lines.split_at(1);
            text::line(buf, inner, head[0].clone());
            let body = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
            text::scrolled(buf, body, rows, app.section_scroll, app.theme);
        }
    }
}

/// Which listener it is; what says least is left out where all would not fit.
fn title(listener: &ListenerModel, app: &App, width: u16) -> String {
    let shard = match app.selected_row() {
        Some(Row::Shard { number, group, .. }) => {
            format!(" shard {number} of {}", app.rows.groups[group].shards)
        }
        Some(Row::Group(group)) => format!(" ×{} shards", app.rows.groups[group].members.len()),
        _ => String::new(),
    };
    let closed = if listener.closed { " · CLOSED, last values" } else { "" };
    let family = format!(" · {}", format::family(listener));
    let netns = format!(" · netns {}", format::netns(listener));
    let rest = |family: &str, netns: &str| {
        let process = format::process(listener);
        format!("{shard}{family} · {process}{netns} · backlog {}{closed}", listener.now.backlog)
    };
    let endpoint = format::listener_endpoint(listener);
    let room = |rest: &str| text::title_room(width).saturating_sub(format::width(rest));
    let ways = [rest(&family, &netns), rest("", &netns), rest("", "")];
    let fits = |rest: &&String| format::width(&endpoint) <= room(rest);
    let rest = ways.iter().find(fits).unwrap_or(&ways[2]);
    format::fit_middle(&endpoint, room(rest)) + rest
}

fn draw_tabs(
    buf: &mut Buffer,
    area: Rect,
    tabs: &[Section],
    current: Section,
    (listener, model): (&ListenerModel, &Model),
    app: &App,
) {
    text::rule(buf, area, "", app.theme);
    let mut spans = vec![Span::raw(" ")];
    for &tab in tabs {
        let count = match tab {
            Section::Findings => format!(" {}", listener.findings.len()),
            Section::Threads if !threads::are_seen(model) => format!(" {}", format::UNAVAILABLE),
            Section::Threads => format!(" {}", listener.threads.len()),
            _ => String::new(),
        };
        if tab == current {
            spans.push(Span::styled(format!("[{}{count}]", tab.title()), app.theme.selected()));
        } else {
            spans.push(Span::styled(format!(" {}{count} ", tab.title()), app.theme.strong()));
        }
        spans.push(Span::styled(" ", app.theme.label()));
    }
    spans.push(Span::styled("(Tab) ", app.theme.label()));
    text::line(buf, Rect { x: area.x + 1, width: area.width - 1, ..area }, Line::from(spans));
}

fn graphs(buf: &mut Buffer, area: Rect, listener: &ListenerModel, app: &App, model: &Model) {
    let theme = app.theme;
    let [depth, drops] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(area);
    let nothing = |measure| match format::status(model, measure) {
        Status::Unavailable => "n/a: cannot be measured here (c)",
        _ => "nothing seen yet",
    };
    let limit = f64::from(listener.now.limit);
    Graph {
        title: " accept queue depth (░ peak)".to_owned(),
        points: (listener.history.points(&model.timeline))
            .map(|p| Point { at: p.at, value: Some(f64::from(p.accept_depth)), peak: p.accept_peak.map(f64::from) })
            .collect(),
        limit: Some((limit, "limit ")),
        style: theme.fill(fill(&listener.now)),
        nothing: nothing(Measure::AcceptQueueDepth),
    }
    .draw(buf, depth, theme);
    Graph {
        title: " drops per refresh".to_owned(),
        points: (listener.history.points(&model.timeline))
            .map(|p| Point { at: p.at, value: p.drops.map(|n| n as f64), peak: None })
            .collect(),
        limit: None,
        style: theme.critical(),
        nothing: nothing(Measure::Drops),
    }
    .draw(buf, drops, theme);
}
