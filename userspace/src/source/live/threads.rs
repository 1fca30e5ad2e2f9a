//! Threads that were seen working: what they did (from the probes) and where their time went (from /proc).

use std::{
    collections::{HashMap, VecDeque},
    fs, io, ptr,
    time::{Duration, Instant},
};

use aya::maps::{HashMap as BpfHashMap, MapData, MapError, Queue};
use listentop_abi::{
    listener::{ListenerRef, Work},
    thread::{ThreadKey, ThreadRecord},
};
use listentop_model::sample::ThreadSample;

use super::shared::SharedArray;

/// A thread's times and name are read again after this long; the work itself is read at each sample.
const TIMES_EVERY: Duration = Duration::from_secs(1);
/// A thread that /proc does not show is taken to have ended when it did nothing for this long.
const INVISIBLE_IDLE: Duration = Duration::from_secs(60);
/// Ended threads that are kept one by one per listener; older ones are summed up.
const DEPARTED: usize = 64;

/// All threads of all listeners.
pub(super) struct Threads {
    records: SharedArray<ThreadRecord>,
    capacity: u32,
    index: BpfHashMap<MapData, ThreadKey, u32>,
    free: Queue<MapData, u32>,
    seen: HashMap<ThreadKey, Seen>,
    departed: HashMap<u32, Departed>,
}

struct Seen {
    sample: ThreadSample,
    generation: u32,
    record: u32,
    read_at: Instant,
    worked_at: Instant,
}

#[derive(Default)]
struct Departed {
    generation: u32,
    recent: VecDeque<ThreadSample>,
    /// Sums over those that are no longer kept one by one; thread id 0.
    older: Option<ThreadSample>,
}

impl Threads {
    /// Threads in a table of `capacity` records, all of them free.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(super) fn new(
        records: SharedArray<ThreadRecord>,
        capacity: u32,
        index: BpfHashMap<MapData, ThreadKey, u32>,
        mut free: Queue<MapData, u32>,
    ) -> Result<Self, MapError> {
        for record in 0..capacity {
            free.push(record, 0)?;
        }
        Ok(Self { records, capacity, index, free, seen: HashMap::new(), departed: HashMap::new() })
    }

    /// Reads the table, and frees the records of threads that have ended: nothing will add to them any more.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(super) fn refresh(&mut self, now: Instant) -> io::Result<()> {
        let mut ended = Vec::new();
        for index in 0..self.capacity {
            // SAFETY: inside the mapping; a field of a record of integers, read as a whole.
            if unsafe { ptr::read_volatile(&raw const (*self.records.pointer(index)).key.tid) } == 0 {
                continue;
            }
            let record = self.records.read(index);
            let seen = self.seen.entry(record.key).or_insert_with(|| Seen {
                sample: ThreadSample {
                    pid: record.pid,
                    tid: record.tid,
                    start_ns: record.key.start_ns,
                    comm: text(&record.comm),
                    ..ThreadSample::default()
                },
                generation: record.generation,
                record: index,
                read_at: now.checked_sub(TIMES_EVERY).unwrap_or(now),
                worked_at: now,
            });
            if charge(&mut seen.sample, &record.work) {
                seen.worked_at = now;
            }
            if now.duration_since(seen.read_at) >= TIMES_EVERY {
                seen.read_at = now;
                // A thread that is not visible in our PID namespace cannot be looked up: it has ended when it is idle for long.
                seen.sample.ended = if record.pid == 0 {
                    now.duration_since(seen.worked_at) > INVISIBLE_IDLE
                } else {
                    !read_times(&mut seen.sample)
                };
                if seen.sample.ended {
                    ended.push(record.key);
                }
            }
        }
        for key in ended {
            if let Some(mut seen) = self.seen.remove(&key) {
                // Once more: it may have worked between the reading and its end.
                charge(&mut seen.sample, &self.records.read(seen.record).work);
                self.release(key, seen.record)?;
                self.depart(key.slot, seen);
            }
        }
        Ok(())
    }

    /// Frees a record: first its entry in the index, so that no probe finds it.
    fn release(&mut self, key: ThreadKey, record: u32) -> io::Result<()> {
        match self.index.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        self.records.write(record, ThreadRecord::default());
        self.free.push(record, 0).map_err(io::Error::other)
    }

    fn depart(&mut self, slot: u32, seen: Seen) {
        let departed = self.departed.entry(slot).or_default();
        if departed.generation != seen.generation {
            *departed = Departed { generation: seen.generation, ..Departed::default() };
        }
        departed.recent.push_back(seen.sample);
        if departed.recent.len() > DEPARTED
            && let Some(oldest) = departed.recent.pop_front()
        {
            let older = departed.older.get_or_insert_with(|| ThreadSample {
                pid: oldest.pid,
                comm: "(ended)".to_owned(),
                ended: true,
                ..ThreadSample::default()
            });
            older.accepts += oldest.accepts;
            older.would_block += oldest.would_block;
            older.accept_failed += oldest.accept_failed;
            older.reads += oldest.reads;
            older.read_bytes += oldest.read_bytes;
            older.first_reads += oldest.first_reads;
            older.writes += oldest.writes;
            older.write_bytes += oldest.write_bytes;
        }
    }

    /// Every listener's threads, by slot.
    pub(super) fn by_slot(&self) -> HashMap<u32, Vec<&ThreadSample>> {
        let mut slots: HashMap<u32, Vec<&ThreadSample>> = HashMap::new();
        for (key, seen) in &self.seen {
            slots.entry(key.slot).or_default().push(&seen.sample);
        }
        for (slot, departed) in &self.departed {
            slots.entry(*slot).or_default().extend(departed.recent.iter().chain(&departed.older));
        }
        for threads in slots.values_mut() {
            threads.sort_unstable_by_key(|thread| (thread.pid, thread.tid, thread.start_ns));
        }
        slots
    }

    /// Forgets the threads of a listener whose slot is to be used again.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(super) fn forget(&mut self, listener: ListenerRef) -> io::Result<()> {
        let gone: Vec<(ThreadKey, u32)> = self
            .seen
            .iter()
            .filter(|(key, _)| key.slot == listener.slot)
            .map(|(key, seen)| (*key, seen.record))
            .collect();
        for (key, record) in gone {
            self.seen.remove(&key);
            self.release(key, record)?;
        }
        self.departed.remove(&listener.slot);
        Ok(())
    }
}

/// Takes over what the record says; whether it has changed.
fn charge(sample: &mut ThreadSample, work: &Work) -> bool {
    let counters = [
        (&mut sample.accepts, work.accepts),
        (&mut sample.would_block, work.would_block),
        (&mut sample.accept_failed, work.accept_failed),
        (&mut sample.reads, work.reads),
        (&mut sample.read_bytes, work.read_bytes),
        (&mut sample.first_reads, work.first_reads),
        (&mut sample.writes, work.writes),
        (&mut sample.write_bytes, work.write_bytes),
    ];
    let mut changed = false;
    for (shown, counted) in counters {
        changed |= *shown != counted;
        *shown = counted;
    }
    changed
}

/// Reads a thread's name and times; whether it is still there.
fn read_times(sample: &mut ThreadSample) -> bool {
    let directory = format!("/proc/{}/task/{}", sample.pid, sample.tid);
    match fs::read_to_string(format!("{directory}/stat")) {
        Ok(stat) => match parse_stat(&stat) {
            // Another thread may have got the id since.
            Some((_, start_ticks)) if start_ticks.abs_diff(sample.start_ns / NS_PER_TICK) > 1 => return false,
            // exec changes the name, and neither the id nor the start.
            Some((comm, _)) => comm.clone_into(&mut sample.comm),
            None => {}
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
            return false;
        }
        Err(_) => {}
    }
    if let Ok(schedstat) = fs::read_to_string(format!("{directory}/schedstat")) {
        let mut fields = schedstat.split_ascii_whitespace().map(|field| field.parse().ok());
        sample.on_cpu_ns = fields.next().flatten();
        sample.run_queue_ns = fields.next().flatten();
    }
    true
}

/// /proc counts start times in USER_HZ, which is 100 on every architecture that we build for.
const NS_PER_TICK: u64 = 10_000_000;

/// Name and start time in ticks since boot (fields 2 and 22 of /proc/PID/stat). The name may hold anything, so it ends at the last ')'.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let start = stat.get(close + 1..)?.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some((stat.get(open + 1..close)?, start))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_and_brackets_are_whole() {
        let stat = "12 (a ) (b) S 1 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 777 0 0";
        assert_eq!(parse_stat(stat), Some(("a ) (b", 777)));
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn another_thread_with_the_same_id_is_not_the_same() {
        let stat = fs::read_to_string("/proc/self/stat").expect("we run");
        let (comm, ticks) = parse_stat(&stat).expect("the kernel's format");
        let pid = std::process::id();
        let mut sample = ThreadSample { pid, tid: pid, start_ns: ticks * NS_PER_TICK, ..ThreadSample::default() };
        assert!(read_times(&mut sample));
        assert_eq!(sample.comm, comm);
        sample.start_ns += 1_000_000_000;
        assert!(!read_times(&mut sample));
    }
}
