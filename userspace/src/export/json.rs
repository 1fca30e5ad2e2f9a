//! JSON, an object in each line. What is not known is `null`.

use std::io::{BufWriter, Write as _};

use listentop_model::words::utc;
use serde::ser::{SerializeMap as _, Serializer as _};

use super::{Cell, Column, Out, Table};

struct Json {
    names: Vec<String>,
    out: BufWriter<Out>,
}

#[expect(clippy::unnecessary_wraps, reason = "every format begins alike")]
pub(super) fn begin(columns: &[Column], out: Out) -> anyhow::Result<Box<dyn Table>> {
    let names = columns.iter().map(|column| column.name.clone()).collect();
    Ok(Box::new(Json { names, out: BufWriter::new(out) }))
}

impl Table for Json {
    fn row(&mut self, cells: Vec<Cell>) -> anyhow::Result<()> {
        let mut writer = serde_json::Serializer::new(&mut self.out);
        let mut map = writer.serialize_map(Some(cells.len()))?;
        for (name, cell) in self.names.iter().zip(&cells) {
            match cell {
                Cell::Unknown => map.serialize_entry(name, &())?,
                Cell::Time(unix_ms) => map.serialize_entry(name, &utc(*unix_ms))?,
                Cell::Number(number) => map.serialize_entry(name, number)?,
                Cell::Real(number) => map.serialize_entry(name, number)?,
                Cell::Flag(flag) => map.serialize_entry(name, flag)?,
                Cell::Text(text) => map.serialize_entry(name, text)?,
            }
        }
        map.end()?;
        Ok(self.out.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}
