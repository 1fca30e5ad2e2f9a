//! The protocol: requests of a fixed size, each answered by a response of a fixed size. There are no headers: the bytes
//! that a server reads are exactly those that the load generator counts.

/// Finds the ends of requests in a stream of reads of any size.
#[derive(Debug, Clone)]
pub struct Framing {
    request_bytes: u64,
    have: u64,
}

impl Framing {
    /// Requests of `request_bytes` bytes.
    ///
    /// # Panics
    /// If that is 0.
    #[must_use]
    pub fn new(request_bytes: u64) -> Self {
        assert!(request_bytes > 0, "a request has at least one byte");
        Self { request_bytes, have: 0 }
    }

    /// Adds `bytes` that were read. Returns the number of requests that they complete.
    pub fn push(&mut self, bytes: u64) -> u64 {
        let total = self.have + bytes;
        self.have = total % self.request_bytes;
        total / self.request_bytes
    }

    /// Number of bytes of the incomplete request.
    #[must_use]
    pub fn partial(&self) -> u64 {
        self.have
    }
}

/// The content of requests and responses, which has no meaning.
pub static PAYLOAD: [u8; 65_536] = [b'.'; 65_536];

/// The next piece to write, of `owed` bytes in total.
#[must_use]
pub fn piece(owed: u64) -> &'static [u8] {
    &PAYLOAD[..usize::try_from(owed).unwrap_or(usize::MAX).min(PAYLOAD.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_take_several_reads() {
        let mut framing = Framing::new(10);
        assert_eq!([3, 3, 3].map(|bytes| framing.push(bytes)), [0, 0, 0]);
        assert_eq!(framing.partial(), 9);
        assert_eq!(framing.push(1), 1);
        assert_eq!(framing.partial(), 0);
    }

    #[test]
    fn a_read_may_bring_several_requests_and_a_part() {
        let mut framing = Framing::new(10);
        assert_eq!(framing.push(35), 3);
        assert_eq!(framing.push(5), 1);
    }

    #[test]
    fn a_piece_is_never_longer_than_owed() {
        assert_eq!(piece(0).len(), 0);
        assert_eq!(piece(7).len(), 7);
        assert_eq!(piece(u64::MAX).len(), PAYLOAD.len());
    }
}
