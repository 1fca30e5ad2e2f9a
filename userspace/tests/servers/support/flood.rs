//! A flood of SYNs whose senders never answer.

use std::{
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use test_support::lab::loopback;

const HEADER: usize = 20;
/// Senders that nobody is: what the server answers them is routed to the loopback device, which throws it away.
const SENDERS: &str = "10.99.0.0/16";
/// SYNs are sent in groups, this many every 10 ms.
const GROUP: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Sends SYNs to a port of the loopback address for this long, 2,000 a second; how many it sent. Each is from another
/// address of the namespace's own.
pub(crate) fn flood(port: u16, span: Duration) -> u64 {
    let route = Command::new("ip").args(["route", "replace", SENDERS, "dev", "lo"]).status();
    assert!(route.expect("ip(8) runs").success(), "a route to the senders");
    let raw = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw)).expect("a raw socket");
    let start = Instant::now();
    let (mut sent, mut group) = (0_u32, 0_u32);
    while start.elapsed() < span {
        for _ in 0..GROUP {
            let sender = Ipv4Addr::new(10, 99, (sent >> 8) as u8, sent as u8);
            socket.send_to(&syn(sender, 20_000 + (sent >> 16) as u16, port), &loopback(0).into()).expect("it is sent");
            sent += 1;
        }
        group += 1;
        thread::sleep((PAUSE * group).saturating_sub(start.elapsed()));
    }
    u64::from(sent)
}

/// An IPv4 packet with a SYN (RFC 791, RFC 9293). The kernel fills in the length and the checksum of the IPv4 header.
fn syn(sender: Ipv4Addr, from: u16, to: u16) -> [u8; 2 * HEADER] {
    const WORDS: u8 = 5;
    const SYN: u8 = 2;
    let receiver = Ipv4Addr::LOCALHOST;
    let mut packet = [0; 2 * HEADER];
    (packet[0], packet[8], packet[9]) = (0x40 | WORDS, 64, libc::IPPROTO_TCP as u8);
    packet[12..16].copy_from_slice(&sender.octets());
    packet[16..20].copy_from_slice(&receiver.octets());
    let tcp = &mut packet[HEADER..];
    tcp[..2].copy_from_slice(&from.to_be_bytes());
    tcp[2..4].copy_from_slice(&to.to_be_bytes());
    tcp[4..8].copy_from_slice(&u32::from(sender).to_be_bytes());
    (tcp[12], tcp[13]) = (WORDS << 4, SYN);
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let mut sum = u32::from(libc::IPPROTO_TCP as u16) + HEADER as u32;
    // The checksum covers both addresses, the protocol and the length too.
    for pair in packet[12..].as_chunks().0 {
        sum += u32::from(u16::from_be_bytes(*pair));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[HEADER + 16..HEADER + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}
