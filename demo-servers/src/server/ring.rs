//! Accepting through io_uring.

use io_uring::{IoUring, cqueue, opcode, types};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const ACCEPT: u64 = 1;
const CANCEL: u64 = 2;

/// A ring with at most one accept request. Its descriptor is readable when there is a result.
pub(crate) struct AcceptRing {
    ring: IoUring,
    multishot: bool,
    armed: bool,
}

impl AcceptRing {
    /// # Errors
    /// The kernel has no io_uring or does not allow it.
    pub(crate) fn new(multishot: bool) -> io::Result<Self> {
        // Completions of a multishot accept may come in bursts. The kernel keeps those that do not fit.
        Ok(Self { ring: IoUring::builder().setup_cqsize(1024).build(8)?, multishot, armed: false })
    }

    /// Whether an accept is waiting in the kernel.
    pub(crate) fn armed(&self) -> bool {
        self.armed
    }

    /// Submits an accept, unless one is waiting.
    pub(crate) fn arm(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        if self.armed {
            return Ok(());
        }
        let fd = types::Fd(listener.as_raw_fd());
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let entry = if self.multishot {
            opcode::AcceptMulti::new(fd).flags(flags).build()
        } else {
            opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).flags(flags).build()
        };
        self.push(&entry.user_data(ACCEPT))?;
        self.armed = true;
        self.submit(0)
    }

    /// The next result: a connection or the error of an accept.
    pub(crate) fn next(&mut self) -> Option<io::Result<OwnedFd>> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() != ACCEPT {
                continue;
            }
            self.armed = cqueue::more(entry.flags());
            return Some(match entry.result() {
                // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
                fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
                error => Err(io::Error::from_raw_os_error(-error)),
            });
        }
    }

    /// Requests that the accept be cancelled. Until [`Self::armed`] is false, [`Self::wait`] and [`Self::next`] still
    /// return accepted connections.
    pub(crate) fn cancel(&mut self) -> io::Result<()> {
        self.push(&opcode::AsyncCancel::new(ACCEPT).build().user_data(CANCEL))?;
        self.submit(0)
    }

    /// Waits for a completion.
    pub(crate) fn wait(&self) -> io::Result<()> {
        self.submit(1)
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: the entries built here contain no pointers, and the listener outlives the ring's accept: the acceptor
        // holds both, and cancels before it ends.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::Error::other("the submission queue is full"))
    }

    fn submit(&self, wanted: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wanted) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|_| ()),
            }
        }
    }
}

impl AsFd for AcceptRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}
