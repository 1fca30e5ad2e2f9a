//! What `listentop report` prints: the interval as text, as JSON (schema 1, documented in `docs/schema.md`), or as a
//! page for a browser.

mod figures;
pub mod html;
pub mod json;
mod story;
pub mod table;

use anyhow::Context as _;
use listentop_model::{
    model::Model,
    words::{Charset, clean_json},
};

pub use self::{
    json::{Report, json},
    story::Story,
    table::table,
};

/// What a report depends on in addition to the model.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Remarks on what is in it.
    pub remarks: &'a [String],
    /// Columns of the terminal.
    pub width: usize,
    /// The characters that it can show. JSON is UTF-8 always (RFC 8259).
    pub charset: Charset,
    /// What happened over time; formats that show it ([`Format::is_story`]) get it.
    pub story: Option<&'a Story>,
}

/// A format of the report.
#[derive(Debug)]
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// Whom it is for, in the help.
    pub help: &'static str,
    /// It shows what happened over time, too.
    pub is_story: bool,
    /// Writes a report, with a newline at its end.
    pub write: fn(&Model, &Page<'_>) -> anyhow::Result<String>,
}

/// Every format, the default first. The command line takes its list from here.
pub static FORMATS: &[Format] = &[
    Format {
        name: "table",
        help: "For people",
        is_story: false,
        write: |model, page| Ok(page.charset.of_text(&table(model, page.remarks, page.width)).into_owned()),
    },
    Format {
        name: "json",
        help: "For programs: schema 1, see docs/schema.md",
        is_story: false,
        write: |model, _| {
            let json = serde_json::to_string(&json(model)).context("the report cannot be written as JSON")? + "\n";
            // It may be shown on a terminal, too.
            Ok(clean_json(&json).into_owned())
        },
    },
    Format {
        name: "html",
        help: "For a browser: one page that needs nothing else, with what happened over time",
        is_story: true,
        write: |model, page| Ok(html::html(model, page)),
    },
];

/// The format of this name.
#[must_use]
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
