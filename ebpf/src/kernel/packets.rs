//! Packets.

use aya_ebpf::Global;

use super::{ETH_P_IP, LiveSocket, Request, btf, direct, number, probe, read_at};

/// Why a packet to a listener was dropped, as far as that concerns its queues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A final ACK; the request stays for another try.
    Overflow,
    /// A final ACK that carried a cookie.
    CookieOverflow,
    /// No attempt was refused, but `sk_drops` counted the packet.
    NotAnAttempt,
    /// Anything else.
    Nothing,
}

/// Classifies a dropped packet by the reason and the place where it was freed.
#[inline(always)]
pub(crate) fn refusal(reason: u32, location: u64) -> Refusal {
    if reason == btf::REASON_LISTEN_OVERFLOW.load() {
        Refusal::Overflow
    } else if reason == btf::REASON_NO_SOCKET.load() {
        Refusal::CookieOverflow
    } else if btf::DISCARDING.load().iter().any(|[begin, end]| location >= *begin && location < *end) {
        Refusal::NotAnAttempt
    } else {
        Refusal::Nothing
    }
}

/// A flag of the TCP header, as the next two (RFC 9293).
const SYN: u8 = 0x02;
/// The connection is reset.
const RST: u8 = 0x04;
/// The packet acknowledges something.
const ACK: u8 = 0x10;

/// A received TCP packet (`struct sk_buff`) that the kernel passed: a live pointer, see [`super`].
#[derive(Clone, Copy)]
pub(crate) struct Packet(*const u8);

impl Packet {
    /// # Safety
    /// The verifier knows the pointer as `struct sk_buff *`, and the kernel holds the packet until the program returns.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// Address of one of its headers.
    #[inline(always)]
    fn header(self, offset: &Global<u32>) -> u64 {
        // SAFETY: a packet, and offsets of its members.
        let (head, header) = unsafe { (direct::<u64>(self.0, &btf::SKB_HEAD), direct::<u16>(self.0, offset)) };
        head + u64::from(header)
    }

    /// Remote address (IPv4 as v4-mapped) and port.
    #[inline(always)]
    pub(crate) fn source(self) -> Option<([u8; 16], u16)> {
        let network = self.header(&btf::SKB_NETWORK_HEADER);
        let transport = self.header(&btf::SKB_TRANSPORT_HEADER);
        let port: u16 = read_at(transport)?;
        let first: u8 = read_at(network)?;
        // Source addresses are 12 bytes into an IPv4 header and 8 bytes into an IPv6 header (RFC 791, RFC 8200).
        let address = if first >> 4 == 4 { v4_mapped(read_at(network + 12)?) } else { read_at(network + 8)? };
        Some((address, u16::from_be(port)))
    }

    /// Whether it is IPv4.
    #[inline(always)]
    pub(crate) fn is_ipv4(self) -> bool {
        // SAFETY: a packet, and an offset of its members.
        let protocol: u16 = unsafe { direct(self.0, &btf::SKB_PROTOCOL) };
        protocol == ETH_P_IP
    }

    /// Whether it is a final ACK that would have completed the request (`tcp_check_req`): an ACK, and not one without
    /// data to a listener with btf::TCP_DEFER_ACCEPT, which waits for data.
    #[inline(always)]
    pub(crate) fn would_complete(self, listener: LiveSocket, request: Request) -> bool {
        // Flags are the 14th byte of the header.
        let Some(flags) = read_at::<u8>(self.header(&btf::SKB_TRANSPORT_HEADER) + 13) else { return false };
        if flags & (SYN | RST | ACK) != ACK {
            return false;
        }
        let bare =
            probe::<u32>(number(self.0), &btf::SKB_END_SEQ) == request.receive_isn().map(|isn| isn.wrapping_add(1));
        !bare || listener.address().defer_accept() == 0
    }
}

/// `::`, an address of zeros. Hidden from the compiler, which would call `memset`: see the test of the object's calls.
#[inline(always)]
pub(crate) fn any_address() -> [u8; 16] {
    u128::from(core::hint::black_box(0_u64)).to_ne_bytes()
}

/// ::ffff:a.b.c.d (RFC 4291).
#[inline(always)]
pub(crate) fn v4_mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}
