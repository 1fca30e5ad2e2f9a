//! Comma-separated values (RFC 4180). What is not known is empty.

use listentop_model::words::utc;

use super::{Cell, Column, Out, Table};

struct Csv(csv::Writer<Out>);

pub(super) fn begin(columns: &[Column], out: Out) -> anyhow::Result<Box<dyn Table>> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(columns.iter().map(|column| &column.name))?;
    Ok(Box::new(Csv(writer)))
}

impl Table for Csv {
    fn row(&mut self, cells: Vec<Cell>) -> anyhow::Result<()> {
        let text = |cell: Cell| match cell {
            Cell::Unknown => String::new(),
            Cell::Time(unix_ms) => utc(unix_ms),
            Cell::Number(number) => number.to_string(),
            Cell::Real(number) => number.to_string(),
            Cell::Flag(flag) => flag.to_string(),
            Cell::Text(text) => text,
        };
        Ok(self.0.write_record(cells.into_iter().map(text))?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}
