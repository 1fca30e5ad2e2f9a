//! Blame as folded stacks, one a line: what tools for flame graphs read.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Blamed, Frame, thread_name};

/// `listener;state;thread;outermost;…;innermost microseconds`. Functions of the kernel end in `_[k]`, as those tools
/// expect.
#[must_use]
pub fn folded(blamed: &Blamed) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for (path, wait_ns) in paths(blamed) {
        *lines.entry(path.join(";")).or_default() += wait_ns;
    }
    let mut text = String::new();
    for (line, wait_ns) in lines.iter().filter(|(_, wait_ns)| **wait_ns >= 1_000) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line} {}", wait_ns / 1_000);
    }
    text
}

/// Each stack from the outside in, with what it is charged with.
pub(super) fn paths(blamed: &Blamed) -> impl Iterator<Item = (Vec<String>, u64)> {
    blamed.listeners.iter().flat_map(|listener| {
        listener.stacks.iter().map(move |charged| {
            let mut path = vec![listener.endpoint.clone(), charged.doing.name().to_owned()];
            if charged.acceptor.is_some() {
                path.push(thread_name(charged.acceptor.as_ref()));
            }
            path.extend(charged.frames.iter().rev().map(folded_frame));
            (path, charged.wait_ns)
        })
    })
}

fn folded_frame(frame: &Frame) -> String {
    let label = frame.label().replace(';', ":");
    if frame.kernel { format!("{label}_[k]") } else { label }
}
