//! A listener's connections one by one.

use listentop_model::{
    model::{ListenerModel, Model},
    words::connections as words,
};

use super::indent;

/// Its connections one by one, where they were asked for: those that wait to be accepted, to be read, and for the
/// end of their handshakes.
pub(super) fn lines(model: &Model, l: &ListenerModel, width: usize) -> Vec<String> {
    let Some(lists) = &l.connections else { return Vec::new() };
    let mut lines = Vec::new();
    for sort in words::Sort::ALL {
        let list = sort.of(lists);
        if list.total > 0 {
            lines.push(format!("  {} {}, the longest first:", words::listed(list), sort.what()));
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
