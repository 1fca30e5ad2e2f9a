//! Standard output and standard error. What is written to the first arrives, or its loss is an error. What is written
//! to the second never holds the program up: a pipe that nobody reads, or a terminal that is stopped, loses lines
//! instead.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bounded_write::{Writer, wait_writable};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    poll::PollTimeout,
    unistd,
};

/// Which of the standard descriptors were closed at the start, by their bits.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before the runtime of Rust, which opens /dev/null in the place of closed ones: a report would go nowhere, with
/// success.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED: extern "C" fn() = note_closed;

extern "C" fn note_closed() {
    for fd in 0..=2 {
        // SAFETY: it asks only.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Checks that standard output can be written to at all.
///
/// # Errors
/// It was closed at the start, or is open for reading only.
pub(crate) fn check() -> io::Result<()> {
    let closed = CLOSED.load(Ordering::Relaxed) & (1 << libc::STDOUT_FILENO) != 0;
    let flags = fcntl(io::stdout(), FcntlArg::F_GETFL)?;
    let readable_only = flags & libc::O_ACCMODE == libc::O_RDONLY;
    if closed || readable_only { Err(io::Error::other("it is closed, or open for reading only")) } else { Ok(()) }
}

/// Writes all of `text` to standard output.
///
/// # Errors
/// What write(2) says; that it was closed at the start.
pub(crate) fn print(text: &str) -> io::Result<()> {
    check()?;
    // Not by `io::stdout`, which takes a bad descriptor for success.
    io::Write::write_all(&mut Stdout, text.as_bytes())
}

/// Standard output, for what is too much to be written at once. It writes as [`print`] does.
#[derive(Debug)]
pub(crate) struct Stdout;

impl io::Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let out = io::stdout();
        loop {
            match unistd::write(&out, bytes) {
                Ok(written) => return Ok(written),
                Err(Errno::EINTR) => {}
                // Whoever gave us the descriptor does not wait. We do.
                Err(Errno::EAGAIN) => {
                    let _ = wait_writable(out.as_fd(), PollTimeout::NONE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a message waits for its reader. After it had to give up once, none waits until one is taken again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Standard error.
struct Messages {
    /// It again, but such that writing does not wait; `None` before the first message.
    writer: Option<Writer>,
    /// The last one was not taken.
    stalled: bool,
    /// How many were not taken since the last one that was.
    lost: u64,
    /// A line about work in progress is on the terminal, without an end.
    status: bool,
}

static MESSAGES: Mutex<Messages> = Mutex::new(Messages { writer: None, stalled: false, lost: 0, status: false });

/// Erases the line of the cursor.
const ERASE: &str = "\r\x1b[K";

/// Shows a line about work in progress in the place of the last one, or takes it away. Only for a terminal; a line that
/// is wider would not be erased whole. One that cannot be written at once is left out.
pub(crate) fn status(text: Option<&str>) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let Messages { writer, stalled, status, .. } = &mut *messages;
    if *stalled || text.is_none() && !*status {
        return;
    }
    let writer = writer.get_or_insert_with(|| Writer::to(io::stderr().as_fd()));
    let line = format!("{ERASE}{}", text.unwrap_or_default());
    let _ = writer.write(io::stderr().as_fd(), line.as_bytes(), Duration::ZERO);
    *status = text.is_some();
}

/// Writes a line to standard error. One that cannot be written is lost: neither a full disk nor a reader that takes
/// nothing may end the program or hold it up.
pub(crate) fn message(line: &str) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let Messages { writer, stalled, lost, status } = &mut *messages;
    let writer = writer.get_or_insert_with(|| Writer::to(io::stderr().as_fd()));
    let erase = if std::mem::take(status) { ERASE } else { "" };
    let before = match *lost {
        0 => String::new(),
        lost => format!("listentop: {lost} lines were lost here, which nobody read\n"),
    };
    // In one write, so that lines of several threads do not mix.
    let text = format!("{erase}{before}{line}\n");
    let patience = if *stalled { Duration::ZERO } else { PATIENCE };
    match writer.write(io::stderr().as_fd(), text.as_bytes(), patience) {
        Ok(()) => (*stalled, *lost) = (false, 0),
        // Nobody is there to read that anything was lost.
        Err(error) if error.kind() != io::ErrorKind::TimedOut => {}
        Err(_) => (*stalled, *lost) = (true, *lost + 1),
    }
}

/// Whether nobody took the last message.
pub(crate) fn is_stalled() -> bool {
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).stalled
}

/// Writes a few bytes without memory of its own, unless nobody takes them.
pub(crate) fn last_words(fd: BorrowedFd<'_>, text: &str) {
    if wait_writable(fd, PollTimeout::ZERO) {
        let _ = unistd::write(fd, text.as_bytes());
    }
}
