//! The command line.

mod doctor;
mod feed;
mod filter;
mod options;
mod report;
mod top;
mod values;

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

/// Success.
const OK: u8 = 0;
/// Failure; one line on stderr names it.
const FAILED: u8 = 1;
/// A wrong command line, or a filter that no listener can pass; one line on stderr explains it.
const UNUSABLE: u8 = 2;
/// Nothing can be measured on this machine, or by this user; one line on stderr explains why, and what would help.
const IMPOSSIBLE: u8 = 3;
/// `listentop doctor`: some measures are unavailable.
const PARTIAL: u8 = 4;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Parses the command line and runs it. `listentop --help` lists the exit codes.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match (cli.misplaced(), &cli.command) {
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

/// Starts the source and gives up the privileges that only the start required. If it is not the best source, one line
/// on stderr explains why, and what would help.
fn start(options: &source::Options) -> Result<Box<dyn Source>, Failure> {
    let started = source::start(options)?;
    if let Some(notice) = started.notice {
        say(format_args!("listentop: {}", errors::one_line(&notice)));
    }
    rights::drop_after_attach().map_err(anyhow::Error::new)?;
    Ok(started.source)
}

/// Prints help and version as clap does, but a mistake in one line.
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

/// A reader that closes the pipe early (`| head`) is no failure; a full disk is.
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
