//! The prediction, asked on the terminal before the run.

use super::check::filled;
use anyhow::Context;
use lessons::Lesson;
use std::io::{BufRead, Write};

/// Asks until an answer is chosen: its place, from 0. `None`: the learner skipped it, or the input ended.
///
/// # Errors
/// The terminal cannot be read or written.
pub(super) fn ask(lesson: &Lesson) -> anyhow::Result<Option<usize>> {
    let stdin = std::io::stdin();
    ask_on(lesson, &mut stdin.lock(), &mut std::io::stderr()).context("the terminal cannot be used")
}

fn ask_on(lesson: &Lesson, input: &mut impl BufRead, output: &mut impl Write) -> std::io::Result<Option<usize>> {
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
        let mut line = String::new();
        if std::io::Read::take(&mut *input, 1000).read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(None);
        }
        if let Some(place) = line.trim().parse::<usize>().ok().filter(|number| (1..=answers.len()).contains(number)) {
            return Ok(Some(place - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(input: &str) -> (Option<usize>, String) {
        let lesson = lessons::find("overflow").unwrap();
        let mut output = Vec::new();
        let chosen = ask_on(lesson, &mut input.as_bytes(), &mut output).unwrap();
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
}
