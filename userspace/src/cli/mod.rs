//! The command line.

mod doctor;
mod feed;
mod filter;
mod options;
mod report;
mod top;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use crate::{
    errors, rights,
    say::say,
    source::{self, Source, StartError},
};
use options::{Cli, Command};

/// Everything went well.
const OK: u8 = 0;
/// Something failed on the way; one line on stderr says what.
const FAILED: u8 = 1;
/// What was asked for cannot be: an unknown option, or a filter that nothing can pass; one line on stderr says why.
const UNUSABLE: u8 = 2;
/// This machine, or this user, cannot run what was asked for; one line on stderr says why and what would help.
const IMPOSSIBLE: u8 = 3;
/// `listentop doctor`: some measure cannot be had here.
const PARTIAL: u8 = 4;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Parses the command line and runs it. Exit codes: 0 done, 1 failed, 2 unusable command line or a filter that nothing
/// can pass, 3 it cannot measure here, 4 (doctor only) some measure cannot be had, 128 + N the dashboard was ended by
/// signal N.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match (cli.useless(), &cli.command) {
        (Some(option), _) => Err(Failure::Usage(option)),
        (None, None | Some(Command::Top(_))) => top::run(&cli),
        (None, Some(Command::Report(report))) => report::run(&cli, report),
        (None, Some(Command::Doctor(doctor))) => doctor::run(&cli, doctor),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(format_args!("listentop: {}", one_line(&failure)));
            ExitCode::from(match failure {
                Failure::Usage(_) => UNUSABLE,
                Failure::Start(_) => IMPOSSIBLE,
                Failure::Other(_) => FAILED,
            })
        }
    }
}

/// Starts the source and gives up the rights that only starting it needed; if it is not the best there is, one line on
/// stderr says why and what would help.
fn start(options: &source::Options) -> Result<Box<dyn Source>, Failure> {
    let started = source::start(options)?;
    if let Some(notice) = started.notice {
        say(format_args!("listentop: {}", errors::one_line(&notice)));
    }
    rights::drop_after_attach().map_err(anyhow::Error::new)?;
    Ok(started.source)
}

/// Help and version as clap prints them; a mistake in one line.
fn usage(error: &clap::Error) -> ExitCode {
    let name = Cli::command().get_name().to_owned();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match written(error.print().and_then(|()| io::stdout().flush())) {
            Ok(()) => ExitCode::from(OK),
            Err(error) => {
                say(format_args!("{name}: standard output cannot be written: {error}"));
                ExitCode::from(FAILED)
            }
        };
    }
    let text = error.to_string();
    let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    say(format_args!("{name}: {} (try '{name} --help')", first.join(" ").trim_start_matches("error: ")));
    ExitCode::from(UNUSABLE)
}

/// A reader that has seen enough (`| head`) is no failure; a full disk is.
fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn one_line(failure: &Failure) -> String {
    let text = match failure {
        Failure::Usage(text) => text.clone(),
        Failure::Start(error) => error.to_string(),
        Failure::Other(error) => format!("{error:#}"),
    };
    errors::one_line(&text)
}
