//! Failures and exit statuses of xtask and of the programs that it starts.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Exit status of an unusable command line.
const UNUSABLE: u8 = 2;

/// The command line is well formed, but what it asks for is impossible.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// A [`Usage`] error as `anyhow::Error`.
#[must_use]
pub fn usage(message: String) -> anyhow::Error {
    Usage(message).into()
}

/// Prints why a task failed, in one line, and returns its exit status: 2 for a [`Usage`] error, otherwise 1.
#[must_use]
pub fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("xtask: {error:#}");
    if error.is::<Usage>() { ExitCode::from(UNUSABLE) } else { ExitCode::FAILURE }
}

/// Prints in one line what is wrong with the command line, from the message of its parser, and returns the exit status.
/// `help` is the command that describes the options.
#[must_use]
pub fn unusable(message: &str, help: &str) -> ExitCode {
    eprintln!("xtask: {} (see `{help}`)", first_paragraph(message));
    ExitCode::from(UNUSABLE)
}

/// What follows the first paragraph repeats the usage.
fn first_paragraph(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or(message).trim_start_matches("error: ");
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::first_paragraph;

    #[test]
    fn a_parsers_message_becomes_one_line() {
        let message = "error: invalid value 'x'\n  for '--for <TIME>'\n\nUsage: xtask\n";
        assert_eq!(first_paragraph(message), "invalid value 'x' for '--for <TIME>'");
    }
}
