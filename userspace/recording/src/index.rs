//! Where the frames of a file are, and where it is damaged.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
};

use crate::frame::{HEADER, Header, SYNC};

/// How much is read at once while the next frame is looked for.
const PIECE: usize = 64 << 10;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where the payload begins.
    pub(crate) payload: u64,
    pub(crate) header: Header,
}

/// What is in a file.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) places: Vec<Place>,
    /// Bytes that are no frame, and that frames follow.
    pub(crate) damaged: u64,
    /// Bytes at the end that are no whole frame: the writer ended there, or is writing.
    pub(crate) unfinished: u64,
}

/// Finds the frames of a file by their headers. `seen` is told how far it is, in bytes.
pub(crate) fn scan(file: &File, mut seen: impl FnMut(u64)) -> io::Result<Contents> {
    let mut contents = Contents::default();
    // What is written meanwhile is not looked at.
    let end = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(PIECE, file);
    let mut at = reader.seek(SeekFrom::Start(0))?;
    while at < end {
        let header = header_at(&mut reader, at, end)?;
        let payload = at + HEADER as u64;
        if let Some(header) = header.filter(|header| payload + u64::from(header.length) <= end) {
            contents.places.push(Place { payload, header });
            at = payload + u64::from(header.length);
            reader.seek_relative(i64::from(header.length))?;
        } else if let Some(next) = next_frame(&mut reader, at + 1, end)? {
            contents.damaged += next - at;
            at = next;
            reader.seek(SeekFrom::Start(at))?;
        } else {
            contents.unfinished = end - at;
            at = end;
        }
        seen(at);
    }
    Ok(contents)
}

/// The header at this place, where the reader is.
fn header_at(reader: &mut BufReader<&File>, at: u64, end: u64) -> io::Result<Option<Header>> {
    if at + HEADER as u64 > end {
        return Ok(None);
    }
    let mut bytes = [0; HEADER];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Header::parse(&bytes)),
        // It became shorter.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the next whole frame begins, from `from` on.
fn next_frame(reader: &mut BufReader<&File>, from: u64, end: u64) -> io::Result<Option<u64>> {
    let mut at = from;
    reader.seek(SeekFrom::Start(at))?;
    let mut window = Vec::new();
    loop {
        let before = window.len();
        let mut piece = reader.by_ref().take((PIECE as u64).min(end.saturating_sub(at + before as u64)));
        let read = piece.read_to_end(&mut window)?;
        let begins = |bytes: &[u8]| {
            let (head, _) = bytes.split_first_chunk::<HEADER>()?;
            let header = Header::parse(head)?;
            Some(header.length)
        };
        // Headers that are cut by the window's end come again.
        for place in 0..window.len().saturating_sub(HEADER - 1) {
            let found = window[place] == SYNC[0] && {
                let length = begins(&window[place..]);
                length.is_some_and(|length| at + (place + HEADER) as u64 + u64::from(length) <= end)
            };
            if found {
                return Ok(Some(at + place as u64));
            }
        }
        if read == 0 {
            return Ok(None);
        }
        let kept = window.len().min(HEADER - 1);
        at += (window.len() - kept) as u64;
        window.drain(..window.len() - kept);
    }
}
