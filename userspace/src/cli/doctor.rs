//! `listentop doctor`.

use anyhow::Context as _;

use super::{
    Failure, IMPOSSIBLE, OK, PARTIAL,
    options::{Cli, Doctor, Format},
    report::{print, width},
};
use crate::doctor::{Diagnosis, Verdict, table};

/// Width of the table if standard output is not a terminal.
const WIDTH: u16 = 80;

pub(super) fn run(cli: &Cli, options: &Doctor) -> Result<u8, Failure> {
    let diagnosis = Diagnosis::make(&cli.probing.options());
    let text = match options.format {
        Format::Json => serde_json::to_string(&diagnosis).context("the diagnosis cannot be written as JSON")? + "\n",
        Format::Table => table(&diagnosis, usize::from(width(WIDTH))),
    };
    print(&text)?;
    Ok(match diagnosis.verdict {
        Verdict::Complete => OK,
        Verdict::Partial => PARTIAL,
        Verdict::Impossible => IMPOSSIBLE,
    })
}
