use std::{
    io,
    sync::{Arc, Mutex},
};

use listentop_model::{fixtures, sample::Sample, tracker::Tracker};

use super::*;

/// Output that the test reads.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn export(name: &str, samples: &[Sample]) -> Vec<u8> {
    let out = Shared::default();
    let mut exporter = Exporter::begin(format(name).expect("a format"), Box::new(out.clone())).expect("it begins");
    let mut tracker: Option<Tracker> = None;
    for (number, sample) in samples.iter().enumerate() {
        let tracker = match &mut tracker {
            Some(tracker) => {
                tracker.push(sample);
                tracker
            }
            None => tracker.insert(Tracker::new(sample)),
        };
        let place = Place { unix_ms: sample.unix_ms, measurement: 1, sample: number as u64 };
        exporter.push(&place, tracker.model(), |_| true).expect("it is written");
    }
    exporter.finish().expect("it is written");
    std::mem::take(&mut *out.0.lock().expect("nobody panicked"))
}

#[test]
fn names_are_unique_and_every_figure_has_one() {
    let columns = columns();
    let names: HashSet<&str> = columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names.len(), columns.len());
    for figure in FIGURES {
        let name = figure.path.replace('.', "_");
        assert!(names.contains(&*name) || names.contains(&*format!("{name}_p99")), "{name}");
    }
}

#[test]
fn json_has_the_figures_of_the_report() {
    let samples = fixtures::distinct();
    let text = String::from_utf8(export("json", &samples)).expect("text");
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    let report = serde_json::to_value(crate::report::json(tracker.model())).expect("JSON");
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let listeners = report["listeners"].as_array().expect("a list");
    let last = &rows[rows.len() - listeners.len()..];
    for (listener, row) in listeners.iter().zip(last) {
        assert_eq!(listener["id"], row["listener"]);
        for figure in FIGURES {
            let reported = figure.path.split('.').fold(listener, |value, name| &value[name]);
            let name = figure.path.replace('.', "_");
            if figure.kind == FigureKind::Distribution {
                for (part, _) in PARTS {
                    assert_eq!(reported[part], row[format!("{name}_{part}")], "{name} {part}");
                }
            } else {
                assert_eq!(*reported, row[&name], "{name}");
            }
        }
    }
}

#[test]
fn csv_has_a_row_for_each_listener_and_sample() {
    let samples = fixtures::quiet();
    let text = String::from_utf8(export("csv", &samples)).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + samples.len() * 3);
    assert!(lines[0].starts_with("time,measurement,sample,listener,netns,netns_name,protocol,address,port,"));
    let columns = columns().len();
    assert!(lines.iter().all(|line| line.split(',').count() == columns), "no cell has a comma here");
    let unknown = String::from_utf8(export("csv", &fixtures::unavailable())).expect("text");
    assert!(unknown.lines().nth(1).expect("a row").contains(",,,"), "what is unknown is empty");
}

#[test]
fn a_closed_listener_has_a_last_row() {
    let mut samples = fixtures::quiet();
    let count = samples.len();
    for sample in &mut samples[4..] {
        sample.listeners.remove(0);
    }
    let text = String::from_utf8(export("json", &samples)).expect("text");
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let closed: Vec<_> = rows.iter().filter(|row| row["closed"] == true).collect();
    assert_eq!((closed.len(), &closed[0]["sample"]), (1, &4.into()));
    assert_eq!(rows.len(), count * 3 - (count - 5));
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_is_read_back() {
    use ::parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };

    let samples = fixtures::overflow();
    let reader = SerializedFileReader::new(bytes::Bytes::from(export("parquet", &samples))).expect("it is Parquet");
    let rows: Vec<_> = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), samples.len());
    let text = String::from_utf8(export("json", &samples)).expect("text");
    for ((row, line), sample) in rows.iter().zip(text.lines()).zip(&samples) {
        let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for ((name, field), column) in row.get_column_iter().zip(columns()) {
            assert_eq!(*name, column.name);
            let value: serde_json::Value = match field {
                Field::Null => serde_json::Value::Null,
                Field::Long(number) => (*number).into(),
                Field::Double(number) => (*number).into(),
                Field::Bool(flag) => (*flag).into(),
                Field::Str(text) => text.clone().into(),
                Field::TimestampMillis(time) => {
                    assert_eq!(*time, sample.unix_ms as i64);
                    json[name].clone()
                }
                other => panic!("{name}: {other}"),
            };
            assert_eq!(value, json[name], "{name}");
        }
    }
}
