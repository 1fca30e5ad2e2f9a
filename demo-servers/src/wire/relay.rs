//! The line: frames that arrive on one interface leave on the other one, later or never.

use super::{Options, delay, link};
use crate::sys::now_ns;
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socket};
use nix::sys::time::TimeSpec;
use serde::Serialize;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Most frames that are on their way in one direction. What comes beyond is lost, as in a router.
const ROOM: usize = 10_000;
/// The largest frame, and some more.
const FRAME: usize = 4096;

/// What the line has carried.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Counts {
    /// Frames that came in.
    frames: u64,
    /// Those that did not come out.
    lost: u64,
}

/// One interface.
struct End {
    socket: OwnedFd,
    /// When each frame must leave on the other one.
    under_way: VecDeque<(u64, Vec<u8>)>,
}

/// The line between two interfaces of the calling thread's namespace.
pub(super) struct Relay {
    ends: [End; 2],
    delay_ns: u64,
    loss: f64,
    random: fastrand::Rng,
    pub(super) counts: Counts,
}

impl Relay {
    pub(super) fn new(names: [&str; 2], options: &Options) -> anyhow::Result<Self> {
        let [near, far] = names;
        let end = |name| {
            link::up(name)?;
            anyhow::Ok(End { socket: open(name)?, under_way: VecDeque::new() })
        };
        Ok(Self {
            ends: [end(near)?, end(far)?],
            delay_ns: delay(options).as_nanos() as u64,
            loss: options.loss / 100.0,
            random: fastrand::Rng::with_seed(options.seed),
            counts: Counts::default(),
        })
    }

    /// Carries frames until `other` is readable.
    pub(super) fn run(&mut self, other: BorrowedFd<'_>) -> anyhow::Result<()> {
        let mut buffer = vec![0; FRAME];
        loop {
            let wake = self.ends.iter().filter_map(|end| Some(end.under_way.front()?.0)).min();
            let left = wake.map(|wake| TimeSpec::from_duration(Duration::from_nanos(wake.saturating_sub(now_ns()))));
            let [one, two] = [&self.ends[0].socket, &self.ends[1].socket];
            let mut fds = [other, one.as_fd(), two.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match ppoll(&mut fds, left, None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("ppoll"),
            }
            let readable = fds.map(|fd| fd.any() == Some(true));
            for end in [0, 1] {
                if readable[1 + end] {
                    self.take(end, &mut buffer)?;
                }
                self.give(end)?;
            }
            if readable[0] {
                return Ok(());
            }
        }
    }

    /// Takes frames that came in, some at a time so that neither direction starves the other.
    fn take(&mut self, end: usize, buffer: &mut [u8]) -> anyhow::Result<()> {
        for _ in 0..64 {
            let length = match recv(self.ends[end].socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => return Ok(()),
                Err(error) => return Err(error).context("recv from the line"),
            };
            self.counts.frames += 1;
            let full = self.ends[end].under_way.len() >= ROOM;
            if full || self.random.f64() < self.loss {
                self.counts.lost += 1;
            } else {
                self.ends[end].under_way.push_back((now_ns() + self.delay_ns, buffer[..length].to_vec()));
            }
        }
        Ok(())
    }

    /// Sends what is due on the other interface.
    fn give(&mut self, end: usize) -> anyhow::Result<()> {
        while let Some((_, frame)) = self.ends[end].under_way.pop_front_if(|(due, _)| *due <= now_ns()) {
            match send(self.ends[1 - end].socket.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => {}
                // No room, or the other side is going down: the frame is lost, and TCP sends it again.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENETDOWN | Errno::ENXIO) => {
                    self.counts.lost += 1;
                }
                Err(error) => return Err(error).context("send on the line"),
            }
        }
        Ok(())
    }
}

/// Frames of all kinds.
const ALL: u16 = (libc::ETH_P_ALL as u16).to_be();
// linux/if_packet.h, which libc has for some C libraries only.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// A socket for the frames that arrive on an interface.
fn open(name: &str) -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    // Without a protocol it receives nothing before it is bound to its interface.
    let packet = socket(AddressFamily::Packet, SockType::Raw, flags, None).context("cannot open a packet socket")?;
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes an int, which outlives the call.
    let result = unsafe {
        let on = (&raw const on).cast();
        libc::setsockopt(packet.as_raw_fd(), libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, on, length)
    };
    Errno::result(result).context("PACKET_IGNORE_OUTGOING")?;
    let index = nix::net::if_::if_nametoindex(name).with_context(|| format!("the index of {name}"))?;
    // SAFETY: zero is valid for all members.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ALL;
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a `sockaddr_ll` of that length, and outlives the call.
    let result = unsafe { libc::bind(packet.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(result).with_context(|| format!("cannot listen to {name}"))?;
    Ok(packet)
}
