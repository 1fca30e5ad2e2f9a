//! Exported tables, as others read them: DuckDB on Parquet, Python on CSV and JSON.
//!
//! DuckDB comes from PyPI, into a virtual environment in the target directory. Without Python, its module venv or the
//! network, the tests are skipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

use serde_json::Value;
use test_harness::{Test, pypi};

/// A recording of a listener that refuses clients.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/overflow_format_1.rec");

fn main() -> ExitCode {
    const TESTS: &[Test] = &[
        Test { name: "tables::duckdb_reads_parquet", run: parquet },
        Test { name: "tables::python_reads_csv", run: csv },
        Test { name: "tables::of_a_part_and_of_some_listeners", run: part },
        Test { name: "tables::what_is_there_is_not_overwritten", run: not_overwritten },
    ];
    test_harness::run(&[TESTS], || None)
}

fn listentop(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_listentop")).args(arguments).output().expect("listentop runs")
}

/// The rows of an export, as JSON.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = listentop(&[&["export", RECORDING, "--format", "json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Python with DuckDB.
fn python() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tables-venv");
    pypi::environment(&directory, "duckdb", "duckdb").join("bin/python")
}

/// Runs a program in Python, which prints JSON.
fn run(program: &str, argument: &Path) -> Value {
    let output = Command::new(python()).args(["-c", program]).arg(argument).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn parquet() {
    const PROGRAM: &str = r#"
import duckdb, json, sys
table = f"'{sys.argv[1]}'"
one = lambda query: duckdb.sql(query).fetchall()[0]
types = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {table})").fetchall())
print(json.dumps({
    "types": types,
    "rows": one(f"SELECT count(*) FROM {table}")[0],
    "accepts": one(f"SELECT max(accepts_total)::BIGINT FROM {table}")[0],
    "p99": one(f"SELECT max(accept_queue_wait_us_p99)::BIGINT FROM {table}")[0],
    "unknown": one(f"SELECT count(*) FROM {table} WHERE drops_clients IS NULL")[0],
    "grown": one(f"SELECT sum(d)::BIGINT FROM (SELECT drops_total - lag(drops_total) OVER (PARTITION BY listener ORDER BY sample) d FROM {table})")[0],
    "first": str(one(f"SELECT strftime(min(time) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%gZ') FROM {table}")[0]),
    "critical": one(f"SELECT count(*) FROM {table} WHERE severity = 'critical'")[0],
}))
"#;
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("table.parquet");
    let path = file.display().to_string();
    let output = listentop(&["export", RECORDING, "--format", "parquet", "--output", &path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = run(PROGRAM, &file);
    let rows = rows(&[]);
    for (column, kind) in [
        ("time", "TIMESTAMP WITH TIME ZONE"),
        ("port", "BIGINT"),
        ("address", "VARCHAR"),
        ("closed", "BOOLEAN"),
        ("accepts_per_second", "DOUBLE"),
        ("accept_queue_wait_us_p99", "BIGINT"),
    ] {
        assert_eq!(found["types"][column], kind, "{column}");
    }
    let largest = |name: &str| rows.iter().filter_map(|row| row[name].as_u64()).max();
    let count = |is: &dyn Fn(&Value) -> bool| rows.iter().filter(|row| is(row)).count();
    assert_eq!(found["rows"], rows.len());
    assert_eq!(found["accepts"].as_u64(), largest("accepts_total"));
    assert_eq!(found["p99"].as_u64(), largest("accept_queue_wait_us_p99"));
    assert_eq!(found["unknown"], count(&|row| row["drops_clients"].is_null()));
    assert_eq!(found["critical"], count(&|row| row["severity"] == "critical"));
    assert_eq!(found["grown"].as_u64(), largest("drops_total"), "it begins at 0");
    assert_eq!(found["first"], rows[0]["time"]);
    assert!(largest("drops_total") > Some(0) && count(&|row| row["severity"] == "critical") > 0);
}

fn csv() {
    const PROGRAM: &str = r#"
import csv, json, sys
print(json.dumps(list(csv.DictReader(open(sys.argv[1], newline="")))))
"#;
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("table.csv");
    fs::write(&file, listentop(&["export", RECORDING]).stdout).expect("it is written");
    let found = run(PROGRAM, &file);
    let rows = rows(&[]);
    assert_eq!(found.as_array().map(Vec::len), Some(rows.len()));
    for (found, row) in found.as_array().expect("a list").iter().zip(&rows) {
        for (name, value) in row.as_object().expect("an object") {
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Number(number) if number.is_f64() => {
                    let parsed = found[name].as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
                    let number = number.as_f64().unwrap_or_default();
                    // serde_json reads some to the last digit but one.
                    assert!((parsed - number).abs() <= number.abs() * 1e-12, "{name}: {parsed}, not {number}");
                    continue;
                }
                other => other.to_string(),
            };
            assert_eq!(found[name], text, "{name}");
        }
    }
}

fn part() {
    let all = rows(&[]);
    let late = rows(&["--since", "-2s"]);
    assert!(!late.is_empty() && late.len() < all.len());
    assert_eq!(late.last().map(|row| &row["sample"]), all.last().map(|row| &row["sample"]));
    // Counts are those of the part.
    assert!(late[0]["accepts_total"].as_u64() < all[all.len() - late.len()]["accepts_total"].as_u64());
    let port = all[0]["port"].to_string();
    assert_eq!(rows(&["--port", &port]).len(), all.iter().filter(|row| row["port"] == all[0]["port"]).count());
    assert_eq!(rows(&["--port", "1"]).len(), 0);
}

fn not_overwritten() {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("mine");
    fs::write(&file, "mine").expect("it is written");
    let output = listentop(&["export", RECORDING, "--output", &file.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("File exists"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "mine");
}
