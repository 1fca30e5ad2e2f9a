//! Recordings as tables, for SQL and spreadsheets: a row for each listener and sample, with a column for each figure.

mod csv;
mod json;
#[cfg(feature = "parquet")]
mod parquet;

use std::{collections::HashSet, io::Write};

use listentop_model::{
    figures::{FIGURES, Kind as FigureKind, Unit, Value},
    histogram::Histogram,
    model::{ListenerModel, Model},
};

/// A format of the export.
#[derive(Debug)]
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for, in the help.
    pub help: &'static str,
    /// It is nothing that a terminal could show.
    pub is_binary: bool,
    /// Begins a table of these columns.
    pub begin: Begin,
}

/// Where a table is written to.
pub type Out = Box<dyn Write + Send>;

/// Begins a table.
pub type Begin = fn(&[Column], Out) -> anyhow::Result<Box<dyn Table>>;

/// Every format, the default first. The command line takes its list from here.
pub static FORMATS: &[Format] = &[
    Format { name: "csv", help: "Comma-separated, with names in the first line", is_binary: false, begin: csv::begin },
    Format { name: "json", help: "A JSON object in each line", is_binary: false, begin: json::begin },
    #[cfg(feature = "parquet")]
    Format {
        name: "parquet",
        help: "Apache Parquet, which DuckDB, pandas and Spark read",
        is_binary: true,
        begin: parquet::begin,
    },
];

/// The format of this name.
#[must_use]
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// A table that is being written.
pub trait Table {
    /// Adds a row, with a cell for each column.
    ///
    /// # Errors
    /// It cannot be written.
    fn row(&mut self, cells: Vec<Cell>) -> anyhow::Result<()>;

    /// Writes what is left.
    ///
    /// # Errors
    /// It cannot be written.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A moment.
    Time,
    /// A whole number.
    Number,
    /// Any number.
    Real,
    /// Yes or no.
    Flag,
    /// Text.
    Text,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its cells are.
    pub kind: Kind,
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// It is not known. This is never 0.
    Unknown,
    /// Milliseconds since the epoch.
    Time(u64),
    /// A whole number.
    Number(u64),
    /// Any number.
    Real(f64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(String),
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Unknown, Self::Text)
    }
}

impl From<Option<u64>> for Cell {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Unknown, Self::Number)
    }
}

/// What a distribution becomes: the end of a column's name, and how it is read. Durations are in microseconds.
type Part = (&'static str, fn(&Histogram, bool) -> Option<u64>);
const PARTS: [Part; 5] = [
    ("count", |h, _| Some(h.count())),
    ("p50", |h, is_time| quantile(h, 0.5, is_time)),
    ("p90", |h, is_time| quantile(h, 0.9, is_time)),
    ("p99", |h, is_time| quantile(h, 0.99, is_time)),
    ("max", |h, is_time| if is_time { h.max_us() } else { h.max_units() }),
];

fn quantile(h: &Histogram, p: f64, is_time: bool) -> Option<u64> {
    if is_time { h.quantile_us(p) } else { h.quantile_units(p) }
}

/// What identifies a row, before its figures.
type Identity = (&'static str, Kind, fn(&Place, &ListenerModel) -> Cell);
const IDENTITY: &[Identity] = &[
    ("time", Kind::Time, |place, _| Cell::Time(place.unix_ms)),
    ("measurement", Kind::Number, |place, _| Cell::Number(place.measurement)),
    ("sample", Kind::Number, |place, _| Cell::Number(place.sample)),
    ("listener", Kind::Number, |_, l| Cell::Number(l.id)),
    ("netns", Kind::Number, |_, l| Cell::Number(l.netns.into())),
    ("netns_name", Kind::Text, |_, l| l.netns_name.clone().into()),
    ("protocol", Kind::Text, |_, l| Cell::Text(l.protocol.to_string())),
    ("address", Kind::Text, |_, l| Cell::Text(l.address.to_string())),
    ("port", Kind::Number, |_, l| Cell::Number(l.port.into())),
    ("device", Kind::Text, |_, l| l.device.map(|device| device.name().to_owned()).into()),
    ("pid", Kind::Number, |_, l| l.process.as_ref().map(|process| u64::from(process.pid)).into()),
    ("comm", Kind::Text, |_, l| l.process.as_ref().map(|process| process.comm.clone()).into()),
    ("container", Kind::Text, |_, l| l.process.as_ref().and_then(|process| process.container.clone()).into()),
    ("pod", Kind::Text, |_, l| l.process.as_ref().and_then(|process| process.pod.clone()).into()),
    ("service", Kind::Text, |_, l| l.process.as_ref().and_then(|process| process.service.clone()).into()),
    ("container_name", Kind::Text, |_, l| l.process.as_ref().and_then(|p| p.container_name.clone()).into()),
    ("container_outer", Kind::Text, |_, l| l.process.as_ref().and_then(|p| p.container_outer.clone()).into()),
    ("pod_name", Kind::Text, |_, l| l.process.as_ref().and_then(|p| p.pod_name.clone()).into()),
    ("pod_namespace", Kind::Text, |_, l| l.process.as_ref().and_then(|p| p.pod_namespace.clone()).into()),
    ("closed", Kind::Flag, |_, l| Cell::Flag(l.closed)),
    ("pattern", Kind::Text, |_, l| Cell::Text(l.pattern.name.to_string())),
    ("severity", Kind::Text, |_, l| {
        let worst =
            l.findings.iter().filter(|finding| finding.until_unix_ms.is_none()).map(|finding| finding.severity).max();
        worst.map(|severity| severity.to_string()).into()
    }),
    ("findings", Kind::Text, |_, l| {
        let holding = l.findings.iter().filter(|finding| finding.until_unix_ms.is_none()).map(|finding| finding.id);
        Cell::Text(holding.collect::<Vec<_>>().join(" "))
    }),
];

/// Where a row comes from.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Wall clock of the sample, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// Which measurement of the recording, from 1 on. Counts of another are not comparable.
    pub measurement: u64,
    /// Which sample of the recording, from 0 on.
    pub sample: u64,
}

/// The columns.
#[must_use]
pub fn columns() -> Vec<Column> {
    let mut columns: Vec<Column> =
        IDENTITY.iter().map(|(name, kind, _)| Column { name: (*name).to_owned(), kind: *kind }).collect();
    for figure in FIGURES {
        let name = figure.path.replace('.', "_");
        let kind = match (figure.kind, figure.unit) {
            (FigureKind::Distribution, _) => {
                let part = |(part, _): &Part| Column { name: format!("{name}_{part}"), kind: Kind::Number };
                columns.extend(PARTS.iter().map(part));
                continue;
            }
            (FigureKind::Rate | FigureKind::Share, _) => Kind::Real,
            (_, Unit::Flag) => Kind::Flag,
            _ => Kind::Number,
        };
        columns.push(Column { name, kind });
    }
    columns
}

/// A listener's row.
#[must_use]
pub fn row(place: &Place, listener: &ListenerModel, model: &Model) -> Vec<Cell> {
    let mut cells: Vec<Cell> = IDENTITY.iter().map(|(_, _, read)| read(place, listener)).collect();
    for figure in FIGURES {
        let value = figure.value(listener, model.seconds_of(figure.measure));
        if figure.kind == FigureKind::Distribution {
            let is_time = figure.unit == Unit::Microseconds;
            let part = |(_, read): &Part| match value {
                Value::Distribution(h) => read(h, is_time).into(),
                _ => Cell::Unknown,
            };
            cells.extend(PARTS.iter().map(part));
            continue;
        }
        cells.push(match value {
            Value::Number(number) => Cell::Number(number),
            Value::Rate(rate) => Cell::Real(rate),
            Value::Flag(flag) => Cell::Flag(flag),
            Value::Unknown | Value::Distribution(_) => Cell::Unknown,
        });
    }
    cells
}

/// Writes models as rows.
pub struct Exporter {
    table: Box<dyn Table>,
    /// Listeners whose last row was written.
    closed: HashSet<u64>,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("closed", &self.closed.len()).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Begins a table.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(format: &Format, out: Out) -> anyhow::Result<Self> {
        Ok(Self { table: (format.begin)(&columns(), out)?, closed: HashSet::new() })
    }

    /// Another measurement begins.
    pub fn restart(&mut self) {
        self.closed.clear();
    }

    /// A row for each listener that passes. One that closed has its last row in the sample that shows it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn push(
        &mut self,
        place: &Place,
        model: &Model,
        passes: impl Fn(&ListenerModel) -> bool,
    ) -> anyhow::Result<()> {
        for listener in model.listeners.iter().filter(|listener| passes(listener)) {
            let is_known =
                if listener.closed { !self.closed.insert(listener.id) } else { self.closed.remove(&listener.id) };
            if !(listener.closed && is_known) {
                self.table.row(row(place, listener, model))?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> anyhow::Result<()> {
        self.table.finish()
    }
}

#[cfg(test)]
mod tests;
