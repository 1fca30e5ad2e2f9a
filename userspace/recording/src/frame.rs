//! Frames: what a recording is made of.
//!
//! A frame is a header of [`HEADER`] bytes and a payload. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | [`SYNC`], by which a reader finds the next frame behind damage |
//! | 1 | [`Kind`] |
//! | 1 | how the payload is compressed: 1 is Zstandard |
//! | 2 | 0, for later |
//! | 4 | length of the payload |
//! | 4 | its length before it was compressed |
//! | 8 | number of the sample in its recording |
//! | 8 | wall clock of the sample, in milliseconds since the epoch |
//! | 8 | monotonic clock of the sample, in nanoseconds |
//! | 4 | CRC-32C of the payload |
//! | 4 | CRC-32C of the header up to here |

use std::io::Read as _;

use ruzstd::{
    decoding::StreamingDecoder,
    encoding::{CompressionLevel, compress_to_vec},
};
use serde::{Serialize, de::DeserializeOwned};

/// Length of a frame's header.
pub const HEADER: usize = 48;

/// The first bytes of each frame. The first is in no text.
pub const SYNC: [u8; 4] = [0xf5, b'L', b'T', b'f'];

/// The largest payload, before and after compression: that of some 25,000 listeners.
pub const LARGEST: usize = 64 << 20;

/// The most values that a payload may hold, so that what a reader makes of one fits its memory.
const MOST_ITEMS: usize = 16 << 20;

/// How a payload is compressed: Zstandard.
const ZSTANDARD: u8 = 1;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// About the recording: the first frame of each file.
    Start = b'S',
    /// A whole sample, by itself.
    Key = b'K',
    /// What changed since the sample before.
    Delta = b'D',
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Start, Self::Key, Self::Delta].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The checksum of the payload is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// It is compressed in a way that is not known here.
    #[error("it is compressed in a way that this version does not know")]
    Compression,
    /// The payload does not decompress to its length.
    #[error("it cannot be decompressed")]
    Decompress,
    /// It is too large.
    #[error("it is larger than any sample")]
    TooLarge,
    /// The payload is no CBOR, or not of a sample.
    #[error("its content cannot be read: {0}")]
    Content(String),
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it holds.
    pub kind: Kind,
    compression: u8,
    /// Length of its payload.
    pub length: u32,
    plain: u32,
    /// Number of its sample.
    pub serial: u64,
    /// Wall clock of its sample, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// Monotonic clock of its sample, in nanoseconds.
    pub monotonic_ns: u64,
    checksum: u32,
}

/// What a header says of its sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the sample in its recording.
    pub serial: u64,
    /// Wall clock, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// Monotonic clock, in nanoseconds.
    pub monotonic_ns: u64,
}

impl Header {
    /// The header in these bytes; `None` if there is none, or a damaged one.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (covered, sum) = bytes.split_at(HEADER - 4);
        if bytes[..4] != SYNC || crc32c::crc32c(covered).to_le_bytes() != *sum {
            return None;
        }
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
        let header = Self {
            kind: Kind::of(bytes[4])?,
            compression: bytes[5],
            length: number(8),
            plain: number(12),
            serial: long(16),
            unix_ms: long(24),
            monotonic_ns: long(32),
            checksum: number(40),
        };
        (header.length as usize <= LARGEST).then_some(header)
    }

    /// A header for this payload, whatever is in it, which is to have this length when it is decompressed.
    #[cfg(any(test, feature = "exercise"))]
    pub(crate) fn of_payload(kind: Kind, plain: u32, payload: &[u8]) -> Self {
        Self {
            kind,
            compression: ZSTANDARD,
            length: payload.len() as u32,
            plain,
            serial: 0,
            unix_ms: 0,
            monotonic_ns: 0,
            checksum: crc32c::crc32c(payload),
        }
    }

    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&SYNC);
        bytes[4] = self.kind as u8;
        bytes[5] = self.compression;
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.plain.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.serial.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.unix_ms.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.monotonic_ns.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.checksum.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads what the payload holds.
    ///
    /// # Errors
    /// It is damaged, or of another version.
    pub fn open<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, FrameError> {
        if crc32c::crc32c(payload) != self.checksum {
            return Err(FrameError::Checksum);
        }
        if self.compression != ZSTANDARD {
            return Err(FrameError::Compression);
        }
        let plain = decompress(payload, self.plain as usize)?;
        check_size(&plain)?;
        ciborium::from_reader(&plain[..]).map_err(|error| FrameError::Content(error.to_string()))
    }
}

/// What a payload is before it is compressed.
#[cfg(test)]
pub(crate) fn plain(header: &Header, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    decompress(payload, header.plain as usize)
}

fn decompress(payload: &[u8], length: usize) -> Result<Vec<u8>, FrameError> {
    if length > LARGEST {
        return Err(FrameError::TooLarge);
    }
    let decoder = StreamingDecoder::new(payload).map_err(|_| FrameError::Decompress)?;
    let mut plain = Vec::new();
    // One more than there may be, which shows.
    decoder.take(length as u64 + 1).read_to_end(&mut plain).map_err(|_| FrameError::Decompress)?;
    if plain.len() == length { Ok(plain) } else { Err(FrameError::Decompress) }
}

/// Counts the values before any is made: a byte of CBOR can become 32 of memory.
fn check_size(plain: &[u8]) -> Result<(), FrameError> {
    let mut rest = plain;
    for _ in 0..MOST_ITEMS {
        match after_item(rest) {
            Some([]) => return Ok(()),
            Some(behind) => rest = behind,
            None => return Err(FrameError::Content("it is no CBOR".to_owned())),
        }
    }
    Err(FrameError::TooLarge)
}

/// What follows the first item (RFC 8949, section 3): of a list or map its head alone, of a text all of it.
fn after_item(bytes: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first & 0x1f {
        direct @ 0..=23 => return skip_text(first, direct.into(), rest),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        // Of unknown length, or the end of such: nothing here writes them, and they are counted by their heads.
        31 => return Some(rest),
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    let number = number.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    skip_text(first, number, rest)
}

fn skip_text(first: u8, number: u64, rest: &[u8]) -> Option<&[u8]> {
    match first >> 5 {
        // Bytes and text.
        2 | 3 => rest.get(usize::try_from(number).ok()?..),
        _ => Some(rest),
    }
}

/// A whole frame.
///
/// # Errors
/// It would be too large.
pub fn frame<T: Serialize>(kind: Kind, stamp: Stamp, content: &T) -> Result<Vec<u8>, FrameError> {
    let mut plain = Vec::new();
    ciborium::into_writer(content, &mut plain).map_err(|error| FrameError::Content(error.to_string()))?;
    if plain.len() > LARGEST {
        return Err(FrameError::TooLarge);
    }
    let payload = compress_to_vec(&plain[..], CompressionLevel::Fastest);
    if payload.len() > LARGEST {
        return Err(FrameError::TooLarge);
    }
    let Stamp { serial, unix_ms, monotonic_ns } = stamp;
    let header = Header {
        kind,
        compression: ZSTANDARD,
        length: payload.len() as u32,
        plain: plain.len() as u32,
        serial,
        unix_ms,
        monotonic_ns,
        checksum: crc32c::crc32c(&payload),
    };
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(&payload);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use ciborium::Value;

    use super::*;

    const STAMP: Stamp = Stamp { serial: 7, unix_ms: 1_764_400_000_123, monotonic_ns: 99 };

    fn parts(frame: &[u8]) -> (Header, &[u8]) {
        let (header, payload) = frame.split_at(HEADER);
        (Header::parse(header.try_into().expect("its length")).expect("a header"), payload)
    }

    #[test]
    fn a_frame_is_read_back() {
        let content = Value::from("what was measured");
        let bytes = frame(Kind::Key, STAMP, &content).expect("it is small");
        let (header, payload) = parts(&bytes);
        assert_eq!(
            (header.kind, header.serial, header.unix_ms, header.monotonic_ns),
            (Kind::Key, 7, STAMP.unix_ms, 99)
        );
        assert_eq!(header.length as usize, payload.len());
        assert_eq!(header.open::<Value>(payload).expect("it is whole"), content);
    }

    #[test]
    fn each_changed_bit_is_noticed() {
        let bytes = frame(Kind::Delta, STAMP, &Value::from(vec![Value::from(1), "two".into()])).expect("it is small");
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            let (header, payload) = damaged.split_at(HEADER);
            let header = Header::parse(header.try_into().expect("its length"));
            let read = header.map(|header| header.open::<Value>(payload));
            assert!(read.is_none_or(|content| matches!(content, Err(FrameError::Checksum))), "bit {at}");
        }
    }

    #[test]
    fn sizes_are_checked_before_anything_is_made() {
        // A list of empty lists: each byte would become 32.
        let many = vec![0x80; MOST_ITEMS + 1];
        assert!(matches!(check_size(&many), Err(FrameError::TooLarge)));
        assert!(check_size(&many[1..]).is_ok());
        for (bad, what) in [
            (&[0x78, 5, b'a'][..], "a text that ends early"),
            (&[0x1c], "a head that there is not"),
            (&[0x1b, 0], "a number that ends early"),
            (&[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a text of any length"),
        ] {
            assert!(check_size(bad).is_err(), "{what}");
        }
    }

    #[test]
    fn a_length_that_is_wrong_is_noticed() {
        let bytes = frame(Kind::Key, STAMP, &Value::from("some text")).expect("it is small");
        let (header, payload) = parts(&bytes);
        for plain in [0, header.plain - 1, header.plain + 1, u32::MAX] {
            assert!(Header { plain, ..header }.open::<Value>(payload).is_err(), "{plain}");
        }
        let unknown = Header { compression: 2, ..header };
        assert!(matches!(unknown.open::<Value>(payload), Err(FrameError::Compression)));
    }
}
