//! One client connection: its socket and how far it has come.

use super::options::Options;
use crate::protocol::piece;
use nix::errno::Errno;
use nix::unistd::{read, write};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// This many bytes of the request remain to be written.
    Writing(u64),
    /// This many bytes of the response remain to be read.
    Reading(u64),
    Thinking,
}

/// An open client connection.
pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    pub(super) phase: Phase,
    /// When it was due, CLOCK_MONOTONIC in nanoseconds.
    pub(super) intended_ns: u64,
    /// When its current request was due.
    pub(super) request_ns: u64,
    pub(super) requests_left: u64,
    pub(super) first_response: bool,
    /// Changes with every phase: a timer of an earlier phase is recognised as stale.
    pub(super) serial: u32,
}

/// Why a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Errno(Errno),
    Timeout,
    Closed,
}

/// Opens a socket and begins to connect.
pub(super) fn connect(options: &Options, source: Option<Ipv4Addr>) -> Result<OwnedFd, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(options.target), kind, Some(Protocol::TCP)).map_err(errno)?;
    if options.rst_close {
        reset_on_close(&socket).map_err(errno)?;
    }
    if let Some(source) = source {
        choose_port_at_connect(&socket)?;
        socket.bind(&SockAddr::from(SocketAddr::new(source.into(), 0))).map_err(errno)?;
    }
    match socket.connect(&SockAddr::from(options.target)).map_err(errno) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error),
    }
}

/// Makes close send a reset, so that no port stays in TIME_WAIT.
pub(crate) fn reset_on_close(socket: &Socket) -> std::io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))
}

/// Lets the kernel choose the port at connect: then connections to different targets can share a port.
fn choose_port_at_connect(socket: &Socket) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// How often the kernel has sent segments of this connection again. Until the connect ends, these are SYNs.
pub(super) fn retransmissions(fd: &OwnedFd) -> Option<u32> {
    // SAFETY: zero is valid for all members, which are integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    (result == 0).then_some(info.tcpi_total_retrans)
}

/// The result of a step.
pub(super) enum Progress {
    /// The socket is not ready.
    Waiting,
    /// The request is written.
    Written,
    /// The response is read.
    Responded,
}

impl Connection {
    /// Writes as much of the request as the socket takes. Also returns the number of bytes written.
    pub(super) fn write(&mut self) -> (u64, Result<Progress, Failure>) {
        let mut bytes = 0;
        while let Phase::Writing(left) = &mut self.phase {
            match write(&self.fd, piece(*left)) {
                Ok(count) => {
                    *left -= count as u64;
                    bytes += count as u64;
                    if *left == 0 {
                        return (bytes, Ok(Progress::Written));
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return (bytes, Err(Failure::Errno(error))),
            }
        }
        (bytes, Ok(Progress::Waiting))
    }

    /// Reads all that has arrived. Also returns the number of bytes read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> (u64, Result<Progress, Failure>) {
        let mut bytes = 0;
        loop {
            match read(&self.fd, &mut *buffer) {
                Ok(0) => return (bytes, Err(Failure::Closed)),
                Ok(count) => {
                    bytes += count as u64;
                    match &mut self.phase {
                        Phase::Reading(left) if count as u64 <= *left => {
                            *left -= count as u64;
                            if *left == 0 {
                                return (bytes, Ok(Progress::Responded));
                            }
                        }
                        // Longer than expected: server and client have different sizes.
                        _ => return (bytes, Err(Failure::Errno(Errno::EBADMSG))),
                    }
                }
                Err(Errno::EAGAIN) => return (bytes, Ok(Progress::Waiting)),
                Err(Errno::EINTR) => {}
                Err(error) => return (bytes, Err(Failure::Errno(error))),
            }
        }
    }
}
