//! `listentop doctor`.

use anyhow::Context as _;

use listentop_model::words::clean_json;

use super::{
    Failure, IMPOSSIBLE, OK, PARTIAL, limits,
    options::{Cli, Doctor, Format},
    print,
    report::width,
};
use crate::{
    doctor::{Diagnosis, Verdict, table},
    output,
    say::charset,
};

/// Width of the table if standard output is not a terminal.
const WIDTH: u16 = 80;

pub(super) fn run(cli: &Cli, options: &Doctor) -> Result<u8, Failure> {
    output::check().map_err(|error| Failure::Output("the diagnosis", error))?;
    limits::raise();
    let diagnosis = Diagnosis::make(&cli.probing.options());
    let text = match options.format {
        Format::Json => {
            let json = serde_json::to_string(&diagnosis).context("the diagnosis cannot be written as JSON")? + "\n";
            clean_json(&json).into_owned()
        }
        Format::Table => charset().of_text(&table(&diagnosis, usize::from(width(WIDTH)))).into_owned(),
    };
    print("the diagnosis", &text)?;
    Ok(match diagnosis.verdict {
        Verdict::Complete => OK,
        Verdict::Partial => PARTIAL,
        Verdict::Impossible => IMPOSSIBLE,
    })
}
