//! The list of lessons, for `--list`.

use crate::ALL;
use crate::format::Part;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The lessons in course order, each part with its heading.
#[must_use]
pub fn list_text() -> String {
    let width = ALL.iter().map(|lesson| lesson.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for part in Part::ALL {
        let mut lessons = ALL.iter().filter(|lesson| lesson.part == part).peekable();
        if lessons.peek().is_some() {
            let _ = writeln!(text, "{}", part.title());
        }
        for lesson in lessons {
            let _ = writeln!(text, "  {:<width$}  {}", lesson.name, lesson.title);
        }
    }
    text
}

/// The same for programs: one object with `schema` and `lessons`.
#[must_use]
pub fn list_json() -> Value {
    let lessons: Vec<Value> = ALL
        .iter()
        .map(|lesson| {
            json!({
                "name": lesson.name,
                "part": lesson.part.title(),
                "title": lesson.title,
                "question": lesson.question,
                "seconds": lesson.length_ms(false) as f64 / 1000.0,
                "short_seconds": lesson.length_ms(true) as f64 / 1000.0,
                "packages": lesson.extra_packages(),
                "expectations": lesson.expectations.iter().map(|expectation| expectation.id).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "schema": 1, "lessons": lessons })
}
