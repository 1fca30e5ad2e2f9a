//! Lines on stderr.

use std::io::Write as _;

/// Writes a line to stderr. A line that cannot be written is lost: a full disk or a closed terminal must not end the
/// program, as `eprintln!` would.
pub(crate) fn say(line: impl std::fmt::Display) {
    // In one write, so that lines of several threads do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
