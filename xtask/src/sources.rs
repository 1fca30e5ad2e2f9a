//! The Rust files of the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// All Rust files below `root`, sorted: without what cargo builds, and without hidden directories.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    add(root, &mut files)?;
    files.sort_unstable();
    Ok(files)
}

fn add(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.') || name == "target";
        if entry.file_type().with_context(context)?.is_dir() {
            if !hidden {
                add(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether the doc comments of a source have a block of code that rustdoc would run.
pub(crate) fn has_documentation_test(source: &str) -> bool {
    let comments = source.lines().map(str::trim_start);
    let comments = comments.filter_map(|line| line.strip_prefix("///").or_else(|| line.strip_prefix("//!")));
    // Each second one closes a block.
    let mut fences = comments.filter_map(|text| text.trim_start().strip_prefix("```"));
    while let Some(language) = fences.next() {
        let is_run = ["", "rust", "no_run", "compile_fail", "should_panic", "edition"];
        if language.split([',', ' ']).any(|word| is_run.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit())))
        {
            return true;
        }
        fences.next();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::has_documentation_test;

    #[test]
    fn only_blocks_that_rustdoc_runs_are_tests() {
        for (source, is_test) in [
            ("/// ```\n/// f();\n/// ```", true),
            ("    //! ```rust,no_run\n//! ```", true),
            ("/// ```edition2024\n/// ```", true),
            ("/// ```text\n/// a ─ b\n/// ```\n/// ```json\n/// ```", false),
            ("/// ```text\n/// ```\n/// ```\n/// f();\n/// ```", true),
            ("// ```\nlet text = \"/// ```\";", false),
        ] {
            assert_eq!(has_documentation_test(source), is_test, "{source}");
        }
    }
}
