//! A listener's connections one by one.

use listentop_model::{
    model::{ListenerModel, Model},
    words::connections as words,
};

use super::indent;

/// Its connections one by one, where they were asked for: those that wait to be accepted, and to be read.
pub(super) fn lines(model: &Model, l: &ListenerModel, width: usize) -> Vec<String> {
    let Some(lists) = &l.connections else { return Vec::new() };
    let mut lines = Vec::new();
    for (list, what) in [(&lists.waiting, "to be accepted"), (&lists.unread, "to be read")] {
        if list.total > 0 {
            lines.push(format!("  {} waiting {what}, the longest first:", words::listed(list)));
        }
        for connection in &list.connections {
            let mut facts = vec![words::waits(connection, model)];
            facts.extend(words::facts(connection, model));
            let line = format!("{} {}", words::client(connection), facts.join("; "));
            lines.extend(indent(&line, "    ", "      ", width));
        }
    }
    lines
}
