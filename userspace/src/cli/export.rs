//! `listentop export`.

use std::io::{self, IsTerminal as _, Write};

use anyhow::Context as _;

use super::{
    Failure, OK,
    options::{Cli, Export},
    recorded::{Recorded, folder},
};
use crate::{
    export::{Exporter, Place},
    output,
    say::say,
};

/// What is written, in messages.
const TABLE: &str = "the table";

pub(super) fn run(cli: &Cli, options: &Export) -> Result<u8, Failure> {
    for note in cli.filter.notes() {
        say(format_args!("listentop: {note}"));
    }
    let writes = options.output.as_deref().map(folder).into_iter().collect();
    let recorded = Recorded::open(cli, &options.file, writes)?;
    let runs = recorded.recording.runs();
    let parts: Vec<_> = if options.part.is_all() && options.duration.is_none() {
        runs.iter().map(|run| run.samples.clone()).collect()
    } else {
        vec![recorded.part(&options.part, options.duration)?]
    };
    let mut exporter = Exporter::begin(options.format, open(options)?).map_err(written)?;
    for part in parts {
        let measurement = runs.iter().position(|run| run.samples.contains(&part.start)).map_or(0, |at| at as u64 + 1);
        exporter.restart();
        recorded.follow(part, |sample, model| {
            let place = Place { unix_ms: recorded.time(sample), measurement, sample: sample as u64 };
            exporter
                .push(&place, model, |listener| cli.filter.is_empty() || cli.filter.passes(listener))
                .map_err(written)
        })?;
    }
    exporter.finish().map_err(written)?;
    Ok(OK)
}

/// Standard output, or a file that is not there yet.
fn open(options: &Export) -> Result<Box<dyn Write + Send>, Failure> {
    let Some(path) = &options.output else {
        output::check().map_err(|error| Failure::Output(TABLE, error))?;
        if options.format.is_binary && io::stdout().is_terminal() {
            let name = options.format.name;
            return Err(Failure::Usage(format!(
                "{name} is nothing for a terminal: give --output FILE, or redirect it"
            )));
        }
        return Ok(Box::new(output::Stdout));
    };
    // Like the recording: addresses and names of programs. And like it by no link of another user's.
    Ok(Box::new(listentop_recording::create(path).with_context(|| path.display().to_string())?))
}

/// A failure to write the table; if nobody reads it any more, that is what it is.
fn written(error: anyhow::Error) -> Failure {
    let gone = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe);
    if gone {
        Failure::Output(TABLE, io::ErrorKind::BrokenPipe.into())
    } else {
        Failure::Other(error.context("the table cannot be written"))
    }
}
