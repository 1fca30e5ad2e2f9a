//! What the fuzzer runs on every input: as a file, and as frames whose checksums are right, which it could not guess.

use std::{fs::File, io::Write as _};

use nix::sys::memfd::{MFdFlags, memfd_create};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::{
    Recording,
    codec::Decoder,
    frame::{Header, Kind},
};

/// Samples that are read of one input, at most.
const MOST: usize = 300;

/// Reads `data` in every way.
///
/// # Panics
/// If the machine has no memory for a file.
pub fn exercise(data: &[u8]) {
    let file = memfd_create(c"recording", MFdFlags::MFD_CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(data).expect("there is memory");
    if let Ok(recording) = Recording::of_file(file) {
        let read = recording.samples(0..recording.len()).take(MOST).count();
        assert!(read <= recording.len());
        let last = recording.len().saturating_sub(1);
        assert!(recording.samples(last..usize::MAX).count() <= 1);
    }
    let mut decoder = Decoder::default();
    for (kind, is_compressed, content) in chunks(data).take(MOST) {
        let decoded = if is_compressed {
            decoder.decode(&Header::of_payload(kind, 4_096, content), content)
        } else {
            let payload = compress_to_vec(content, CompressionLevel::Fastest);
            decoder.decode(&Header::of_payload(kind, content.len() as u32, &payload), &payload)
        };
        // A whole sample that was read is what changes are to.
        assert!(!matches!(decoded, Ok(Some(_))) || decoder.is_ready());
    }
}

/// The input as contents of frames: a byte for the kind, two for the length, then the content.
fn chunks(data: &[u8]) -> impl Iterator<Item = (Kind, bool, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (&[flags, low, high], behind) = rest.split_first_chunk::<3>()?;
        let length = usize::from(low) | usize::from(high) << 8;
        let (content, behind) = behind.split_at(length.min(behind.len()));
        rest = behind;
        let kind = if flags & 1 == 0 { Kind::Key } else { Kind::Delta };
        Some((kind, flags & 2 != 0, content))
    })
}

/// An input that is read as these frames.
#[must_use]
pub fn seed(frames: &[(bool, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (is_change, content) in frames {
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        data.push(u8::from(*is_change));
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(&content[..usize::from(length)]);
    }
    data
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use listentop_model::fixtures;

    use super::*;
    use crate::{
        Encoder, Start, Writer,
        frame::{self, HEADER},
    };

    /// The seeds of the fuzzer: `UPDATE_DOCS=1 cargo test -p listentop-recording seeds` makes them.
    #[test]
    fn the_seeds_are_samples() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        let samples = [fixtures::overflow(), fixtures::quiet()].map(|mut samples| {
            samples.truncate(4);
            samples
        });
        if std::env::var_os("UPDATE_DOCS").is_some() {
            for (samples, name) in samples.iter().zip(["overflow", "quiet"]) {
                let path = folder.join(format!("{name}.rec"));
                let _ = fs::remove_file(&path);
                let mut writer = Writer::file(&path, Start::new("a seed".to_owned(), 1), None).expect("it can be made");
                let mut encoder = Encoder::default();
                let mut frames = Vec::new();
                for sample in samples {
                    writer.write(sample).expect("there is room");
                    let frame = encoder.encode(sample).expect("it is small");
                    let (header, payload) = frame.split_first_chunk::<HEADER>().expect("a header");
                    let header = Header::parse(header).expect("a header");
                    frames.push((header.kind == Kind::Delta, frame::plain(&header, payload).expect("it is whole")));
                }
                writer.finish().expect("it is written");
                fs::write(folder.join(format!("{name}.frames")), seed(&frames)).expect("it is written");
            }
        }
        for name in ["overflow", "quiet"] {
            for ending in ["rec", "frames"] {
                let data = fs::read(folder.join(format!("{name}.{ending}"))).expect("it is there");
                exercise(&data);
            }
            let data = fs::read(folder.join(format!("{name}.frames"))).expect("it is there");
            let mut decoder = Decoder::default();
            for (kind, _, content) in chunks(&data) {
                let payload = compress_to_vec(content, CompressionLevel::Fastest);
                let header = Header::of_payload(kind, content.len() as u32, &payload);
                assert!(decoder.decode(&header, &payload).expect("it fits").is_some());
            }
        }
        exercise(&[]);
        exercise(&[0; 1_000]);
    }
}
