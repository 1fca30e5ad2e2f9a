//! One client connection: its socket and how far it has come.

use super::kind::Kind;
use super::options::Options;
use crate::sys::set_number;
use nix::errno::Errno;
use nix::unistd::{read, write};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
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
    /// A connection of a pool that no request uses.
    Idle,
    /// This many bytes of the request remain to be written, a piece at each tick.
    SlowWriting(u64),
    /// This many bytes of the response remain to be read, a piece at each tick.
    SlowReading(u64),
    /// Sends nothing until its time is over.
    Silent,
}

/// An open client connection.
pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    pub(super) phase: Phase,
    pub(super) kind: Kind,
    /// When it was due, CLOCK_MONOTONIC in nanoseconds. An attempt after a failure keeps the first one's time.
    pub(super) intended_ns: u64,
    /// When this attempt was due.
    pub(super) attempt_ns: u64,
    /// Number of attempts that failed before.
    pub(super) attempt: u32,
    /// When its current request was due.
    pub(super) request_ns: u64,
    pub(super) requests_left: u64,
    pub(super) first_response: bool,
    /// How often its SYN was sent again.
    pub(super) syn_retries: u32,
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
pub(super) fn connect(options: &Options, kind: Kind, source: Option<Ipv4Addr>) -> Result<OwnedFd, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let stream = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(options.target), stream, Some(Protocol::TCP)).map_err(errno)?;
    if options.rst_close || kind == Kind::Reset {
        reset_on_close(&socket).map_err(errno)?;
    }
    socket.set_tcp_nodelay(options.nodelay).map_err(errno)?;
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes).map_err(errno)?;
    }
    if options.fast_open {
        set_number(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
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
    set_number(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
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
    /// Writes as much of the request as the socket takes, at most `largest` bytes per call. Also returns the number of
    /// bytes written.
    pub(super) fn write(&mut self, options: &Options, largest: u64) -> (u64, Result<Progress, Failure>) {
        let mut bytes = 0;
        while let Phase::Writing(left) = &mut self.phase {
            match write(&self.fd, options.request_piece(*left, largest)) {
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
