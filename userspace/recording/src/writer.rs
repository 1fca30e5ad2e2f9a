//! Writing recordings: a file, or a ring of segments in a folder.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

use listentop_model::sample::Sample;
use nix::errno::Errno;

use crate::{
    codec::Encoder,
    files::{self, Folder, Lock},
    frame::{self, FrameError, Kind, Stamp},
    index,
    segments::{self, Bounds, Segment},
    start::Start,
};

/// Why nothing more is written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full, and a ring has nothing left to delete.
    #[error("the disk is full")]
    Full,
    /// The recording is as large as it may be.
    #[error("it is as large as it may be")]
    Limit,
    /// A sample is too large.
    #[error("a sample cannot be recorded: {0}")]
    Sample(#[from] FrameError),
    /// What the system says.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What happened to a ring besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The disk is full: it holds less than it should, from this time on (milliseconds since the epoch).
    Shrunk(u64),
    /// There was no room for the parts that were to be kept: those before this time are gone.
    KeptGone(u64),
}

/// Bounds of a ring.
#[derive(Debug, Clone, Copy)]
pub struct Ring {
    /// How long it is, in milliseconds.
    pub span_ms: u64,
    /// How much of it goes at once, in milliseconds.
    pub segment_ms: u64,
}

/// Writes a recording. What was written is whole whenever the process ends; after a power loss the last sample may be
/// missing.
#[derive(Debug)]
pub struct Writer {
    start: Start,
    encoder: Encoder,
    file: Option<Current>,
    /// Where segments are; `None` for a recording in one file.
    ring: Option<Segments>,
    most: Option<u64>,
    notices: Vec<Notice>,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    file: File,
    segment: Segment,
    /// From the first sample on. Before, the thread that makes the writer may have rights that it will give up.
    syncer: Option<Syncer>,
}

/// The others.
#[derive(Debug)]
struct Segments {
    folder: Folder,
    _lock: Lock,
    bounds: Ring,
    /// The oldest first.
    done: Vec<Segment>,
    /// Times to keep, in milliseconds since the epoch.
    keep: Vec<(u64, u64)>,
}

impl Writer {
    /// A recording in one file, which must not be there yet. It ends before it is larger than `most` bytes.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn file(path: &Path, start: Start, most: Option<u64>) -> io::Result<Self> {
        let file = files::create(path)?;
        let segment = Segment::new(Stamp { serial: 0, unix_ms: 0, monotonic_ns: 0 });
        let file = Some(Current { file, segment, syncer: None });
        Ok(Self { start, encoder: Encoder::default(), file, ring: None, most, notices: Vec::new() })
    }

    /// A ring in a folder, which is made if it is not there. One that is there is continued. It holds at most `most`
    /// bytes.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn ring(path: &Path, start: Start, bounds: Ring, most: Option<u64>) -> io::Result<Self> {
        let folder = files::folder(path)?;
        let lock = folder.lock()?;
        let mut done = existing(&folder)?;
        done.sort_by_key(|(segment, _)| segment.serial);
        let next = done.iter().map(|(_, last)| last + 1).max().unwrap_or(0);
        let done = done.into_iter().map(|(segment, _)| segment).collect();
        let ring = Some(Segments { folder, _lock: lock, bounds, done, keep: Vec::new() });
        let encoder = Encoder::from_serial(next);
        let mut writer = Self { start, encoder, file: None, ring, most, notices: Vec::new() };
        // What is too old goes before anything else comes.
        writer.drop_surplus(u64::MAX)?;
        Ok(writer)
    }

    /// Says where the samples come from, and how often, before the first.
    pub fn describe(&mut self, source: &str, every: Duration) {
        self.start.source = Some(source.to_owned());
        self.start.interval_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    }

    /// Writes a sample.
    ///
    /// # Errors
    /// Nothing more can be written. What was written before is whole.
    pub fn write(&mut self, sample: &Sample) -> Result<(), WriteError> {
        self.go_on(sample.unix_ms)?;
        loop {
            match self.append(sample) {
                Err(WriteError::System(error)) if is_full(&error) => self.make_room()?,
                written => return written,
            }
        }
    }

    /// Bytes that the recording has.
    #[must_use]
    pub fn size(&self) -> u64 {
        let done = self.ring.iter().flat_map(|ring| &ring.done).map(|segment| segment.size).sum::<u64>();
        done + self.file.as_ref().map_or(0, |current| current.segment.size)
    }

    /// Samples that were written, with those of a ring that was continued.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.encoder.serial()
    }

    /// Keeps this time (milliseconds since the epoch) when the ring goes round.
    pub fn keep(&mut self, from_ms: u64, until_ms: u64) {
        if let Some(ring) = &mut self.ring {
            ring.keep.push((from_ms, until_ms));
        }
    }

    /// What happened since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Ends the recording: all of it is on the disk then.
    ///
    /// # Errors
    /// The disk fails.
    pub fn finish(mut self) -> io::Result<()> {
        self.close()
    }

    fn append(&mut self, sample: &Sample) -> Result<(), WriteError> {
        let frame = self.encoder.encode(sample)?;
        let stamp =
            Stamp { serial: self.encoder.serial() - 1, unix_ms: sample.unix_ms, monotonic_ns: sample.monotonic_ns };
        let written = self.append_frame(&frame, stamp);
        if written.is_err() {
            // It was not written, so the next one cannot be changes to it.
            self.encoder = Encoder::from_serial(stamp.serial);
        }
        written
    }

    fn append_frame(&mut self, frame: &[u8], stamp: Stamp) -> Result<(), WriteError> {
        let limit = self.most.filter(|_| self.ring.is_none());
        let current = match &mut self.file {
            Some(current) => current,
            None => self.file.insert(self.ring.as_ref().ok_or(WriteError::Full)?.begin(stamp, &self.start)?),
        };
        if current.segment.size == 0 {
            current.segment.span.0 = stamp.unix_ms;
            current.begin(&self.start)?;
        }
        if limit.is_some_and(|most| current.segment.size + frame.len() as u64 > most) {
            return Err(WriteError::Limit);
        }
        current.append(frame)?;
        current.sync()?;
        // The wall clock may be set back.
        current.segment.span.1 = current.segment.span.1.max(stamp.unix_ms);
        Ok(())
    }

    /// Begins the next segment, if it is time, and deletes what a ring no longer holds.
    fn go_on(&mut self, now_ms: u64) -> io::Result<()> {
        let Some(ring) = &self.ring else { return Ok(()) };
        let (length, most) = (ring.bounds.segment_ms, self.most);
        let is_over = |segment: &Segment| {
            let age = now_ms.abs_diff(segment.span.0);
            // A part of what the ring may hold, so that little goes at once.
            age >= length || most.is_some_and(|most| segment.size > most / 8)
        };
        if self.file.as_ref().is_some_and(|current| is_over(&current.segment)) {
            self.close()?;
        }
        self.drop_surplus(now_ms)
    }

    /// Ends the file that is being written.
    fn close(&mut self) -> io::Result<()> {
        let Some(current) = self.file.take() else { return Ok(()) };
        drop(current.syncer);
        current.file.sync_all()?;
        self.encoder.restart();
        if let Some(ring) = &mut self.ring {
            ring.done.push(current.segment);
        }
        Ok(())
    }

    fn drop_surplus(&mut self, now_ms: u64) -> io::Result<()> {
        let current = self.file.as_ref().map_or(0, |current| current.segment.size);
        let most = self.most;
        let Some(ring) = &mut self.ring else { return Ok(()) };
        ring.mark_kept()?;
        // At the start the time is not known yet: only the size counts.
        let (span_ms, now) = if now_ms == u64::MAX { (u64::MAX, 0) } else { (ring.bounds.span_ms, now_ms) };
        let bounds = Bounds { span_ms, size: most };
        while let Some(place) = segments::surplus(&ring.done, bounds, now, current) {
            let gone = ring.remove(place)?;
            if gone.kept {
                self.notices.push(Notice::KeptGone(gone.span.1));
            }
        }
        Ok(())
    }

    /// Deletes the oldest segment, because the disk is full.
    fn make_room(&mut self) -> Result<(), WriteError> {
        let Some(ring) = &mut self.ring else { return Err(WriteError::Full) };
        let place = segments::oldest(&ring.done).ok_or(WriteError::Full)?;
        let gone = ring.remove(place)?;
        let notice = if gone.kept { Notice::KeptGone(gone.span.1) } else { Notice::Shrunk(gone.span.1) };
        self.notices.push(notice);
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    [Errno::ENOSPC, Errno::EDQUOT].iter().any(|full| error.raw_os_error() == Some(*full as i32))
}

/// The segments that are there, each with the number of its last sample.
fn existing(folder: &Folder) -> io::Result<Vec<(Segment, u64)>> {
    let mut found = Vec::new();
    for name in folder.names()? {
        let Some((serial, kept)) = segments::number(&name) else { continue };
        let file = folder.read(&name)?;
        let contents = index::scan(&file, |_| ())?;
        let stamps = || contents.places.iter().filter(|place| place.header.kind != Kind::Start);
        let times = || stamps().map(|place| place.header.unix_ms);
        let span = (times().next().unwrap_or(0), times().max().unwrap_or(0));
        let last = stamps().map(|place| place.header.serial).max().unwrap_or(serial);
        found.push((Segment { serial, span, size: file.metadata()?.len(), kept }, last));
    }
    Ok(found)
}

impl Segments {
    /// Begins a segment with this sample.
    fn begin(&self, first: Stamp, start: &Start) -> Result<Current, WriteError> {
        let segment = Segment::new(first);
        let file = self.folder.create(&segment.name())?;
        let mut current = Current { syncer: None, file, segment };
        if let Err(error) = current.begin(start) {
            // An empty file would be in the way of the next attempt.
            self.folder.remove(&current.segment.name())?;
            return Err(error);
        }
        Ok(current)
    }

    /// Gives those that are to be kept their names.
    fn mark_kept(&mut self) -> io::Result<()> {
        for segment in self.done.iter_mut().filter(|segment| !segment.kept) {
            if self.keep.iter().any(|(from, until)| segment.touches(*from, *until)) {
                let before = segment.name();
                segment.kept = true;
                self.folder.rename(&before, &segment.name())?;
            }
        }
        // A time is over once the last segment is past it.
        let latest = self.done.last().map_or(0, |segment| segment.span.0);
        self.keep.retain(|(_, until)| *until >= latest);
        Ok(())
    }

    fn remove(&mut self, place: usize) -> io::Result<Segment> {
        let segment = self.done.remove(place);
        match self.folder.remove(&segment.name()) {
            // Somebody else did.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(segment),
            removed => removed.map(|()| segment),
        }
    }
}

impl Current {
    /// Writes the first frame.
    fn begin(&mut self, start: &Start) -> Result<(), WriteError> {
        let stamp = Stamp { serial: self.segment.serial, unix_ms: self.segment.span.0, monotonic_ns: 0 };
        Ok(self.append(&frame::frame(Kind::Start, stamp, start)?)?)
    }

    /// Appends a frame, whole or not at all.
    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(frame) {
            self.file.set_len(self.segment.size)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.segment.size))?;
            return Err(error);
        }
        self.segment.size += frame.len() as u64;
        Ok(())
    }

    /// Has what was written brought to the disk.
    fn sync(&mut self) -> io::Result<()> {
        match &self.syncer {
            Some(syncer) => syncer.due(),
            None => self.syncer.insert(Syncer::start(&self.file)?).due(),
        }
    }
}

/// Has a file written to the disk, beside the thread that samples: a slow disk must not delay samples.
#[derive(Debug)]
struct Syncer {
    due: Option<SyncSender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    /// What went wrong, as errno: the kernel reports it once.
    failed: Arc<AtomicI32>,
}

impl Syncer {
    fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        // One that waits stands for all that come while it does.
        let (due, wanted) = mpsc::sync_channel(1);
        let failed = Arc::new(AtomicI32::new(0));
        let failure = failed.clone();
        let sync = move || {
            while wanted.recv().is_ok() {
                if let Err(error) = file.sync_data() {
                    failure.store(error.raw_os_error().unwrap_or(Errno::EIO as i32), Ordering::Relaxed);
                }
            }
        };
        let thread = thread::Builder::new().name("disk".to_owned()).spawn(sync)?;
        Ok(Self { due: Some(due), thread: Some(thread), failed })
    }

    /// Has it written now. An error is that of an earlier time.
    fn due(&self) -> io::Result<()> {
        if let Some(due) = &self.due {
            // If one waits already, that is enough.
            let _ = due.try_send(());
        }
        match self.failed.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
