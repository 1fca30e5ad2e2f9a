//! Standard output and standard error. What is written to the first arrives, or its loss is an error. What is written to
//! the second never holds the program up: a pipe that nobody reads, or a terminal that is stopped, loses lines instead.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::{SFlag, fstat},
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
    let out = io::stdout();
    let mut left = text.as_bytes();
    while !left.is_empty() {
        match unistd::write(&out, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::EINTR) => {}
            // Whoever gave us the descriptor does not wait. We do.
            Err(Errno::EAGAIN) => {
                wait_writable(out.as_fd(), PollTimeout::NONE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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
}

static MESSAGES: Mutex<Messages> = Mutex::new(Messages { writer: None, stalled: false, lost: 0 });

/// Writes a line to standard error. One that cannot be written is lost: neither a full disk nor a reader that takes
/// nothing may end the program or hold it up.
pub(crate) fn message(line: &str) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let Messages { writer, stalled, lost } = &mut *messages;
    let writer = writer.get_or_insert_with(|| Writer::to(io::stderr().as_fd()));
    let before = match *lost {
        0 => String::new(),
        lost => format!("listentop: {lost} lines were lost here, which nobody read\n"),
    };
    // In one write, so that lines of several threads do not mix.
    let text = format!("{before}{line}\n");
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

/// How to write to a descriptor without waiting in write(2).
pub(crate) enum Writer {
    /// The same pipe or terminal, opened again: O_NONBLOCK on our own descriptor would hold for everybody who shares it.
    Again(File),
    /// A socket, which takes MSG_DONTWAIT.
    Socket,
    /// Anything else, such as a file. It waits if poll(2) says that it does not.
    Plain,
}

impl Writer {
    /// The way for `fd`.
    pub(crate) fn to(fd: BorrowedFd<'_>) -> Self {
        let kind = fstat(fd).map_or(SFlag::empty(), |stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        match kind {
            SFlag::S_IFSOCK => Self::Socket,
            // Not a file: a second description of it would write at its beginning.
            SFlag::S_IFIFO | SFlag::S_IFCHR => open_again(fd).map_or(Self::Plain, Self::Again),
            _ => Self::Plain,
        }
    }

    /// Writes what is taken at once of `bytes` to `fd`, or whatever it was opened again as; how much that was.
    ///
    /// # Errors
    /// EAGAIN if nothing was taken; what write(2) says.
    pub(crate) fn write_some(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
        match self {
            Self::Again(file) => unistd::write(file, bytes),
            Self::Socket => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // SAFETY: the buffer is as long as said, and outlives the call.
                let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
                Errno::result(sent).map(|sent| sent as usize)
            }
            Self::Plain if wait_writable(fd, PollTimeout::ZERO) => unistd::write(fd, bytes),
            Self::Plain => Err(Errno::EAGAIN),
        }
    }

    /// Writes all of `bytes`, and waits for its reader no longer than `patience`.
    ///
    /// # Errors
    /// `TimedOut`; what write(2) says.
    pub(crate) fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let end = Instant::now() + patience;
        let mut left = bytes;
        while !left.is_empty() {
            match self.write_some(fd, left) {
                Ok(written) => left = &left[written..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let time = end.saturating_duration_since(Instant::now());
                    if time.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    // A little more than what is left, so that it does not spin at the end.
                    wait_writable(
                        fd,
                        PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn open_again(fd: BorrowedFd<'_>) -> Option<File> {
    let path = format!("/proc/self/fd/{}\0", fd.as_raw_fd());
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero, and a descriptor that is returned is ours.
    let opened = unsafe { libc::open(path.as_ptr().cast(), flags) };
    // SAFETY: as above.
    (opened >= 0).then(|| unsafe { File::from_raw_fd(opened) })
}

/// Waits until something can be written to `fd`, or its reader is gone.
fn wait_writable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use super::*;

    /// Writes until nothing is taken any more; how much was.
    fn fill(fd: BorrowedFd<'_>) -> usize {
        let (writer, mut total) = (Writer::to(fd), 0);
        let start = Instant::now();
        loop {
            match writer.write_some(fd, &[b'x'; 4096]) {
                Ok(written) => total += written,
                Err(error) => {
                    assert_eq!(error, Errno::EAGAIN);
                    assert!(start.elapsed() < Duration::from_secs(5), "it waited");
                    return total;
                }
            }
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_nobody_up() {
        let (mut pipe, end) = io::pipe().unwrap();
        let (socket, other) = UnixStream::pair().unwrap();
        for (fd, other) in [(OwnedFd::from(end), None), (OwnedFd::from(socket), Some(other))] {
            let total = fill(fd.as_fd());
            assert!(total >= 4096, "{total}");
            let error = Writer::to(fd.as_fd()).write(fd.as_fd(), b"more", Duration::from_millis(20)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            // O_NONBLOCK stays where it was opened again.
            // SAFETY: it asks only.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
            assert_eq!(flags & libc::O_NONBLOCK, 0);
            drop(fd);
            let mut read = Vec::new();
            match other {
                Some(mut other) => other.read_to_end(&mut read).unwrap(),
                None => pipe.read_to_end(&mut read).unwrap(),
            };
            assert_eq!(read.len(), total);
        }
    }

    #[test]
    fn a_file_is_written_where_it_is() {
        let file = File::from(nix::sys::memfd::memfd_create("file", nix::sys::memfd::MFdFlags::empty()).unwrap());
        for text in ["one\n", "two\n"] {
            Writer::to(file.as_fd()).write(file.as_fd(), text.as_bytes(), Duration::ZERO).unwrap();
        }
        let mut text = String::new();
        io::Seek::rewind(&mut &file).unwrap();
        (&file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }
}
