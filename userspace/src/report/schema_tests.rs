//! The parts of `docs/schema.md` that are written by the program: the tables of figures, and the example.
//!
//! `UPDATE_DOCS=1 cargo test -p listentop --lib report` writes them anew.

use std::{fmt::Write as _, fs};

use listentop_model::{
    figures::{FIGURES, Figure, Kind},
    fixtures,
};
use serde::Serialize;

use super::json;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema.md");
const UPDATE: &str = "UPDATE_DOCS";

/// Replaces what stands between each pair of markers by what `write` makes of the words in the first one.
fn rewrite(text: &str, begin: &str, end: &str, write: impl Fn(&str) -> String) -> String {
    let mut parts = text.split(begin);
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (words, rest) = part.split_once("-->\n").expect("the marker ends");
        let (_, rest) = rest.split_once(end).expect("the end is marked");
        write!(written, "{begin}{words}-->\n{}{end}{rest}", write(words.trim_matches([':', ' ']))).expect("a string");
    }
    written
}

/// The rows of one part's figures.
fn table(part: &str) -> String {
    let mut text = "| field | meaning | `null` | unit | measure | group |\n|---|---|---|---|---|---|\n".to_owned();
    for figure in FIGURES.iter().filter(|figure| figure.place().0 == part) {
        let Figure { null, help, unit, measure, sum, .. } = figure;
        let distribution = if figure.kind == Kind::Distribution { "distribution: " } else { "" };
        let field = figure.place().1;
        writeln!(text, "| `{field}` | {distribution}{help} | {null} | {unit} | `{measure}` | {sum} |")
            .expect("a string");
    }
    text
}

/// The group and the first shard of the machine on which every figure is a different number.
fn example() -> String {
    let mut report = json(&fixtures::distinct_group());
    let (group, shard) = (&mut report.groups[0], &mut report.listeners[0]);
    // Sentences change more often than figures, and examples of them are elsewhere.
    for findings in [&mut group.findings, &mut shard.findings] {
        findings.clear();
    }
    for pattern in [&mut group.pattern, &mut shard.pattern] {
        pattern.evidence.clear();
    }
    format!("```json\n{}\n```\n\n```json\n{}\n```\n", pretty(group), pretty(shard))
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("a report is JSON")
}

#[test]
fn what_the_program_writes_of_the_schema_is_up_to_date() {
    let text = fs::read_to_string(PATH).expect("docs/schema.md is there");
    let parts = text.matches("<!-- figures: ").count();
    let mut named: Vec<&str> = FIGURES.iter().map(|figure| figure.place().0).collect();
    named.dedup();
    assert_eq!(parts, named.len(), "a table for each of {named:?}");
    let tables = rewrite(&text, "<!-- figures", "<!-- end of figures -->", table);
    let written = rewrite(&tables, "<!-- example", "<!-- end of example -->", |_| example());
    if std::env::var_os(UPDATE).is_some() {
        fs::write(PATH, written).expect("docs/schema.md can be written");
    } else {
        let differs = text.lines().zip(written.lines()).find(|(now, new)| now != new);
        assert!(text == written, "docs/schema.md is out of date: set {UPDATE}=1 and run this test again; {differs:#?}");
    }
}
