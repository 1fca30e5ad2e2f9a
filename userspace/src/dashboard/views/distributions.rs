//! The distributions of a listener: their quantiles in a table, and columns of one of them or of all.

use listentop_abi::histogram::UNIT_NS;
use listentop_model::{
    coverage::{Measure, Status},
    histogram::Histogram,
    model::{Distributions, ListenerModel, Model},
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
};

use crate::dashboard::{
    app::App,
    format,
    widgets::{histogram, text},
};

/// A distribution on the screen.
#[derive(Debug)]
pub(in crate::dashboard) struct Kind {
    /// Name.
    name: &'static str,
    /// Where it is.
    pick: fn(&Distributions) -> Option<&Histogram>,
    /// What it needs.
    measure: Measure,
    /// How a value in the histogram's units is written.
    unit: histogram::Unit,
}

fn time(units: u64) -> String {
    format::precise_duration((units * UNIT_NS + 500) / 1000)
}

/// Every distribution, in the order of a connection's life.
pub(in crate::dashboard) const ALL: [Kind; 6] = [
    Kind { name: "handshake", pick: |d| d.handshake.as_ref(), measure: Measure::Handshake, unit: time },
    Kind { name: "accept wait", pick: |d| d.accept_wait.as_ref(), measure: Measure::AcceptWait, unit: time },
    Kind { name: "first byte", pick: |d| d.first_byte.as_ref(), measure: Measure::FirstByte, unit: time },
    Kind { name: "first read", pick: |d| d.first_read.as_ref(), measure: Measure::FirstRead, unit: time },
    Kind { name: "residency", pick: |d| d.residency.as_ref(), measure: Measure::Residency, unit: time },
    Kind { name: "bytes per read", pick: |d| d.bytes_per_read.as_ref(), measure: Measure::Reads, unit: format::bytes },
];

impl Kind {
    fn quantile(&self, histogram: &Histogram, q: f64) -> Option<String> {
        histogram.quantile_units(q).map(self.unit)
    }

    fn max(&self, histogram: &Histogram) -> Option<String> {
        histogram.max_units().map(self.unit)
    }
}

/// Table at the left, columns of the chosen one at the right.
pub(super) fn draw(buf: &mut Buffer, area: Rect, listener: &ListenerModel, app: &App, model: &Model) {
    let theme = app.theme;
    let [table, plot] = Layout::horizontal([Constraint::Length(54), Constraint::Min(20)]).spacing(3).areas(area);
    let of = if app.recent_span { &listener.recent_distributions } else { &listener.distributions };
    let columns = [16u16, 24, 32, 40, 48].map(|right| table.x + right);
    let span = if app.recent_span { "recent span (i)" } else { "interval (i)" };
    text::left(buf, table.x + 1, table.y, 15, span, theme.label());
    let labels = ["count", "p50", "p90", "p99", "max"];
    for (x, label) in columns.into_iter().zip(labels) {
        text::right(buf, x, table.y, 6, label, theme.label());
    }
    let visible = usize::from(table.height.saturating_sub(1));
    let first = (app.distribution + 1).saturating_sub(visible);
    for (y, (i, kind)) in (table.y + 1..table.bottom()).zip(ALL.iter().enumerate().skip(first)) {
        let chosen = i == app.distribution;
        text::left(buf, table.x, y, 1, if chosen { "›" } else { " " }, theme.strong());
        text::left(buf, table.x + 1, y, 15, kind.name, Style::new());
        let status = format::status(model, kind.measure);
        let histogram = (kind.pick)(of);
        let cells = [
            histogram.map(|h| format::short(h.count())),
            histogram.and_then(|h| kind.quantile(h, 0.5)),
            histogram.and_then(|h| kind.quantile(h, 0.9)),
            histogram.and_then(|h| kind.quantile(h, 0.99)),
            histogram.and_then(|h| kind.max(h)),
        ];
        for (x, cell) in columns.into_iter().zip(cells) {
            text::right(buf, x - 1, y, 7, &format::marked(cell, status), Style::new());
        }
        if chosen {
            buf.set_style(Rect { y, height: 1, ..table }, theme.selected());
        }
    }
    if let Some(kind) = ALL.get(app.distribution) {
        text::left(buf, plot.x, plot.y, plot.width, kind.name, theme.strong());
        columns_of(buf, Rect { y: plot.y + 1, height: plot.height - 1, ..plot }, kind, of, app, model);
    }
}

/// All of them side by side, three in a row.
pub(super) fn draw_all(buf: &mut Buffer, area: Rect, listener: &ListenerModel, app: &App, model: &Model) {
    let of = if app.recent_span { &listener.recent_distributions } else { &listener.distributions };
    let rows: [Rect; 2] = Layout::vertical([Constraint::Fill(1); 2]).areas(area);
    for (row, kinds) in rows.into_iter().zip(ALL.chunks(3)) {
        let cells: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(3).areas(row);
        for (cell, kind) in cells.into_iter().zip(kinds) {
            let status = format::status(model, kind.measure);
            let say = |value: Option<String>| format::marked(value, status);
            let histogram = (kind.pick)(of);
            let count = say(histogram.map(|h| format::grouped(h.count())));
            text::left(buf, cell.x, cell.y, cell.width, &format!("{}  n {count}", kind.name), app.theme.strong());
            let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]
                .map(|(name, q)| format!("{name} {}", say(histogram.and_then(|h| kind.quantile(h, q)))))
                .join("  ");
            let max = say(histogram.and_then(|h| kind.max(h)));
            text::left(buf, cell.x, cell.y + 1, cell.width, &format!("{quantiles}  max {max}"), Style::new());
            columns_of(
                buf,
                Rect { y: cell.y + 2, height: cell.height.saturating_sub(3), ..cell },
                kind,
                of,
                app,
                model,
            );
        }
    }
}

fn columns_of(buf: &mut Buffer, area: Rect, kind: &Kind, of: &Distributions, app: &App, model: &Model) {
    match (kind.pick)(of) {
        Some(histogram) if histogram.count() > 0 => histogram::draw(buf, area, histogram, kind.unit, app.theme),
        _ => {
            let why = match format::status(model, kind.measure) {
                Status::Unavailable => "n/a: cannot be measured here (c)",
                _ => "nothing seen yet",
            };
            text::left(buf, area.x, area.y + area.height / 2, area.width, why, app.theme.label());
        }
    }
}
