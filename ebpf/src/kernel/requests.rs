//! Requests: what waits in a SYN queue, and what the kernel keeps of it until the connection is accepted.

use super::{MaybeGone, btf, probe};

/// A `struct request_sock` by address, which may be gone: see [`super`].
#[derive(Clone, Copy)]
pub(crate) struct Request(pub(crate) u64);

impl Request {
    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The request that a `struct timer_list` is part of.
    #[inline(always)]
    pub(crate) fn of_timer(timer: MaybeGone) -> Self {
        Self(timer.0.wrapping_sub(u64::from(btf::REQUEST_TIMER.load())))
    }

    /// Whether it is in the kernel's table, as each request of a SYN queue is.
    #[inline(always)]
    pub(crate) fn is_listed(self) -> bool {
        probe::<u64>(self.0, &btf::REQUEST_LISTED).is_some_and(|pprev| pprev != 0)
    }

    /// How often its timer has expired and started again. Up to 6.x it shares its byte with a flag.
    #[inline(always)]
    pub(crate) fn expiries(self) -> u32 {
        let byte = probe::<u8>(self.0, &btf::REQUEST_TIMEOUTS_BYTE).unwrap_or(0);
        u32::from(byte) >> btf::REQUEST_TIMEOUTS_BIT.load()
    }

    /// How often its SYN-ACK was sent again.
    #[inline(always)]
    pub(crate) fn resent(self) -> u32 {
        if btf::REQUEST_RESENT.load() == 0 { 0 } else { probe::<u8>(self.0, &btf::REQUEST_RESENT).map_or(0, u32::from) }
    }

    /// Whether its final ACK has come, and it stayed a request; `None` where this kernel does not show that.
    #[inline(always)]
    pub(crate) fn acked(self) -> Option<bool> {
        if btf::REQUEST_ACKED_BYTE.load() == 0 {
            return None;
        }
        let byte = probe::<u8>(self.0, &btf::REQUEST_ACKED_BYTE)?;
        Some((byte >> btf::REQUEST_ACKED_BIT.load()) & 1 == 1)
    }

    /// When its first SYN-ACK was sent (CLOCK_MONOTONIC); 0 if that has yet to happen.
    #[inline(always)]
    pub(crate) fn synack_ns(self) -> u64 {
        probe::<u64>(self.0, &btf::REQUEST_SNT_SYNACK).map_or(0, |us| us * 1000)
    }

    /// Its child, once the handshake is complete.
    #[inline(always)]
    pub(crate) fn child(self) -> MaybeGone {
        MaybeGone(probe(self.0, &btf::REQUEST_SK).unwrap_or(0))
    }

    /// The address of the listener that it belongs to.
    #[inline(always)]
    pub(crate) fn listener(self) -> u64 {
        probe(self.0, &btf::REQUEST_LISTENER).unwrap_or(0)
    }

    /// The next on the accept queue.
    #[inline(always)]
    pub(crate) fn next(self) -> Request {
        Request(probe(self.0, &btf::REQUEST_NEXT).unwrap_or(0))
    }

    /// How long ago its first SYN-ACK was sent; 0 if that is unknown (a cookie). The kernel keeps microseconds.
    #[inline(always)]
    pub(crate) fn since_synack_ns(self, now: u64) -> u64 {
        match probe::<u64>(self.0, &btf::REQUEST_SNT_SYNACK) {
            // At least one, as 0 stands for unknown.
            Some(us) if us != 0 => now.saturating_sub(us * 1000).max(1),
            _ => 0,
        }
    }

    /// The initial sequence number that the client chose.
    #[inline(always)]
    pub(crate) fn receive_isn(self) -> Option<u32> {
        probe(self.0, &btf::REQUEST_RCV_ISN)
    }

    /// Whether it was made of a cookie: such a request is in no table, so nothing refers to it yet.
    #[inline(always)]
    pub(crate) fn is_cookie(self) -> bool {
        self.is_unreferenced()
    }

    /// Whether it has left the accept queue where it was seen with this child. An accept takes it off the queue. Before
    /// it returns it frees the request or, with TCP Fast Open, takes the child out of it.
    #[inline(always)]
    pub(crate) fn has_left(self, child: MaybeGone) -> bool {
        self.is_unreferenced() || self.child().0 != child.0
    }

    #[inline(always)]
    fn is_unreferenced(self) -> bool {
        probe::<u32>(self.0, &btf::REQUEST_REFCNT) == Some(0)
    }

    /// An estimate of when its connection was put on the accept queue, for one that no probe saw: the time of the
    /// SYN-ACK plus the round trip that was measured with it. 0 if unknown.
    #[inline(always)]
    pub(crate) fn enqueued_ns(self) -> u64 {
        match probe::<u64>(self.0, &btf::REQUEST_SNT_SYNACK) {
            Some(us) if us != 0 => (us + u64::from(self.child().srtt_us())) * 1000,
            _ => 0,
        }
    }
}
