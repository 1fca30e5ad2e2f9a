//! The command line of all four programs: an error is one line, and a bad command line has exit status 2.

use crate::sys::say;
use clap::Parser;
use clap::error::{ContextKind, ErrorKind};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

/// Exit status for a bad command line.
pub const USAGE: u8 = 2;

/// Parses the arguments.
///
/// # Errors
/// The text to print: an error in one line, or the text of `--help` or `--version`.
pub fn parse<T: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<T, Refusal> {
    T::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Refusal { line: error.to_string().trim_end().to_owned(), is_error: false }
        }
        _ => Refusal { line: one_line(&error), is_error: true },
    })
}

/// Why [`parse`] returned no options.
#[derive(Debug)]
pub struct Refusal {
    /// What to print, without the name of the program.
    pub line: String,
    /// Whether it is an error, for stderr and exit status 2, or is for stdout and exit status 0.
    pub is_error: bool,
}

/// Parses the arguments of the process and calls `run`. Prints either's error as one line on stderr.
pub fn main<T: Parser>(name: &str, run: impl FnOnce(T) -> anyhow::Result<ExitCode>) -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(options) => run(options).unwrap_or_else(|error| {
            say(format_args!("{name}: {error:#}"));
            if error.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }),
        Err(refusal) if refusal.is_error => {
            say(format_args!("{name}: {}", refusal.line));
            ExitCode::from(USAGE)
        }
        Err(refusal) => match writeln!(std::io::stdout(), "{}", refusal.line) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                say(format_args!("{name}: standard output cannot be written: {error}"));
                ExitCode::FAILURE
            }
            // `--help | head` is no error.
            _ => ExitCode::SUCCESS,
        },
    }
}

/// A command line that can be parsed but not carried out: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A [`Usage`] error as `anyhow::Error`.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    // clap prints the error, sometimes in several lines, then an empty line and usage hints.
    let message = text.split("\n\n").next().unwrap_or(&text);
    let mut line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(rest) = line.strip_prefix("error: ") {
        line = rest.to_owned();
    }
    if let Some(suggestion) = error.get(ContextKind::SuggestedArg).or_else(|| error.get(ContextKind::SuggestedValue)) {
        let _ = write!(line, " (did you mean {suggestion}?)");
    }
    line
}

/// Parses a positive, finite number.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("must be a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug)]
    struct Options {
        #[arg(long, value_parser = positive)]
        rate: f64,
    }

    fn parsed(arguments: &[&str]) -> Result<Options, Refusal> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn an_error_is_one_line() {
        for arguments in [&["x"][..], &["x", "--rate", "-0"], &["x", "--rate=NaN"], &["x", "--rat", "1"], &["x", "y"]] {
            let refusal = parsed(arguments).expect_err("must be refused");
            assert!(refusal.is_error);
            assert_eq!(refusal.line.lines().count(), 1, "{}", refusal.line);
        }
        assert!(parsed(&["x", "--rat", "1"]).unwrap_err().line.contains("did you mean --rate"));
    }

    #[test]
    fn help_is_not_an_error() {
        assert!(!parsed(&["x", "--help"]).unwrap_err().is_error);
        assert!((parsed(&["x", "--rate", "1.5"]).unwrap().rate - 1.5).abs() < 1e-9);
    }
}
