//! The table of kernels, backends and measures, for the terminal and for docs/kernels.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::iter;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::expected::{Entry, Expected};

/// The document that the table is part of.
pub(crate) const DOCUMENT: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- begin: written by `cargo xtask kernels --write` -->";
const END: &str = "<!-- end -->";

/// For the terminal: one table for each backend, with one column for each kernel.
pub(crate) fn plain(table: &Expected) -> String {
    let mut text = String::new();
    for backend in backends(table) {
        let entries = of_backend(table, backend);
        let width = |entry: &&Entry| entry.kernel.len().max("unavailable".len());
        let _ = write!(text, "\n{backend:<20}");
        for entry in &entries {
            let _ = write!(text, "  {:<1$}", entry.kernel, width(entry));
        }
        text.push('\n');
        for measure in &table.measures {
            let _ = write!(text, "{measure:<20}");
            for entry in &entries {
                let _ = write!(text, "  {:<1$}", cell(entry, measure), width(entry));
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
    }
    text
}

fn cell(entry: &Entry, measure: &str) -> &'static str {
    if entry.refused.is_some() { "refused" } else { entry.status(measure).unwrap_or("-") }
}

fn backends(table: &Expected) -> Vec<&str> {
    let mut backends: Vec<&str> = Vec::new();
    for entry in &table.runs {
        if !backends.contains(&entry.backend.as_str()) {
            backends.push(&entry.backend);
        }
    }
    backends
}

fn of_backend<'a>(table: &'a Expected, backend: &str) -> Vec<&'a Entry> {
    table.runs.iter().filter(|entry| entry.backend == backend).collect()
}

/// For the document: the same, with the reasons and the tests that cannot run.
pub(crate) fn markdown(table: &Expected) -> String {
    let mut text = String::new();
    for backend in backends(table) {
        let entries = of_backend(table, backend);
        let _ = writeln!(text, "\n### {backend}\n");
        let (running, refused): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.refused.is_none());
        for entry in &refused {
            let _ = writeln!(text, "- {}: refused. {}", entry.kernel, entry.refused.as_deref().unwrap_or_default());
        }
        if !refused.is_empty() {
            text.push('\n');
        }
        if running.is_empty() {
            continue;
        }
        let row = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        text += &row(iter::once("measure").chain(running.iter().map(|entry| entry.kernel.as_str())).collect());
        text += "|---|";
        text += &"---|".repeat(running.len());
        text.push('\n');
        for measure in &table.measures {
            text +=
                &row(iter::once(&*format!("`{measure}`")).chain(running.iter().map(|e| cell(e, measure))).collect());
        }
        let reasons = |of: fn(&Entry) -> &BTreeMap<String, String>| grouped(&running, of);
        section(&mut text, "Sampled, because:", &reasons(|entry| &entry.sampled));
        section(&mut text, "Unavailable, because:", &reasons(|entry| &entry.unavailable));
        section(&mut text, "Tests that cannot run:", &reasons(|entry| &entry.skipped));
        section(&mut text, "Tests that are known to fail:", &reasons(|entry| &entry.failing));
    }
    text
}

/// A reason, with the measures or tests and the kernels that it concerns.
struct Group {
    reason: String,
    names: Vec<String>,
    kernels: Vec<String>,
}

/// Reasons in the order of their first appearance, each once for the same kernels.
fn grouped(entries: &[&Entry], of: fn(&Entry) -> &BTreeMap<String, String>) -> Vec<Group> {
    let mut single: Vec<Group> = Vec::new();
    for entry in entries {
        for (name, reason) in of(entry) {
            match single.iter_mut().find(|group| group.reason == *reason && group.names[0] == *name) {
                Some(group) => group.kernels.push(entry.kernel.clone()),
                None => single.push(Group {
                    reason: reason.clone(),
                    names: vec![name.clone()],
                    kernels: vec![entry.kernel.clone()],
                }),
            }
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for one in single {
        match groups.iter_mut().find(|group| group.reason == one.reason && group.kernels == one.kernels) {
            Some(group) => group.names.extend(one.names),
            None => groups.push(one),
        }
    }
    groups
}

fn section(text: &mut String, heading: &str, groups: &[Group]) {
    if groups.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{heading}\n");
    for group in groups {
        let names: Vec<String> = group.names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "- {} ({}): {}", names.join(", "), group.kernels.join(", "), group.reason);
    }
}

/// Returns the document with the table between its marks.
fn embed(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

/// Writes the table into the document.
///
/// # Errors
/// When the document cannot be read or written, or has lost its marks.
pub(crate) fn write(root: &Path, table: &Expected) -> Result<()> {
    let path = root.join(DOCUMENT);
    fs::write(&path, updated(&path, table)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Whether the document shows this table.
///
/// # Errors
/// As [`write()`].
pub(crate) fn is_current(root: &Path, table: &Expected) -> Result<bool> {
    let path = root.join(DOCUMENT);
    Ok(updated(&path, table)? == fs::read_to_string(&path)?)
}

fn updated(path: &Path, table: &Expected) -> Result<String> {
    let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    embed(&document, &markdown(table))
        .with_context(|| format!("{} has lost the marks around its table", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{embed, is_current, markdown, plain};
    use crate::expected::{Entry, Expected};

    fn table() -> Expected {
        let entry = |kernel: &str, sampled: &[(&str, &str)]| Entry {
            kernel: kernel.to_owned(),
            backend: "tracepoint".to_owned(),
            measured: vec!["enqueued".to_owned()],
            sampled: sampled.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect(),
            ..Entry::default()
        };
        let mut refused = entry("6.1", &[]);
        refused.refused = Some("no sk_data_ready".to_owned());
        let both = [("drops", "inferred"), ("drop_cause", "inferred")];
        Expected {
            measures: ["enqueued", "drops", "drop_cause"].map(str::to_owned).to_vec(),
            runs: vec![refused, entry("6.12", &both), entry("6.18", &both)],
        }
    }

    #[test]
    fn on_a_terminal() {
        let expected = "
tracepoint            6.1          6.12         6.18
enqueued              refused      measured     measured
drops                 refused      sampled      sampled
drop_cause            refused      sampled      sampled
";
        let text: Vec<String> = plain(&table()).lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(text, expected.lines().collect::<Vec<_>>());
    }

    #[test]
    fn reasons_appear_once() {
        let text = markdown(&table());
        assert!(text.contains("- 6.1: refused. no sk_data_ready\n"), "{text}");
        assert!(text.contains("| `drops` | sampled | sampled |\n"), "{text}");
        assert!(text.contains("- `drop_cause`, `drops` (6.12, 6.18): inferred\n"), "{text}");
    }

    #[test]
    fn the_rest_of_the_document_stays() {
        let document = format!("# Kernels\n{}\nold\n{}\nmore\n", super::BEGIN, super::END);
        let updated = embed(&document, "new").unwrap();
        assert_eq!(updated, format!("# Kernels\n{}\nnew\n{}\nmore\n", super::BEGIN, super::END));
        assert_eq!(embed(&updated, "new").as_ref(), Some(&updated));
        assert_eq!(embed("no marks", "new"), None);
    }

    #[test]
    fn the_committed_document_shows_the_committed_table() {
        let root = xtask_support::cargo::root();
        let table = Expected::read(&root).unwrap();
        assert!(is_current(&root, &table).unwrap(), "run `cargo xtask kernels --write`, or edit both alike");
    }
}
