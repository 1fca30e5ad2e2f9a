//! What is measured, by which hook, and why not more; and what was lost.

use listentop_model::{
    coverage::{Coverage, Status},
    model::Model,
    words::{
        self,
        losses::{self, Loss},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use crate::dashboard::{
    action::Action,
    keymap::{self, Scope, bind, char},
    state::State,
    theme::Theme,
    view::{Declaration, Outcome, View},
    widgets::page::Page,
};

pub(super) static VIEW: Declaration = Declaration {
    name: "coverage",
    tab: None,
    key: Some(bind(
        &[char('c')],
        Action::Show("coverage"),
        "coverage",
        "what is measured here, by which hook, and why not more",
    )),
    over: true,
    scopes: &[&keymap::TEXT],
    explained: ("In the table of coverage", Vec::new),
    lists_connections: false,
    needs_model: true,
    make: || Box::new(CoverageView::default()),
};

/// The table of coverage.
#[derive(Debug, Default)]
struct CoverageView {
    page: Page,
}

impl View for CoverageView {
    fn open(&mut self, _: &State) {
        self.page.rewind();
    }

    fn arrange(&mut self, state: &State) {
        if let Some(model) = &state.model {
            let body = state.body();
            self.page.set(lines(model, body.width, state.theme), body.width, body.height);
        }
    }

    fn scope(&self, _: &State) -> &'static Scope {
        &keymap::TEXT
    }

    fn update(&mut self, action: Action, state: &mut State) -> Outcome {
        self.page.update(action, state.body().height)
    }

    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>) {
        let wrapped = |width| model.map_or_else(Vec::new, |model| lines(model, width, state.theme));
        self.page.draw(buf, area, "Coverage: what is measured here", state.theme, wrapped);
    }
}

/// Columns of a measure's name.
const MEASURE: usize = 20;
/// Columns of its status.
const STATUS: usize = 14;

fn row(measure: &str, (status, style): (&str, Style), (text, text_style): (&str, Style)) -> Line<'static> {
    Line::from(vec![
        Span::raw(format!("{measure:MEASURE$}")),
        Span::styled(format!("{status:STATUS$}"), style),
        Span::styled(text.to_owned(), text_style),
    ])
}

/// The table, what its words mean, and what was lost, wrapped for a screen of `width`.
fn lines(model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = measures(model, width, theme);
    lines.push(Line::raw(""));
    let meaning = [
        "measured: every event is counted. sampled: seen at intervals, inferred, or a bound; ~ stands before such a number.",
        "unavailable: cannot be measured here; shown as n/a.",
    ];
    for text in meaning {
        lines.extend(words::wrap(text, usize::from(width) - 3).into_iter().map(|l| Line::styled(l, theme.label())));
    }
    lines.push(Line::raw(""));
    lines.extend(losses(model, width, theme));
    lines
}

/// A row per measure: its status, its hooks, and the reason if it is not measured in full.
fn measures(model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let room = usize::from(width).saturating_sub(MEASURE + STATUS + 3);
    let head = ("MEASURED VIA, REASON", theme.label());
    let mut lines = vec![row("MEASURE", ("STATUS", theme.label()), head)];
    for (i, coverage) in model.coverage.iter().enumerate() {
        let (mark, style) = match coverage.status {
            Status::Measured => ("✓", theme.flow()),
            Status::Sampled => ("~", theme.warning()),
            Status::Unavailable => ("✗", theme.critical()),
        };
        // Many measures may share a long reason: only the first shows it.
        let same = |before: &&Coverage| before.reason == coverage.reason && coverage.reason.len() > room;
        let reason = match model.coverage[..i].iter().find(same) {
            Some(before) => format!("as for {}", before.measure),
            None => coverage.reason.clone(),
        };
        let since = coverage.since_ns.map(|since| {
            let time = &words::utc(model.unix_ms_at(since))[11..19];
            let what = if coverage.status == Status::Unavailable { "not measured" } else { "measured" };
            format!("{what} since {time} UTC: the level changed")
        });
        let since = since.unwrap_or_default();
        let texts = [(&coverage.via, Style::new()), (&reason, theme.strong()), (&since, theme.strong())];
        let mut texts = texts.into_iter().filter(|(text, _)| !text.is_empty()).flat_map(|(text, style)| {
            words::wrap(&words::clean(text), room).into_iter().map(move |line| (line, style))
        });
        let (first, first_style) = texts.next().unwrap_or_default();
        let state = format!("{mark} {}", coverage.status);
        lines.push(row(coverage.measure.name(), (&state, style), (&first, first_style)));
        lines.extend(texts.map(|(text, style)| row("", ("", Style::new()), (&text, style))));
    }
    lines
}

/// What was lost, and what each loss means.
fn losses(model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let lost = losses::of(&model.losses);
    if lost.is_empty() {
        return vec![Line::raw("Nothing was lost: every table had room, and no probe run was skipped.")];
    }
    let (certain, word) = losses::verdict(&model.losses);
    let style = if certain { theme.critical() } else { theme.warning() };
    let words: Vec<String> = lost.iter().map(Loss::brief).collect();
    let since = format!("{word}. Since the start: {}", words.join(", "));
    let mut lines: Vec<Line<'static>> =
        words::wrap(&since, usize::from(width) - 3).into_iter().map(|l| Line::styled(l, style)).collect();
    for Loss { meaning, .. } in &lost {
        lines.extend(words::wrap(meaning, usize::from(width) - 5).into_iter().map(|l| Line::raw(format!("  {l}"))));
    }
    lines
}
