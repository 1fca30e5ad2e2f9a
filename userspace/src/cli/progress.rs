//! How far long work is: a line on stderr that is written anew, if stderr is a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use listentop_model::words::{clean, fit};

use crate::{output, say::charset};

/// Time between two lines: they are to be read.
const EVERY: Duration = Duration::from_millis(250);
/// Work that is done sooner shows nothing.
const AFTER: Duration = Duration::from_millis(500);

/// Shows how far something is. Its line is gone when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    /// When it may show something next; `None` if nobody would see it.
    next: Option<Instant>,
}

impl Progress {
    /// On a terminal that can rewrite a line.
    pub(super) fn start() -> Self {
        let can = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { next: can.then(|| Instant::now() + AFTER) }
    }

    /// Shows the text, unless one was shown just now.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.next.is_some_and(|next| next <= now) {
            self.next = Some(now + EVERY);
            let columns = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
            output::status(Some(&charset().of_text(&fit(&clean(&text()), columns.saturating_sub(1)))));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.next.is_some() {
            output::status(None);
        }
    }
}
