//! The width of comments in Rust files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::sources;

/// The widest comment, as `max_width` in rustfmt.toml.
pub(crate) const COLUMNS: usize = 120;

/// A comment that is too wide.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    file: PathBuf,
    line: usize,
    columns: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: a comment of {} columns", self.file.display(), self.line, self.columns)
    }
}

/// All comments in Rust files below `root` that are too wide.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn wide_comments(root: &Path) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for path in sources::rust_files(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.strip_prefix(root).unwrap_or(&path);
        places.extend(wide_lines(&text).map(|(line, columns)| Place { file: file.to_owned(), line, columns }));
    }
    Ok(places)
}

/// Numbers and widths of lines that hold only a comment and are too wide. A single long word, such as an address,
/// cannot be wrapped.
fn wide_lines(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let comment = line.trim_start().strip_prefix("//")?;
        let columns = line.chars().count();
        let words = comment.trim_start_matches(['/', '!']).split_whitespace().count();
        (columns > COLUMNS && words > 1).then_some((index + 1, columns))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{Place, wide_comments, wide_lines};

    #[test]
    fn a_comment_may_have_120_columns() {
        let comment = |columns: usize| format!("    /// two {}", "é".repeat(columns - 12));
        let text = format!("{}\n{}\nlet x = 1;\n", comment(120), comment(121));
        assert_eq!(wide_lines(&text).collect::<Vec<_>>(), [(2, 121)]);
    }

    #[test]
    fn code_strings_and_long_words_are_not_wide_comments() {
        let long = "x".repeat(130);
        let text = format!("let url = \"https://{long} y\";\n// https://{long}\n//! {long}\n");
        assert_eq!(wide_lines(&text).count(), 0);
    }

    #[test]
    fn places_have_file_and_line_and_built_files_are_left_out() {
        let root = std::env::temp_dir().join(format!("listentop-width-{}", std::process::id()));
        let wide = format!("fn a() {{}}\n// two {}\n", "x".repeat(130));
        for file in ["src/a.rs", "target/b.rs", ".git/c.rs", "src/d.txt"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), &wide).unwrap();
        }
        let places = wide_comments(&root);
        fs::remove_dir_all(&root).unwrap();
        let expected = Place { file: PathBuf::from("src/a.rs"), line: 2, columns: 137 };
        assert_eq!(expected.to_string(), "src/a.rs:2: a comment of 137 columns");
        assert_eq!(places.unwrap(), [expected]);
    }
}
