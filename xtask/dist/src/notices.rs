//! The licences of what is linked into the program: most ask that their text goes with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use crate::dependencies::Dependency;

/// How the names of files with licences begin, in capitals.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// What comes with the compiler: the standard library, and for a static program the C library.
const COMPILER: &str = "\
The standard library of Rust (https://www.rust-lang.org), MIT OR Apache-2.0, copyright the Rust Project contributors.
musl, the C library (https://musl.libc.org), MIT, copyright 2005-2020 Rich Felker and others.
";

/// A text that names the crates, and has each licence's text once, with the crates that it is of.
///
/// # Errors
/// The source of a crate cannot be read.
pub(crate) fn document(dependencies: &[Dependency]) -> Result<String> {
    let others: Vec<&Dependency> = dependencies.iter().filter(|dependency| dependency.checksum.is_some()).collect();
    let mut text = String::from("listentop is one static program. These are linked into it:\n\n");
    text.push_str(COMPILER);
    // By its words: the same text with other margins is the same text.
    let mut texts: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for dependency in &others {
        let Dependency { name, version, licence, .. } = dependency;
        let _ = writeln!(text, "{name} {version}, {}", licence.as_deref().unwrap_or("licence unknown"));
        for licence in licences(dependency)? {
            let words = licence.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.entry(words).or_insert_with(|| (licence, Vec::new())).1.push(format!("{name} {version}"));
        }
    }
    let mut texts: Vec<(String, Vec<String>)> = texts.into_values().collect();
    texts.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    for (licence, of) in texts {
        let _ = write!(text, "\n{}\n{}\n\n{licence}\n", "=".repeat(78), of.join(", "));
    }
    Ok(text)
}

/// The texts beside the source.
fn licences(dependency: &Dependency) -> Result<Vec<String>> {
    let folder = &dependency.folder;
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|known| name.starts_with(known)) && entry.path().is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned())
    };
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::document;

    #[test]
    fn every_crate_is_named_and_each_text_is_there_once() {
        let all = crate::dependencies::of(&xtask_support::cargo::root(), "x86_64-unknown-linux-musl").unwrap();
        let text = document(&all).unwrap();
        for dependency in all.iter().filter(|dependency| dependency.checksum.is_some()) {
            assert!(text.contains(&format!("\n{} {}, ", dependency.name, dependency.version)), "{dependency:?}");
        }
        let apache = "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION";
        let times = text.matches(apache).count();
        assert!((1..all.len() / 5).contains(&times), "{times} times");
        assert!(text.contains("musl, the C library"));
    }
}
