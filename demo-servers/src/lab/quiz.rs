//! The prediction, asked on the terminal before the run.

use super::check::filled;
use anyhow::Context;
use lessons::Lesson;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::io::{BufRead, Read, Write};
use std::os::fd::AsFd;

/// How often somebody who waits for an answer looks for signals, in milliseconds.
const TICK: u16 = 100;

/// What the learner typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// This.
    Given(T),
    /// Nothing: a signal came.
    Signal(Signal),
}

/// Asks until an answer is chosen: its place, from 0. `None`: the learner skipped it, or the input ended.
///
/// # Errors
/// The terminal cannot be read or written.
pub(super) fn ask(
    lesson: &Lesson,
    signalled: &mut dyn FnMut() -> Option<Signal>,
) -> anyhow::Result<Answer<Option<usize>>> {
    ask_on(lesson, &mut || line(signalled), &mut std::io::stderr()).context("the terminal cannot be used")
}

/// Waits for the learner, who has read the outcome. Returns whether to go on with the menu.
///
/// # Errors
/// The terminal cannot be read or written.
pub(super) fn go_on(signalled: &mut dyn FnMut() -> Option<Signal>) -> anyhow::Result<Answer<bool>> {
    let mut wait = || {
        let mut output = std::io::stderr();
        write!(output, "\nEnter: the menu of lessons; q and Enter: leave ")?;
        output.flush()?;
        Ok::<_, std::io::Error>(match line(signalled)? {
            Answer::Given(line) => Answer::Given(line.is_some_and(|line| line.trim() != "q")),
            Answer::Signal(signal) => Answer::Signal(signal),
        })
    };
    wait().context("the terminal cannot be used")
}

/// A line of standard input; `None` at its end.
fn line(signalled: &mut dyn FnMut() -> Option<Signal>) -> std::io::Result<Answer<Option<String>>> {
    let stdin = std::io::stdin();
    loop {
        if let Some(signal) = signalled() {
            return Ok(Answer::Signal(signal));
        }
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::from(TICK)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut line = String::new();
    // A terminal gives whole lines.
    let count = stdin.lock().take(1000).read_line(&mut line)?;
    Ok(Answer::Given((count > 0).then_some(line)))
}

fn ask_on(
    lesson: &Lesson,
    line: &mut dyn FnMut() -> std::io::Result<Answer<Option<String>>>,
    output: &mut impl Write,
) -> std::io::Result<Answer<Option<usize>>> {
    let answers = lesson.prediction.answers;
    let mut text = format!("\n{}: {}\n\n", lesson.name, lesson.title);
    text += &filled("", lesson.question);
    text += "\n";
    text += &filled("", lesson.prediction.ask);
    for (place, answer) in answers.iter().enumerate() {
        text += &filled(&format!("  {}. ", place + 1), answer);
    }
    output.write_all(text.as_bytes())?;
    loop {
        write!(output, "your prediction (1 to {}, Enter to skip): ", answers.len())?;
        output.flush()?;
        let line = match line()? {
            Answer::Signal(signal) => return Ok(Answer::Signal(signal)),
            Answer::Given(None) => return Ok(Answer::Given(None)),
            Answer::Given(Some(line)) => line,
        };
        if line.trim().is_empty() {
            return Ok(Answer::Given(None));
        }
        if let Some(place) = line.trim().parse::<usize>().ok().filter(|number| (1..=answers.len()).contains(number)) {
            return Ok(Answer::Given(Some(place - 1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(input: &str) -> (Option<usize>, String) {
        let lesson = lessons::find("overflow").unwrap();
        let mut lines = input.lines().map(str::to_owned);
        let mut output = Vec::new();
        let chosen = ask_on(lesson, &mut || Ok(Answer::Given(lines.next())), &mut output).unwrap();
        let Answer::Given(chosen) = chosen else { panic!("no signal came") };
        (chosen, String::from_utf8(output).unwrap())
    }

    #[test]
    fn an_answer_is_a_number_that_was_offered() {
        assert_eq!(chosen("2\n").0, Some(1));
        assert_eq!(chosen("0\n9\nx\n 3 \n").0, Some(2));
        assert_eq!(chosen("\n").0, None);
        assert_eq!(chosen("").0, None);
        let (_, text) = chosen("1\n");
        assert!(text.contains("  1. ") && text.contains("  3. "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 80), "{text}");
    }

    #[test]
    fn a_signal_ends_the_question() {
        let lesson = lessons::find("overflow").unwrap();
        let answer = ask_on(lesson, &mut || Ok(Answer::Signal(Signal::SIGINT)), &mut Vec::new()).unwrap();
        assert_eq!(answer, Answer::Signal(Signal::SIGINT));
    }
}
