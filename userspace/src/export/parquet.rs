//! Apache Parquet. What is not known is null. Whole numbers are signed, so that differences can be negative.

use std::sync::Arc;

use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};

use super::{Cell, Column, Kind, Out, Table};

/// Rows that are written together: their columns compress as one, and the memory for them is bounded.
const GROUP: usize = 20_000;

struct Parquet {
    writer: SerializedFileWriter<Out>,
    columns: Vec<Values>,
    rows: usize,
}

/// The cells of a column: those that are known, and for each row whether it is.
struct Values {
    known: Vec<i16>,
    values: Typed,
}

enum Typed {
    Numbers(Vec<i64>),
    Reals(Vec<f64>),
    Flags(Vec<bool>),
    Texts(Vec<ByteArray>),
}

impl Typed {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Time | Kind::Number => Self::Numbers(Vec::new()),
            Kind::Real => Self::Reals(Vec::new()),
            Kind::Flag => Self::Flags(Vec::new()),
            Kind::Text => Self::Texts(Vec::new()),
        }
    }

    /// Adds a cell; false if it is not known.
    fn push(&mut self, cell: Cell) -> bool {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        match (self, cell) {
            (Self::Numbers(numbers), Cell::Number(number) | Cell::Time(number)) => numbers.push(whole(number)),
            (Self::Reals(reals), Cell::Real(real)) => reals.push(real),
            (Self::Flags(flags), Cell::Flag(flag)) => flags.push(flag),
            (Self::Texts(texts), Cell::Text(text)) => texts.push(ByteArray::from(text.into_bytes())),
            _ => return false,
        }
        true
    }

    fn clear(&mut self) {
        match self {
            Self::Numbers(values) => values.clear(),
            Self::Reals(values) => values.clear(),
            Self::Flags(values) => values.clear(),
            Self::Texts(values) => values.clear(),
        }
    }
}

fn field(column: &Column) -> anyhow::Result<Arc<Type>> {
    let (physical, logical) = match column.kind {
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
        Kind::Number => (Physical::INT64, None),
        Kind::Real => (Physical::DOUBLE, None),
        Kind::Flag => (Physical::BOOLEAN, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let builder = Type::primitive_type_builder(&column.name, physical);
    Ok(Arc::new(builder.with_repetition(Repetition::OPTIONAL).with_logical_type(logical).build()?))
}

pub(super) fn begin(columns: &[Column], out: Out) -> anyhow::Result<Box<dyn Table>> {
    let fields = columns.iter().map(field).collect::<anyhow::Result<_>>()?;
    let schema = Arc::new(Type::group_type_builder("listentop").with_fields(fields).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let columns = columns.iter().map(|column| Values { known: Vec::new(), values: Typed::of(column.kind) }).collect();
    Ok(Box::new(Parquet { writer, columns, rows: 0 }))
}

impl Table for Parquet {
    fn row(&mut self, cells: Vec<Cell>) -> anyhow::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            let known = column.values.push(cell);
            column.known.push(i16::from(known));
        }
        self.rows += 1;
        if self.rows == GROUP { self.write_group() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        if self.rows > 0 {
            self.write_group()?;
        }
        self.writer.close()?;
        Ok(())
    }
}

impl Parquet {
    fn write_group(&mut self) -> anyhow::Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column()? else {
                anyhow::bail!("the table has more columns than its schema")
            };
            let known = Some(&column.known[..]);
            match (writer.untyped(), &column.values) {
                (ColumnWriter::Int64ColumnWriter(writer), Typed::Numbers(values)) => {
                    writer.write_batch(values, known, None)?
                }
                (ColumnWriter::DoubleColumnWriter(writer), Typed::Reals(values)) => {
                    writer.write_batch(values, known, None)?
                }
                (ColumnWriter::BoolColumnWriter(writer), Typed::Flags(values)) => {
                    writer.write_batch(values, known, None)?
                }
                (ColumnWriter::ByteArrayColumnWriter(writer), Typed::Texts(values)) => {
                    writer.write_batch(values, known, None)?
                }
                _ => anyhow::bail!("a column is not of its kind"),
            };
            writer.close()?;
            column.known.clear();
            column.values.clear();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}
