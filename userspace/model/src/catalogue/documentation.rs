//! The tables of docs/patterns-and-findings.md, made from what the files of patterns and findings declare.
//!
//! With `UPDATE_DOCS` set the test writes them into the document instead of comparing them.

use std::{fmt::Write, fs, path::Path};

use super::{Threshold, fill};
use crate::{findings, patterns};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/patterns-and-findings.md");

/// What readers are for: the bounds of `patterns/lifetime.rs` in sentences.
const POOL: &str = "\
Readers are a *pool* if those with two connections or more made {FITS} of the first reads. If no connection was first read in the
interval, they are a pool if there were {ACCEPTS_PER_READER} accepts per reader.

Readers serve *one connection each* if three conditions hold:

- Threads with one connection each made {FITS} of the first reads.
- There are at least {MIN_THREADS} such threads.
- At least {MORTAL} of them have ended, or their starts are more than {TOGETHER_US} apart. Threads of a new pool that each got their
  first connection look the same, but start together.
";

fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    cells.into_iter().fold(String::from("|"), |line, cell| line + " " + cell + " |") + "\n"
}

fn table(heads: &[&str], rows: impl IntoIterator<Item = String>) -> String {
    let mut text = row(heads.iter().copied());
    writeln!(text, "|{}", "---|".repeat(heads.len())).expect("a String takes all");
    text.extend(rows);
    text
}

/// `whose`: the first cell, if the table has one for it.
fn threshold(whose: Option<&str>, t: &Threshold) -> String {
    let (name, value, why) = (format!("`{}`", t.name), t.value.to_string(), t.why.trim());
    row(whose.into_iter().chain([name.as_str(), value.as_str(), why]))
}

fn pattern_thresholds() -> Vec<Threshold> {
    patterns::SHARED.iter().copied().flatten().copied().collect()
}

/// The sections of the document by their names.
fn sections() -> [(&'static str, String); 6] {
    let patterns = patterns::ALL.iter().map(|p| row([format!("`{}`", p.name).as_str(), p.seen, p.programs]));
    let unknown = row(["`unknown`", "anything else; the evidence says what was seen", ""]);
    let pattern_thresholds = pattern_thresholds();
    let findings = findings::ALL.iter().map(|f| {
        let thresholds: Vec<Threshold> = f.thresholds.iter().chain(findings::SHARED).copied().collect();
        let text = |text| fill(text, &thresholds);
        row([format!("`{}`", f.id).as_str(), f.meaning, &text(f.when), &text(f.severity)])
    });
    let explained = findings::ALL.iter().filter(|f| !f.follows_from.is_empty()).map(|f| {
        let causes: Vec<String> = f.follows_from.iter().map(|id| format!("`{id}`")).collect();
        row([format!("`{}`", f.id).as_str(), &causes.join(", ")])
    });
    let own = findings::ALL.iter().flat_map(|f| {
        let id = format!("`{}`", f.id);
        f.thresholds.iter().map(move |t| threshold(Some(&id), t))
    });
    let shared = findings::SHARED.iter().map(|t| threshold(Some("several"), t));
    [
        ("patterns", table(&["pattern", "what must be seen", "programs"], patterns.chain([unknown]))),
        (
            "pattern thresholds",
            table(&["threshold", "value", "why"], pattern_thresholds.iter().map(|t| threshold(None, t))),
        ),
        ("pool", fill(POOL, &pattern_thresholds)),
        ("findings", table(&["finding", "what it means", "when", "severity"], findings)),
        ("finding causes", table(&["finding", "follows from, the nearest first"], explained)),
        ("finding thresholds", table(&["finding", "threshold", "value", "why"], shared.chain(own))),
    ]
}

/// The document with its sections made anew.
fn made(document: &str) -> String {
    sections().into_iter().fold(document.to_owned(), |document, (name, section)| {
        let start = format!("<!-- {name} -->\n");
        let (before, rest) = document.split_once(&start).unwrap_or_else(|| panic!("no section {name}"));
        let (_, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("section {name} has no end"));
        format!("{before}{start}{section}<!-- end -->{after}")
    })
}

#[test]
fn the_document_has_the_tables_that_the_code_declares() {
    let path = Path::new(DOCUMENT);
    let document = fs::read_to_string(path).unwrap();
    let made = made(&document);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, made).unwrap();
        return;
    }
    for (line, (written, made)) in document.lines().zip(made.lines()).enumerate() {
        assert_eq!(written, made, "line {}: write the tables anew with UPDATE_DOCS=1", line + 1);
    }
    assert_eq!(document, made, "write the tables anew with UPDATE_DOCS=1");
}

#[test]
fn texts_name_every_threshold_and_no_other() {
    let texts = sections().map(|(_, text)| text).concat();
    assert!(!texts.contains('{') && !texts.contains('}'), "a name that is no threshold's");
    for kind in findings::ALL {
        for t in kind.thresholds {
            let name = format!("{{{}}}", t.name);
            assert!(kind.when.contains(&name) || kind.severity.contains(&name), "{} does not say {name}", kind.id);
        }
    }
    for text in findings::ALL.iter().flat_map(|f| [f.id, f.meaning, f.when, f.severity]) {
        assert_ne!(text, "");
    }
}
