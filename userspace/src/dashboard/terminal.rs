//! The terminal while the dashboard has it, and giving it back: at the end, on an error, on a panic, while suspended.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    mem::ManuallyDrop,
    os::fd::AsFd,
    panic,
    sync::{
        Mutex, Once, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use crossterm::{
    execute,
    style::Print,
    terminal::{Clear, ClearType, EnterAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction},
    unistd::Pid,
};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    layout::{Position, Rect},
};

use super::{
    geometry::{self, MIN_COLUMNS, MIN_ROWS},
    screen::{self, Canvas},
};
use crate::output;

/// The terminal is in raw mode, on the alternate screen. A static, because the panic hook has to know.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Held by a thread that panics, from before it gives the terminal back until it has printed why.
static PANICKING: Mutex<()> = Mutex::new(());
static HOOK: Once = Once::new();
/// The terminal's settings before it was taken first.
static BEFORE: OnceLock<libc::termios> = OnceLock::new();

/// Leaves the alternate screen, takes back colours and weights, shows the cursor.
const LEAVE: &str = "\x1b[0m\x1b[?1006l\x1b[?1000l\x1b[?1049l\x1b[?25h";

/// Has the terminal report clicks and turns of the wheel (1000), with columns beyond 223 (1006). Not movements: they
/// would wake the loop for nothing.
const MOUSE: &str = "\x1b[?1000h\x1b[?1006h";

/// Checks that standard output is a terminal, one that can place its cursor, and large enough.
///
/// # Errors
/// It is not; in one line, why, and what to do.
pub fn usable() -> anyhow::Result<()> {
    if !io::stdout().is_terminal() {
        anyhow::bail!("standard output is not a terminal; use 'listentop report'");
    }
    if std::env::var_os("TERM").as_deref().is_some_and(is_dumb) {
        anyhow::bail!(
            "this terminal cannot place its cursor (TERM=dumb); use 'listentop report', or set TERM to what the terminal is"
        );
    }
    let (columns, rows) = crossterm::terminal::size().context("the size of the terminal is unknown")?;
    if geometry::is_too_small(columns, rows) {
        anyhow::bail!(
            "this terminal is {columns}x{rows}, and the dashboard needs at least {MIN_COLUMNS}x{MIN_ROWS}: make it larger, or use \
             'listentop report'"
        );
    }
    Ok(())
}

/// Whether TERM says that the terminal can only append to a line.
fn is_dumb(term: &OsStr) -> bool {
    term == "dumb"
}

type Screen = Terminal<CrosstermBackend<Canvas>>;

/// The terminal, taken; dropping it gives it back.
pub(super) struct Guard {
    /// Never dropped: `Terminal` shows the cursor then, which [`give_back`] has done, and panics if the terminal is
    /// gone.
    screen: ManuallyDrop<Screen>,
    mouse: bool,
}

impl Guard {
    /// Takes the terminal; with `mouse`, its mouse, too.
    ///
    /// # Errors
    /// Standard output is not a terminal, or is too small, or cannot be put into raw mode.
    pub(super) fn take(mouse: bool) -> anyhow::Result<Self> {
        usable()?;
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let _panicking = PANICKING.lock().unwrap_or_else(PoisonError::into_inner);
                give_back();
                before(info);
            }));
        });
        screen::start().context("cannot start a thread for the screen")?;
        enter(mouse)?;
        let backend = CrosstermBackend::new(Canvas::default());
        Ok(Self { screen: ManuallyDrop::new(Terminal::new(backend).inspect_err(|_| give_back())?), mouse })
    }

    pub(super) fn screen(&mut self) -> &mut Screen {
        &mut self.screen
    }

    /// Whether the terminal is still ours: a panic on another thread gives it back. Then this waits until that thread
    /// has printed its message, because the process may end right afterwards.
    pub(super) fn is_taken() -> bool {
        let taken = TAKEN.load(Ordering::SeqCst);
        if !taken {
            drop(PANICKING.lock().unwrap_or_else(PoisonError::into_inner));
        }
        taken
    }

    /// Takes the terminal again after another program had it.
    pub(super) fn retake(&mut self) -> io::Result<()> {
        give_back();
        enter(self.mouse)?;
        // Forgets what was drawn, so that the next frame is written in full. `Terminal::clear` would do that too, but
        // it asks the terminal for the cursor's place: not every terminal answers, and the thread that reads
        // keys takes the answer.
        let size = self.screen.size()?;
        self.screen.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Gives the terminal back, stops the job as Ctrl-Z does, and takes the terminal again when the job continues.
    pub(super) fn suspend(&mut self) -> anyhow::Result<()> {
        give_back();
        stop_job()?;
        self.retake()?;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter(mouse: bool) -> io::Result<()> {
    if BEFORE.get().is_none() {
        let mut before = std::mem::MaybeUninit::uninit();
        // SAFETY: it fills `before` if it returns 0.
        if let Some(before) = unsafe { (libc::tcgetattr(1, before.as_mut_ptr()) == 0).then(|| before.assume_init()) } {
            let _ = BEFORE.set(before);
        }
    }
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode().inspect_err(|_| TAKEN.store(false, Ordering::SeqCst))?;
    let mut canvas = Canvas::default();
    let mouse = if mouse { MOUSE } else { "" };
    execute!(canvas, EnterAlternateScreen, Clear(ClearType::All), Print(mouse)).inspect_err(|_| give_back())
}

/// Gives the terminal back if it is taken, also one that takes nothing any more. A failure is not reported: the
/// terminal is gone then.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
        screen::end_with(LEAVE.as_bytes());
    }
}

/// The same without memory and without waiting for a lock.
pub(crate) fn give_back_at_once() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        if let Some(before) = BEFORE.get() {
            // SAFETY: the settings are whole.
            unsafe { libc::tcsetattr(1, libc::TCSANOW, before) };
        }
        output::last_words(io::stdout().as_fd(), LEAVE);
    }
}

/// Stops the whole job, so that the shell behind `cargo xtask demo` or sudo gets the terminal; returns when it
/// continues.
///
/// The others are stopped first, while this process ignores the signal; then this one by the default action. The kernel
/// skips that action in an orphaned process group, where no shell could continue the job: then this returns at once.
fn stop_job() -> nix::Result<()> {
    let set = |handler| SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: neither disposition runs our code, and the previous one is restored below.
    let before = unsafe { sigaction(Signal::SIGTSTP, &set(SigHandler::SigIgn)) }?;
    let stopped = kill(Pid::from_raw(0), Signal::SIGTSTP)
        // SAFETY: as above.
        .and_then(|()| unsafe { sigaction(Signal::SIGTSTP, &set(SigHandler::SigDfl)) })
        .and_then(|_| raise(Signal::SIGTSTP));
    // SAFETY: the kernel returned `before`.
    unsafe { sigaction(Signal::SIGTSTP, &before) }?;
    stopped
}

/// What poll(2) reports for a terminal that went away.
pub(super) const GONE: PollFlags = PollFlags::POLLHUP.union(PollFlags::POLLERR).union(PollFlags::POLLNVAL);

/// Whether the terminal behind standard output is gone.
pub(super) fn is_gone() -> bool {
    let output = io::stdout();
    let mut fds = [PollFd::new(output.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].revents().is_some_and(|events| events.intersects(GONE))
}
