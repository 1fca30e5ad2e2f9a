//! The list of lessons, for `--list`.

use crate::ALL;
use crate::format::Part;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The lessons in course order, each part with its heading.
#[must_use]
pub fn list_text() -> String {
    let mut text = String::new();
    for part in Part::ALL {
        let lessons: Vec<_> = ALL.iter().filter(|lesson| lesson.part == part).collect();
        // Of each part alone: one long name must not push all titles beyond 80 columns.
        let Some(width) = lessons.iter().map(|lesson| lesson.name.len()).max() else { continue };
        let _ = writeln!(text, "{}", part.title());
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
