//! Packets.

use aya_ebpf::helpers::bpf_probe_read_kernel;

use super::*;

/// Why a packet to a listener was dropped, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A final ACK, with the request kept for another try.
    Overflow,
    /// A final ACK that carried a cookie.
    CookieOverflow,
    /// No attempt was refused, but `sk_drops` counted the packet.
    NotAnAttempt,
    /// Neither.
    Nothing,
}

/// Classifies a dropped packet by the reason and the place where it was freed.
#[inline(always)]
pub(crate) fn refusal(reason: u32, location: u64) -> Refusal {
    if reason == REASON_LISTEN_OVERFLOW.load() {
        Refusal::Overflow
    } else if reason == REASON_NO_SOCKET.load() {
        Refusal::CookieOverflow
    } else if DISCARDING.load().iter().any(|[begin, end]| location >= *begin && location < *end) {
        Refusal::NotAnAttempt
    } else {
        Refusal::Nothing
    }
}

/// Remote address (IPv4 as v4-mapped) and port of a received TCP packet.
#[inline(always)]
pub(crate) unsafe fn packet_source(skb: *const u8) -> Option<([u8; 16], u16)> {
    let head: u64 = unsafe { direct(skb, &SKB_HEAD) };
    let network = head + u64::from(unsafe { direct::<u16>(skb, &SKB_NETWORK_HEADER) });
    let transport = head + u64::from(unsafe { direct::<u16>(skb, &SKB_TRANSPORT_HEADER) });
    let port: u16 = unsafe { bpf_probe_read_kernel(transport as *const u16) }.ok()?;
    let first: u8 = unsafe { bpf_probe_read_kernel(network as *const u8) }.ok()?;
    // Source addresses are 12 bytes into an IPv4 header and 8 bytes into an IPv6 header (RFC 791, RFC 8200).
    let address = if first >> 4 == 4 {
        v4_mapped(unsafe { bpf_probe_read_kernel((network + 12) as *const [u8; 4]) }.ok()?)
    } else {
        unsafe { bpf_probe_read_kernel((network + 8) as *const [u8; 16]) }.ok()?
    };
    Some((address, u16::from_be(port)))
}

/// Whether a packet is IPv4.
#[inline(always)]
pub(crate) unsafe fn is_ipv4(skb: *const u8) -> bool {
    unsafe { direct::<u16>(skb, &SKB_PROTOCOL) == ETH_P_IP }
}

/// Flags of a TCP header (RFC 9293).
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Whether a packet for a request is a final ACK that would have completed it (`tcp_check_req`): an ACK, and not one
/// without data that TCP_DEFER_ACCEPT waits behind.
#[inline(always)]
pub(crate) unsafe fn would_complete(sock: Sock, skb: *const u8, request: Request) -> bool {
    let head: u64 = unsafe { direct(skb, &SKB_HEAD) };
    let transport = head + u64::from(unsafe { direct::<u16>(skb, &SKB_TRANSPORT_HEADER) });
    // Flags are the 14th byte of the header.
    let Ok(flags) = (unsafe { bpf_probe_read_kernel((transport + 13) as *const u8) }) else { return false };
    if flags & (SYN | RST | ACK) != ACK {
        return false;
    }
    let bare = probe::<u32>(skb as u64, &SKB_END_SEQ) == request.receive_isn().map(|isn| isn.wrapping_add(1));
    !bare || RawSock(sock.key()).defer_accept() == 0
}

/// ::ffff:a.b.c.d (RFC 4291).
#[inline(always)]
pub(crate) fn v4_mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}
