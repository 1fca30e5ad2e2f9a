//! The terminal as it was before the dashboard, in case the dashboard dies without putting it back.

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Write};

/// Leaves the alternate screen, shows the cursor, and ends mouse reports, bracketed paste and colours.
const RESET: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m\r\n";

/// Settings of the terminal on stdin; nothing if there is none.
#[derive(Debug)]
pub(super) struct Terminal(Option<Termios>);

impl Terminal {
    /// Remembers the settings.
    pub(super) fn save() -> Self {
        Self(tcgetattr(std::io::stdin()).ok())
    }

    /// Puts the terminal back after a program that could not.
    pub(super) fn restore(&self) {
        // Without a terminal, or with one that was hung up, there is nothing to restore.
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, settings);
        }
        let mut stdout = std::io::stdout();
        if stdout.is_terminal() {
            let _ = stdout.write_all(RESET).and_then(|()| stdout.flush());
        }
    }
}
