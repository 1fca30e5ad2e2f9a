//! Lines on stderr.

use std::sync::OnceLock;

use listentop_model::words::{Charset, clean};

use crate::output;

/// Writes a line, or several, to stderr, in the characters of the locale. Nothing in it controls the terminal: it may
/// hold names of processes, and what the user typed. A line that cannot be written is lost: a full disk or a closed
/// terminal must not end the program, as `eprintln!` would.
pub(crate) fn say(line: impl std::fmt::Display) {
    for line in line.to_string().lines() {
        output::message(&charset().of_text(&clean(line)));
    }
}

/// The characters of the locale.
pub(crate) fn charset() -> Charset {
    static CHARSET: OnceLock<Charset> = OnceLock::new();
    *CHARSET.get_or_init(|| Charset::of_locale(|name| std::env::var_os(name)))
}
