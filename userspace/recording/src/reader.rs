//! Reading recordings: whole, damaged, cut off, or still being written.

use std::{
    fmt,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use listentop_model::sample::Sample;

use crate::{
    codec::Decoder,
    files::{self, Folder, Opened},
    frame::{Header, Kind, Stamp},
    index::{self, Contents, Place},
    segments,
    start::{Start, VERSION},
};

/// Why a recording cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the system says.
    #[error("{}: {error}", .path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What it says.
        #[source]
        error: io::Error,
    },
    /// It is something else.
    #[error("{}: this is not a recording of listentop", .0.display())]
    NoRecording(PathBuf),
    /// It holds no sample.
    #[error("{}: the recording holds no sample that can be read", .0.display())]
    Empty(PathBuf),
    /// A later version wrote it.
    #[error("{}: it was recorded by a newer version ({program}, format {format}); this one reads format {VERSION}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Who wrote it.
        program: String,
        /// In which format.
        format: u32,
    },
}

/// What cannot be read of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that are no frames.
    pub bytes: u64,
    /// Samples that are missing, or that depend on a damaged one.
    pub samples: u64,
    /// Bytes at the end of the last sample that was being written.
    pub unfinished: u64,
    /// Files of which nothing can be read, with the reason.
    pub files: Vec<String>,
}

impl Damage {
    /// Whether all can be read. An unfinished end is no damage: the recorder ended there, or is at work.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.bytes == 0 && self.samples == 0 && self.files.is_empty()
    }

    /// That the recording ends within a sample, if it does: who reads it should know that more may have been written.
    #[must_use]
    pub fn cut_off(&self) -> Option<String> {
        (self.unfinished > 0).then(|| {
            format!(
                "ends within a sample (its last {} bytes): it was cut off there, its recorder was killed, or it is being \
                 written",
                self.unfinished
            )
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.samples > 0 {
            let samples = if self.samples == 1 { "sample" } else { "samples" };
            parts.push(format!("{} {samples} cannot be read", self.samples));
        }
        if self.bytes > 0 {
            parts.push(format!("{} bytes are damaged", self.bytes));
        }
        parts.extend(self.files.iter().cloned());
        write!(f, "{}; the rest is read", parts.join(", "))
    }
}

/// A sample's frame.
#[derive(Debug, Clone, Copy)]
struct Entry {
    file: usize,
    place: Place,
}

/// Samples that belong together: those of one measurement.
#[derive(Debug, Clone)]
pub struct Run {
    /// About it.
    pub start: Start,
    /// Its samples, by their places in the recording.
    pub samples: Range<usize>,
}

/// A recording that is open: a file, or a folder of segments.
#[derive(Debug)]
pub struct Recording {
    files: Vec<File>,
    entries: Vec<Entry>,
    runs: Vec<Run>,
    damage: Damage,
}

impl Recording {
    /// Opens it, and finds its samples. `seen` is told the bytes looked at so far, and of how many.
    ///
    /// # Errors
    /// There is none, or a newer version wrote it.
    pub fn open(path: &Path, mut seen: impl FnMut(u64, u64)) -> Result<Self, OpenError> {
        let system = |error| OpenError::System { path: path.to_owned(), error };
        let mut recording =
            Self { files: Vec::new(), entries: Vec::new(), runs: Vec::new(), damage: Damage::default() };
        let files = match files::open(path).map_err(system)? {
            Opened::File(file) => vec![file],
            Opened::Folder(folder) => recording.segments(&folder).map_err(system)?,
        };
        let sizes = files.iter().map(|file| Ok(file.metadata()?.len())).collect::<io::Result<Vec<_>>>();
        let sizes = sizes.map_err(system)?;
        let all = sizes.iter().sum();
        let mut before = 0;
        let mut found = Vec::new();
        for (file, size) in files.into_iter().zip(&sizes) {
            let contents = index::scan(&file, |at| seen(before + at, all)).map_err(system)?;
            before += size;
            found.push((file, contents));
        }
        if found.iter().all(|(_, contents)| contents.places.is_empty()) {
            return Err(OpenError::NoRecording(path.to_owned()));
        }
        // By number: names may have been changed, and the wall clock set.
        found.sort_by_key(|(_, contents)| contents.places.first().map(|place| place.header.serial));
        for (file, contents) in found {
            recording.add(path, file, &contents)?;
        }
        if recording.entries.is_empty() { Err(OpenError::Empty(path.to_owned())) } else { Ok(recording) }
    }

    /// Reads a file that is open already.
    #[cfg(any(test, feature = "exercise"))]
    pub(crate) fn of_file(file: File) -> Result<Self, OpenError> {
        let path = Path::new("a file");
        let system = |error| OpenError::System { path: path.to_owned(), error };
        let mut recording =
            Self { files: Vec::new(), entries: Vec::new(), runs: Vec::new(), damage: Damage::default() };
        let contents = index::scan(&file, |_| ()).map_err(system)?;
        recording.add(path, file, &contents)?;
        Ok(recording)
    }

    /// The segments of a folder. One that the recorder deletes meanwhile is not among them.
    fn segments(&mut self, folder: &Folder) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        for name in folder.names()?.into_iter().filter(|name| segments::is_segment(name)) {
            match folder.read(&name) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.damage.files.push(format!("{}: {error}", name.display())),
            }
        }
        Ok(files)
    }

    /// Adds what a file holds.
    fn add(&mut self, path: &Path, file: File, contents: &Contents) -> Result<(), OpenError> {
        let at = self.files.len();
        self.damage.bytes += contents.damaged;
        self.damage.unfinished += contents.unfinished;
        let mut start = None;
        for place in &contents.places {
            if place.header.kind != Kind::Start {
                let entry = Entry { file: at, place: *place };
                self.take(entry, start.take());
                continue;
            }
            match payload(&file, place).map(|payload| place.header.open::<Start>(&payload)) {
                Ok(Ok(found)) if found.format > VERSION => {
                    let Start { program, format, .. } = found;
                    return Err(OpenError::Newer { path: path.to_owned(), program, format });
                }
                Ok(Ok(found)) => start = Some(found),
                Ok(Err(_)) | Err(_) => self.damage.bytes += u64::from(place.header.length),
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Adds a sample; `start` is before it in its file.
    fn take(&mut self, entry: Entry, start: Option<Start>) {
        let place = self.entries.len();
        let continues = self.runs.last().is_some_and(|run| {
            let last = self.entries.last().map_or(0, |last| last.place.header.serial);
            start.as_ref().is_none_or(|start| start.run == run.start.run) && entry.place.header.serial > last
        });
        if continues {
            let last = self.entries.last().map_or(0, |last| last.place.header.serial);
            // Samples that damage took. What the recorder deleted is not missed: only within one file.
            if self.entries.last().is_some_and(|last| last.file == entry.file) {
                self.damage.samples += entry.place.header.serial - last - 1;
            }
        } else {
            let start = start.unwrap_or_else(|| Start::new("an unknown version".to_owned(), 0));
            self.runs.push(Run { start, samples: place..place });
        }
        self.entries.push(entry);
        if let Some(run) = self.runs.last_mut() {
            run.samples.end = place + 1;
        }
    }

    /// The measurements in it, the first one first; never empty.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no samples, which none has that is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is known of a sample without reading it; `None` past the end.
    #[must_use]
    pub fn stamp(&self, at: usize) -> Option<Stamp> {
        let Header { serial, unix_ms, monotonic_ns, .. } = self.entries.get(at)?.place.header;
        Some(Stamp { serial, unix_ms, monotonic_ns })
    }

    /// What the frames of its samples hold.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.entries.iter().map(|entry| entry.place.header.kind)
    }

    /// What could not be read when it was opened.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Reads the samples at these places, in order. Damaged ones are left out, with those that depend on them.
    #[must_use]
    pub fn samples(&self, places: Range<usize>) -> Samples<'_> {
        let places = places.start.min(self.entries.len())..places.end.min(self.entries.len());
        // Changes are to the sample before: it begins with the whole one that they start from.
        let key = self.entries[..places.start.saturating_add(1).min(self.entries.len())]
            .iter()
            .rposition(|entry| entry.place.header.kind == Kind::Key);
        let at = key.unwrap_or(places.start).min(places.start);
        Samples { recording: self, at, places, decoder: Decoder::default(), last: None, unreadable: 0 }
    }
}

fn payload(file: &File, place: &Place) -> io::Result<Vec<u8>> {
    let mut payload = vec![0; place.header.length as usize];
    file.read_exact_at(&mut payload, place.payload)?;
    Ok(payload)
}

/// Samples as they are read.
#[derive(Debug)]
pub struct Samples<'a> {
    recording: &'a Recording,
    at: usize,
    places: Range<usize>,
    decoder: Decoder,
    /// Number and file of the sample that the decoder has.
    last: Option<(u64, usize)>,
    unreadable: u64,
}

impl Samples<'_> {
    /// Samples that could not be read so far.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The sample at a place; `None` if it cannot be read.
    fn read(&mut self, entry: &Entry) -> Option<Sample> {
        let header = &entry.place.header;
        let follows = self.last.is_some_and(|(serial, file)| serial + 1 == header.serial && file == entry.file);
        if !follows {
            self.decoder.restart();
        }
        self.last = Some((header.serial, entry.file));
        let payload = payload(&self.recording.files[entry.file], &entry.place).ok();
        let sample = payload.and_then(|payload| self.decoder.decode(header, &payload).ok().flatten());
        if sample.is_none() {
            self.decoder.restart();
        }
        sample
    }
}

impl Iterator for Samples<'_> {
    /// The sample's place in the recording, and the sample.
    type Item = (usize, Sample);

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.places.end {
            let at = self.at;
            self.at += 1;
            let entry = self.recording.entries[at];
            let sample = self.read(&entry);
            if at < self.places.start {
                continue;
            }
            match sample {
                Some(sample) => return Some((at, sample)),
                None => self.unreadable += 1,
            }
        }
        None
    }
}
