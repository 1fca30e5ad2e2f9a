//! Writing to a descriptor whose reader may take nothing: a pipe that nobody reads, a terminal that is stopped or whose
//! ssh stalls. Nothing here waits longer than it is told to.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        stat::{SFlag, fstat},
        termios::{FlowArg, FlushArg, tcflow, tcflush},
    },
    unistd,
};

/// How to write to a descriptor without waiting in write(2).
#[derive(Debug)]
pub enum Writer {
    /// The same pipe or terminal, opened again: O_NONBLOCK on our own descriptor would hold for everybody who shares
    /// it.
    Again(File),
    /// A socket, which takes MSG_DONTWAIT.
    Socket,
    /// Anything else, such as a file. It waits if poll(2) says that it does not.
    Plain,
}

impl Writer {
    /// The way for `fd`.
    #[must_use]
    pub fn to(fd: BorrowedFd<'_>) -> Self {
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
    pub fn write_some(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
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
    pub fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> io::Result<()> {
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
                    let time = PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
                    let _ = wait_writable(fd, time);
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

/// CAN: ends an escape sequence that was cut off in its middle.
pub const CANCEL: u8 = 0x18;

/// Makes room on a terminal that takes nothing any more: drops what the kernel holds for it, and lets it go on if it
/// was stopped (^S). What is written next should begin with [`CANCEL`].
pub fn make_room(terminal: BorrowedFd<'_>) {
    // It is no terminal, or gone.
    let _ = tcflush(terminal, FlushArg::TCOFLUSH);
    let _ = tcflow(terminal, FlowArg::TCOON);
}

/// Waits until something can be written to `fd`, or its reader is gone; whether that is so.
#[must_use]
pub fn wait_writable(fd: BorrowedFd<'_>, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::{
            fd::{AsFd as _, OwnedFd},
            unix::net::UnixStream,
        },
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
