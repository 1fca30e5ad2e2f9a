//! `storm`: a closed-loop load generator for benchmarks. Its result is the number of operations per second.

use crate::cli::usage;
use crate::duration;
use crate::protocol::PAYLOAD;
use crate::stress::reset_on_close;
use crate::sys::{limit_open_files, now_ns, print_json};
use crate::target::Place;
use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{read, write};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The longest time without a completed operation. After it the run fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// The operation that is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Connect; the server accepts and closes (demo-server --close-on-accept)
    Connect,
    /// Send a request on an open connection and read the response
    Keepalive,
}

/// Repeats one operation as fast as possible: each connection begins the next one when the last is complete (closed
/// loop).
///
/// Prints {"mode","operations","failures","seconds","per_second"} on stdout.
#[derive(Debug, Clone, Parser)]
#[command(name = "storm", version)]
pub struct Options {
    /// The operation; connect needs a demo-server with --close-on-accept
    #[arg(long, value_enum)]
    pub mode: Mode,
    /// The server: a loopback address or, inside another network namespace, one of its own addresses
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub target: SocketAddr,
    /// Number of concurrent connections
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Number of threads, at most one per connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Duration of the run, such as 5s or 2m
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    pub duration: Duration,
    /// Size of a request in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub request_bytes: u32,
    /// Size of a response in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub response_bytes: u32,
}

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Result {
    /// The operation.
    pub mode: Mode,
    /// Operations completed.
    pub operations: u64,
    /// Operations that failed; their connections were replaced.
    pub failures: u64,
    /// Duration of the run.
    pub seconds: f64,
    /// Operations per second.
    pub per_second: f64,
}

/// Runs the storm and prints its result.
///
/// # Errors
/// A refused target, or a server that cannot be reached or does not answer.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    Place::here().check(options.target)?;
    if options.threads > options.connections {
        return Err(usage("--threads must not be more than --connections"));
    }
    limit_open_files(None)?;
    let shares = (0..options.threads).map(|index| {
        let rest = u32::from(index < options.connections % options.threads);
        options.connections / options.threads + rest
    });
    // Opened before the measurement starts, which is of the steady state.
    let loops = shares.map(|share| Loop::open(options, share)).collect::<anyhow::Result<Vec<_>>>()?;
    let start = now_ns();
    let end = start + options.duration.as_nanos() as u64;
    let (mut operations, mut failures) = (0, 0);
    thread::scope(|scope| {
        let threads: Vec<_> = loops.into_iter().map(|mut one| scope.spawn(move || one.run(end))).collect();
        for thread in threads {
            let counts = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            operations += counts.0;
            failures += counts.1;
        }
        anyhow::Ok(())
    })?;
    let seconds = (now_ns() - start) as f64 / 1e9;
    let per_second = operations as f64 / seconds;
    print_json(&Result { mode: options.mode, operations, failures, seconds, per_second })?;
    Ok(ExitCode::SUCCESS)
}

/// One thread's connections.
struct Loop<'a> {
    options: &'a Options,
    epoll: Epoll,
    sockets: Vec<Socket>,
    /// Bytes of the response still to come, per socket.
    left: Vec<u32>,
}

impl<'a> Loop<'a> {
    fn open(options: &'a Options, connections: u32) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot create an epoll instance")?;
        let left = vec![options.response_bytes; connections as usize];
        let mut opened = Self { options, epoll, sockets: Vec::new(), left };
        for index in 0..connections {
            let socket = opened.connect(u64::from(index))?;
            opened.sockets.push(socket);
        }
        Ok(opened)
    }

    /// A new connection: under way in mode connect, established in mode keepalive.
    fn connect(&self, index: u64) -> anyhow::Result<Socket> {
        let target = self.options.target;
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP)).context("socket")?;
        reset_on_close(&socket).context("SO_LINGER")?;
        match socket.connect(&SockAddr::from(target)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(error).with_context(|| format!("cannot connect to {target}"));
            }
            _ => {}
        }
        if self.options.mode == Mode::Keepalive {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(5000u16)).context("poll")? == 0 {
                bail!("cannot connect to {target}: timed out");
            }
            if let Some(error) = socket.take_error().context("SO_ERROR")? {
                return Err(error).with_context(|| format!("cannot connect to {target}"));
            }
        }
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index)).context("epoll_ctl")?;
        Ok(socket)
    }

    /// Operations and failures until `end_ns`.
    fn run(&mut self, end_ns: u64) -> anyhow::Result<(u64, u64)> {
        let mut events = vec![EpollEvent::empty(); 256];
        let mut buffer = vec![0; 65_536];
        let (mut operations, mut failures) = (0, 0);
        if self.options.mode == Mode::Keepalive {
            for index in 0..self.sockets.len() {
                self.request(index).with_context(|| format!("cannot write to {}", self.options.target))?;
            }
        }
        let mut last = now_ns();
        let mut error: Option<anyhow::Error> = None;
        loop {
            let now = now_ns();
            let patience_ends = last + PATIENCE.as_nanos() as u64;
            if now >= end_ns && operations > 0 {
                return Ok((operations, failures));
            }
            if now >= end_ns || now > patience_ends {
                let hint = match (error, self.options.mode) {
                    (Some(error), _) => return Err(error.context("no operation completes")),
                    (None, Mode::Connect) => "does not close connections (demo-server --close-on-accept does)",
                    (None, Mode::Keepalive) => "does not answer (do the sizes of requests agree?)",
                };
                bail!("no operation completes: {} {hint}", self.options.target);
            }
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(100u8)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error).context("epoll_wait"),
            };
            for event in &events[..count] {
                let index = event.data() as usize;
                match self.step(index, &mut buffer) {
                    Ok(0) => {}
                    Ok(done) => {
                        operations += done;
                        last = now;
                        error = None;
                    }
                    Err(failed) => {
                        failures += 1;
                        error = Some(failed);
                        self.left[index] = self.options.response_bytes;
                        self.sockets[index] = self.connect(index as u64)?;
                        if self.options.mode == Mode::Keepalive {
                            self.request(index)?;
                        }
                    }
                }
            }
        }
    }

    /// Handles one event. Returns the number of operations that it completed, or the error of the connection.
    fn step(&mut self, index: usize, buffer: &mut [u8]) -> anyhow::Result<u64> {
        let result = match read(&self.sockets[index], buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            result => result.context("read")?,
        };
        match self.options.mode {
            Mode::Connect if result == 0 => {
                // This drops the old socket, which closes it by a reset.
                self.sockets[index] = self.connect(index as u64)?;
                Ok(1)
            }
            Mode::Connect => Ok(0),
            Mode::Keepalive if result == 0 => bail!("the server closed the connection"),
            Mode::Keepalive => {
                let left = &mut self.left[index];
                let Some(still) = left.checked_sub(result as u32) else {
                    bail!("the server sent more than {} bytes", self.options.response_bytes)
                };
                *left = still;
                if still > 0 {
                    return Ok(0);
                }
                *left = self.options.response_bytes;
                self.request(index)?;
                Ok(1)
            }
        }
    }

    /// Writes a request. Waits if the socket's send buffer is full, which is rare.
    fn request(&self, index: usize) -> anyhow::Result<()> {
        let socket = &self.sockets[index];
        let mut rest = &PAYLOAD[..self.options.request_bytes as usize];
        while !rest.is_empty() {
            match write(socket, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EAGAIN) => {
                    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(1000u16))?;
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("write"),
            }
        }
        Ok(())
    }
}
