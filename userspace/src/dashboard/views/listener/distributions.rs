//! The distributions of a listener: their quantiles in a table, and columns of one of them or of all.

use listentop_abi::histogram::UNIT_NS;
use listentop_model::{
    coverage::{Measure, Status},
    histogram::Histogram,
    model::{Distributions, ListenerModel, Model},
    words,
};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
};

use crate::dashboard::{
    action::Action,
    theme::Theme,
    widgets::{histogram, text},
};

/// A distribution on the screen.
#[derive(Debug)]
struct Kind {
    /// Name.
    name: &'static str,
    /// Where the model has it.
    pick: fn(&Distributions) -> Option<&Histogram>,
    /// The measure that it shows.
    measure: Measure,
    /// How a value in the histogram's units is written.
    unit: histogram::Unit,
}

fn time(units: u64) -> String {
    words::precise_duration((units * UNIT_NS + 500) / 1000)
}

/// Every distribution, in the order of a connection's life.
const ALL: [Kind; 8] = [
    Kind { name: "handshake", pick: |d| d.handshake.as_ref(), measure: Measure::Handshake, unit: time },
    Kind { name: "accept wait", pick: |d| d.accept_wait.as_ref(), measure: Measure::AcceptWait, unit: time },
    Kind { name: "client gone", pick: |d| d.client_gone_wait.as_ref(), measure: Measure::ClientGone, unit: time },
    Kind { name: "first byte", pick: |d| d.first_byte.as_ref(), measure: Measure::FirstByte, unit: time },
    Kind { name: "first read", pick: |d| d.first_read.as_ref(), measure: Measure::FirstRead, unit: time },
    Kind { name: "residency", pick: |d| d.residency.as_ref(), measure: Measure::Residency, unit: time },
    Kind { name: "answer", pick: |d| d.answer.as_ref(), measure: Measure::Answer, unit: time },
    Kind { name: "bytes per read", pick: |d| d.bytes_per_read.as_ref(), measure: Measure::Reads, unit: words::bytes },
];

impl Kind {
    /// Count, quantiles and maximum, as far as they are known.
    fn cells(&self, histogram: Option<&Histogram>) -> [Option<String>; 5] {
        let quantile = |q| histogram.and_then(|h| h.quantile_units(q)).map(self.unit);
        [
            histogram.map(|h| words::short(h.count())),
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            histogram.and_then(Histogram::max_units).map(self.unit),
        ]
    }
}

/// The distribution that the user chose, and its time span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Its place in the table.
    pub(super) chosen: usize,
    /// Of the recent span rather than of the whole interval.
    pub(super) recent: bool,
}

impl Choice {
    /// Chooses another one.
    pub(super) fn travel(&mut self, action: Action) {
        let last = ALL.len() - 1;
        self.chosen = action.travel(self.chosen, last, last);
    }

    const fn of(self, listener: &ListenerModel) -> &Distributions {
        if self.recent { &listener.recent_distributions } else { &listener.distributions }
    }

    /// Table at the left, columns of the chosen one at the right.
    pub(super) fn draw(self, buf: &mut Buffer, area: Rect, listener: &ListenerModel, theme: Theme, model: &Model) {
        let [table, plot] = Layout::horizontal([Constraint::Length(54), Constraint::Min(20)]).spacing(3).areas(area);
        let of = self.of(listener);
        self.table(buf, table, of, theme, model);
        if let Some(kind) = ALL.get(self.chosen) {
            text::left(buf, plot.x, plot.y, plot.width, kind.name, theme.strong());
            columns_of(buf, Rect { y: plot.y + 1, height: plot.height - 1, ..plot }, kind, of, theme, model);
        }
    }

    /// A row per distribution.
    fn table(self, buf: &mut Buffer, table: Rect, of: &Distributions, theme: Theme, model: &Model) {
        let columns = [16u16, 24, 32, 40, 48].map(|right| table.x + right);
        let span = if self.recent { "recent span (i)" } else { "interval (i)" };
        text::left(buf, table.x + 1, table.y, 15, span, theme.label());
        let labels = ["count", "p50", "p90", "p99", "max"];
        for (x, label) in columns.into_iter().zip(labels) {
            text::right(buf, x, table.y, 6, label, theme.label());
        }
        let visible = usize::from(table.height.saturating_sub(1));
        let first = (self.chosen + 1).saturating_sub(visible);
        for (y, (i, kind)) in (table.y + 1..table.bottom()).zip(ALL.iter().enumerate().skip(first)) {
            let is_chosen = i == self.chosen;
            text::left(buf, table.x, y, 1, if is_chosen { "›" } else { " " }, theme.strong());
            text::left(buf, table.x + 1, y, 15, kind.name, Style::new());
            let status = words::status(model, kind.measure);
            for (x, cell) in columns.into_iter().zip(kind.cells((kind.pick)(of))) {
                text::right(buf, x - 1, y, 7, &words::marked(cell, status), Style::new());
            }
            if is_chosen {
                theme.select(buf, Rect { y, height: 1, ..table });
            }
        }
    }

    /// All of them under a title, in rows of three, or four on a wide screen.
    pub(super) fn draw_all(self, buf: &mut Buffer, area: Rect, listener: &ListenerModel, theme: Theme, model: &Model) {
        let span = if self.recent { "recent span" } else { "interval" };
        text::rule(buf, area, &format!("Distributions over the {span} (i: the other)"), theme);
        let inner = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: area.height - 1 };
        let of = self.of(listener);
        let beside = if area.width < 160 { 3 } else { 4 };
        let rows = Layout::vertical(vec![Constraint::Fill(1); ALL.len().div_ceil(beside)]).split(inner);
        for (row, kinds) in rows.iter().zip(ALL.chunks(beside)) {
            let cells = Layout::horizontal(vec![Constraint::Fill(1); beside]).spacing(3).split(*row);
            for (cell, kind) in cells.iter().zip(kinds) {
                draw_cell(buf, *cell, kind, of, theme, model);
            }
        }
    }
}

/// One of them in words and as columns.
fn draw_cell(buf: &mut Buffer, cell: Rect, kind: &Kind, of: &Distributions, theme: Theme, model: &Model) {
    let status = words::status(model, kind.measure);
    let marked = |value: Option<String>| words::marked(value, status);
    let histogram = (kind.pick)(of);
    let count = marked(histogram.map(|h| words::grouped(h.count())));
    text::left(buf, cell.x, cell.y, cell.width, &format!("{}  n {count}", kind.name), theme.strong());
    let [_, p50, p90, p99, max] = kind.cells(histogram).map(marked);
    let quantiles = format!("p50 {p50}  p90 {p90}  p99 {p99}  max {max}");
    text::left(buf, cell.x, cell.y + 1, cell.width, &quantiles, Style::new());
    let plot = Rect { y: cell.y + 2, height: cell.height.saturating_sub(3), ..cell };
    columns_of(buf, plot, kind, of, theme, model);
}

fn columns_of(buf: &mut Buffer, area: Rect, kind: &Kind, of: &Distributions, theme: Theme, model: &Model) {
    match (kind.pick)(of) {
        Some(histogram) if histogram.count() > 0 => histogram::draw(buf, area, histogram, kind.unit, theme),
        _ => {
            let why = match words::status(model, kind.measure) {
                Status::Unavailable => "n/a: cannot be measured here (c)",
                _ => "nothing seen yet",
            };
            text::left(buf, area.x, area.y + area.height / 2, area.width, why, theme.label());
        }
    }
}
