//! `flood`: SYNs from addresses that do not answer, in a network namespace without a way out, bounded in number and
//! time.

use crate::cli::usage;
use crate::duration;
use crate::sys::{block, now_ns, print_json};
use anyhow::{Context, bail};
use clap::Parser;
use nix::ifaddrs::getifaddrs;
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

/// The addresses of the senders: for benchmarks, used by nobody (RFC 2544). 2^17 of them.
const SENDERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 254, 0, 0);

/// The only interface that may be there: what is sent to it stays in the namespace.
const LOOPBACK: &str = "lo";

/// The most SYNs of one run.
const MOST: u64 = 1_000_000;
/// The longest run.
const LONGEST: Duration = Duration::from_secs(300);
/// Time between two looks at the clock and the signals.
const TICK: Duration = Duration::from_millis(2);

/// Sends SYNs from addresses that do not answer: a SYN flood, for the lab.
///
/// It refuses to run in a network namespace that has another interface than loopback, and any target but loopback.
/// Prints {"sent","seconds"} as one line of JSON when it ends, and upon SIGUSR1.
#[derive(Debug, Clone, Parser)]
#[command(name = "flood", version)]
pub struct Options {
    /// The server: an IPv4 loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub target: SocketAddrV4,
    /// SYNs per second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub rate: u64,
    /// End after this time, at most 300s
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, default_value = "300s")]
    pub duration: Duration,
    /// Seed of the senders' addresses
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What `flood` prints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// SYNs that were sent.
    pub sent: u64,
    /// How long it ran.
    pub seconds: f64,
}

impl Options {
    /// Refuses what could harm anybody: these are the interfaces of its network namespace.
    ///
    /// # Errors
    /// One line naming the reason.
    pub fn check(&self, interfaces: &[String]) -> anyhow::Result<()> {
        if let Some(way_out) = interfaces.iter().find(|name| *name != LOOPBACK) {
            return Err(usage(format!(
                "a flood is refused here: this network namespace has another interface than loopback, {way_out}"
            )));
        }
        if !self.target.ip().is_loopback() || self.target.port() == 0 {
            return Err(usage(format!("target {} refused: only loopback addresses are allowed", self.target)));
        }
        if self.duration > LONGEST {
            return Err(usage(format!("--for is at most {} s", LONGEST.as_secs())));
        }
        Ok(())
    }
}

/// Runs the flood.
///
/// # Errors
/// A refused target, a user other than root, or a packet that cannot be sent.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let interfaces = getifaddrs().context("the interfaces cannot be read")?.map(|interface| interface.interface_name);
    options.check(&interfaces.collect::<Vec<_>>())?;
    let mask = block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1])?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
    let raw = Socket::new(Domain::IPV4, Type::from(libc::SOCK_RAW), Some(Protocol::from(libc::IPPROTO_RAW)));
    let raw = raw.context("a raw socket needs root (CAP_NET_RAW)")?;
    route_to_senders(&raw).context("no route to the senders")?;
    let target = SockAddr::from(options.target);
    let mut random = fastrand::Rng::with_seed(options.seed);
    let start = now_ns();
    let end = options.duration.as_nanos() as u64;
    let mut sent = 0;
    loop {
        let elapsed = now_ns() - start;
        let mut ended = elapsed >= end || sent >= MOST;
        while let Some(signal) = signals.read_signal().context("signalfd")? {
            if signal.ssi_signo == Signal::SIGUSR1 as u32 {
                print_json(&Sent { sent, seconds: elapsed as f64 / 1e9 })?;
            } else {
                ended = true;
            }
        }
        if ended {
            print_json(&Sent { sent, seconds: elapsed as f64 / 1e9 })?;
            return Ok(ExitCode::SUCCESS);
        }
        let due = (elapsed as f64 / 1e9 * options.rate as f64) as u64;
        while sent < due.min(MOST) {
            let sender = Ipv4Addr::from_bits(SENDERS.to_bits() | random.u32(1..1 << 17));
            let packet = syn(SocketAddrV4::new(sender, random.u16(1024..)), options.target, random.u32(..));
            match raw.send_to(&packet, &target) {
                Ok(_) => sent += 1,
                // The queue of the interface is full: the next one may fit.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => break,
                Err(error) => return Err(error).context("a SYN cannot be sent"),
            }
        }
        std::thread::sleep(TICK);
    }
}

/// Routes the senders to the loopback interface, where nobody has their addresses: what is sent to them is dropped.
/// Without a route the server's kernel would refuse their SYNs.
fn route_to_senders(socket: &Socket) -> anyhow::Result<()> {
    /// `struct rtentry` of linux/route.h.
    #[repr(C)]
    struct Route {
        pad1: libc::c_ulong,
        destination: libc::sockaddr_in,
        gateway: libc::sockaddr_in,
        mask: libc::sockaddr_in,
        flags: libc::c_ushort,
        pad2: libc::c_short,
        pad3: libc::c_ulong,
        pad4: *mut libc::c_void,
        metric: libc::c_short,
        device: *mut libc::c_char,
        mtu: libc::c_ulong,
        window: libc::c_ulong,
        irtt: libc::c_ushort,
    }
    /// The route is usable.
    const UP: libc::c_ushort = 1;
    let address = |ip: Ipv4Addr| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: ip.to_bits().to_be() },
        sin_zero: [0; 8],
    };
    let mut device = *b"lo\0";
    let route = Route {
        pad1: 0,
        destination: address(SENDERS),
        gateway: address(Ipv4Addr::UNSPECIFIED),
        mask: address(MASK),
        flags: UP,
        pad2: 0,
        pad3: 0,
        pad4: std::ptr::null_mut(),
        metric: 0,
        device: device.as_mut_ptr().cast(),
        mtu: 0,
        window: 0,
        irtt: 0,
    };
    // SAFETY: the structure has the kernel's layout, and lives as long as the call, as does the device's name.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) } < 0 {
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EEXIST) {
            bail!(error);
        }
    }
    Ok(())
}

/// Length of an IPv4 header, and of a TCP header, without options.
const HEADER: usize = 20;

/// A SYN with its IPv4 header. The kernel fills in the header's own checksum and length.
fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> [u8; 2 * HEADER] {
    let mut packet = [0; 2 * HEADER];
    let (ip, tcp) = packet.split_at_mut(HEADER);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&(2 * HEADER as u16).to_be_bytes());
    ip[8] = 64;
    ip[9] = libc::IPPROTO_TCP as u8;
    ip[12..16].copy_from_slice(&from.ip().octets());
    ip[16..20].copy_from_slice(&to.ip().octets());
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    // Five words of header; SYN.
    tcp[12] = 5 << 4;
    tcp[13] = 2;
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let sum = checksum(from, to, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The Internet checksum over a TCP header without data and its pseudo-header.
fn checksum(from: SocketAddrV4, to: SocketAddrV4, tcp: &[u8]) -> u16 {
    let pseudo = [from.ip().octets(), to.ip().octets(), [0, libc::IPPROTO_TCP as u8, 0, HEADER as u8]].concat();
    let words = pseudo.chunks(2).chain(tcp.chunks(2));
    let sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options::parse_from(format!("flood {line}").split_whitespace())
    }

    #[test]
    fn it_runs_where_there_is_no_way_out_only() {
        let interfaces = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let inside = interfaces(&["lo", "lo"]);
        assert!(options("--target 127.0.0.1:7001").check(&inside).is_ok());
        for (line, interfaces) in [
            ("--target 127.0.0.1:7001", interfaces(&["lo", "eth0"])),
            ("--target 127.0.0.1:7001", interfaces(&["veth1", "lo"])),
            ("--target 10.0.0.1:7001", inside.clone()),
            ("--target 127.0.0.1:0", inside.clone()),
            ("--target 127.0.0.1:7001 --for 10m", inside),
        ] {
            let error = options(line).check(&interfaces).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{line}: {error}");
        }
        for bad in ["--target 127.0.0.1:1 --rate 0", "--target 127.0.0.1:1 --rate 100000", "--target [::1]:1"] {
            assert!(Options::try_parse_from(format!("flood {bad}").split_whitespace()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_checksum_makes_the_sum_zero() {
        let (from, to) = (SocketAddrV4::new(SENDERS, 1234), SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7001));
        let packet = syn(from, to, 0xdead_beef);
        // With the checksum in place the sum over everything is all ones.
        assert_eq!(checksum(from, to, &packet[HEADER..]), 0);
        assert_eq!((packet[0], packet[9], packet[HEADER + 13]), (0x45, 6, 2));
    }
}
