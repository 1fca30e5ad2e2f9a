//! Lines on stderr.

use std::io::Write as _;

/// Writes a line to stderr. One that cannot be written is lost: a full disk or a closed terminal must not end what goes
/// on without it, as `eprintln!` would.
pub(crate) fn say(line: impl std::fmt::Display) {
    // In one piece, so that lines of several threads stay apart.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
