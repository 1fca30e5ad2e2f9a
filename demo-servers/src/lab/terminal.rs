//! The settings of the terminal before the dashboard, to restore them if the dashboard is killed.

use crate::sys::say;
use bounded_write::{CANCEL, Writer, make_room};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Leaves the alternate screen, shows the cursor, and ends mouse reports, bracketed paste and colours.
const RESET: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m\r\n";

/// How long the terminal may take for that.
const PATIENCE: Duration = Duration::from_secs(1);
/// And then, once what it did not take is dropped.
const LAST_PATIENCE: Duration = Duration::from_millis(200);

/// Messages of panics while the dashboard has the screen: they would disappear with it.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Settings of the terminal on stdin; `None` if stdin is no terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    settings: Option<Termios>,
    /// The dashboard has ended and the terminal is restored.
    left: bool,
}

impl Terminal {
    /// Saves the settings. From now on messages of panics are held back until [`Self::leave`].
    pub(super) fn save() -> Self {
        *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match &mut *HELD.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => {
                let backtrace = Backtrace::capture();
                let captured = backtrace.status() == BacktraceStatus::Captured;
                held.push(if captured { format!("{panic}\n{backtrace}") } else { panic.to_string() });
            }
            None => usual(panic),
        }));
        Self { settings: tcgetattr(std::io::stdin()).ok(), left: false }
    }

    /// To be called when the dashboard has ended. Restores the terminal if the dashboard was killed.
    pub(super) fn leave(&mut self, killed: bool) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        if killed {
            self.restore();
        }
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.unwrap_or_default().iter().for_each(say);
    }

    fn restore(&self) {
        // Errors are ignored: a terminal that was hung up needs no settings.
        if let Some(settings) = &self.settings {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, settings);
        }
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            let out = stdout.as_fd();
            let writer = Writer::to(out);
            if writer.write(out, RESET, PATIENCE).is_err() {
                make_room(out);
                let _ = writer.write(out, &[&[CANCEL], RESET].concat(), LAST_PATIENCE);
            }
        }
    }
}
