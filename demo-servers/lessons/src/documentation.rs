//! The lessons in docs/lab.md, made from their files.
//!
//! With `UPDATE_DOCS` set the test writes them into the document instead of comparing them.

use crate::ALL;
use crate::format::{Lesson, Part, Program};
use std::fmt::Write as _;
use std::{env, fs};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab.md");
const WIDTH: usize = 120;

/// Lines break at spaces only: a mark of Markdown stays with its word.
fn options<'a>() -> textwrap::Options<'a> {
    textwrap::Options::new(WIDTH)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
}

fn paragraph(text: &str) -> String {
    format!("{}\n\n", textwrap::fill(text, options()))
}

fn item(mark: &str, text: &str) -> String {
    let indent = " ".repeat(mark.len());
    format!("{}\n", textwrap::fill(text, options().initial_indent(mark).subsequent_indent(&indent)))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn contents() -> String {
    let mut text = "| part | lesson | what happens |\n|---|---|---|\n".to_owned();
    for lesson in ALL {
        let _ = writeln!(text, "| {} | [`{2}`](#{2}) | {} |", lesson.part.title(), cell(lesson.title), lesson.name);
    }
    text
}

/// A program with the options that every lesson passes.
fn command(program: Program) -> String {
    format!("{} {}", program.binary, program.options).trim_end().to_owned()
}

/// When it starts, if not at the beginning.
fn from(lesson: &Lesson, step: usize) -> String {
    if step > 0 { format!("starts in step {}", lesson.steps[step].name) } else { String::new() }
}

/// Options as they are passed: with the ports of servers that they name.
fn filled(lesson: &Lesson, options: &str) -> String {
    let fill = |options: String, server: &crate::Server| {
        options.replace(&format!("{{port:{}}}", server.name), &server.port.to_string())
    };
    lesson.setup.servers.iter().fold(options.to_owned(), fill)
}

/// A line of a set-up, with what a shell would take for a comment.
fn line(command: &str, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!("  # {note}") };
    format!("    {command}{note}\n")
}

fn set_up(lesson: &Lesson) -> String {
    let mut text = String::new();
    for (path, value) in lesson.setup.sysctls {
        let _ = writeln!(text, "    {} = {value}", path.replace('/', "."));
    }
    for server in lesson.setup.servers {
        let own = filled(lesson, server.options);
        let options = format!("--name {} --port {} {own}", server.name, server.port);
        let from = from(lesson, server.step);
        text += &line(&format!("{} {}", command(server.program), options.trim_end()), &from);
    }
    for load in lesson.setup.loads {
        let port =
            lesson.setup.servers.iter().find(|server| server.name == load.server).map_or(0, |server| server.port);
        let name = if load.name == load.server { String::new() } else { format!("load {}", load.name) };
        let notes: Vec<String> = [name, from(lesson, load.step)].into_iter().filter(|note| !note.is_empty()).collect();
        let own = filled(lesson, load.options);
        text += &line(&format!("{} --target 127.0.0.1:{port} {own}", command(load.program)), &notes.join(", "));
    }
    text
}

fn lesson(lesson: &Lesson) -> String {
    let mut text = format!("### `{}`\n\n", lesson.name);
    text += &paragraph(&format!("*{}*", lesson.question));
    text += &paragraph(lesson.prediction.ask);
    for (place, answer) in lesson.prediction.answers.iter().enumerate() {
        text += &item(&format!("{}. ", place + 1), answer);
    }
    text += "\nSet-up:\n\n";
    text += &set_up(lesson);
    text += "\nWhat happens:\n\n";
    for step in lesson.steps {
        let acts: Vec<String> = step.acts.iter().map(|act| format!("`{act}`")).collect();
        let acts = if acts.is_empty() { String::new() } else { format!(" The lab: {}.", acts.join(", ")) };
        text += &item("- ", &format!("**{}** ({} s): {}{acts}", step.name, step.length_ms as f64 / 1000.0, step.watch));
    }
    text += "\n| expected | bounds | figure | why |\n|---|---|---|---|\n";
    for one in lesson.expectations {
        let bounds = format!("{} {}", one.bounds, one.unit);
        let widened = one.widened.map(|by| format!(". Widened by `{by}`")).unwrap_or_default();
        let why = cell(one.why);
        let _ = writeln!(text, "| {} | {} | `{}` | {why}{widened} |", cell(one.what), bounds.trim(), one.figure);
    }
    let findings: Vec<String> = lesson.expected_findings().iter().map(|id| format!("`{id}`")).collect();
    if !findings.is_empty() {
        text += "\n";
        text += &paragraph(&format!("Findings of listentop that it brings about: {}.", findings.join(", ")));
    }
    text += "\n<details><summary>Answer</summary>\n\n";
    let right = lesson.prediction.right;
    text += &paragraph(&format!("Answer {}. {}", right + 1, lesson.prediction.because));
    text += &paragraph(&format!("It breaks the belief: *{}*", lesson.belief));
    for sentence in lesson.mechanism {
        text += &item("- ", sentence);
    }
    text += "\n</details>\n\nWhat to try next:\n\n";
    for next in lesson.try_next {
        text += &item("- ", next);
    }
    let _ = writeln!(text, "\nThe deliberate mistake (`--spoil`): {}.\n", lesson.spoiler.what);
    text
}

fn lessons() -> String {
    let mut text = String::new();
    for part in Part::ALL {
        let mut lessons = ALL.iter().filter(|lesson| lesson.part == part).peekable();
        if lessons.peek().is_some() {
            let _ = writeln!(text, "## {}\n", part.title());
        }
        text.extend(lessons.map(|one| lesson(one)));
    }
    text
}

/// The document with its sections made anew.
fn made(document: &str) -> String {
    [("contents", contents()), ("lessons", lessons())].into_iter().fold(
        document.to_owned(),
        |document, (name, section)| {
            let start = format!("<!-- {name} -->\n");
            let (before, rest) = document.split_once(&start).unwrap_or_else(|| panic!("no section {name}"));
            let (_, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("section {name} has no end"));
            format!("{before}{start}{section}<!-- end -->{after}")
        },
    )
}

#[test]
fn the_document_has_the_lessons_of_the_code() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let made = made(&document);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, made).unwrap();
        return;
    }
    for (line, (written, made)) in document.lines().zip(made.lines()).enumerate() {
        assert_eq!(written, made, "line {}: write the lessons anew with UPDATE_DOCS=1", line + 1);
    }
    assert_eq!(document, made, "write the lessons anew with UPDATE_DOCS=1");
}
