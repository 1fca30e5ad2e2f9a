//! Threads that were seen working: what they did (from the probes) and where their time went (from /proc).

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    fs, io, ptr,
    time::{Duration, Instant},
};

use aya::maps::{HashMap as BpfHashMap, MapData, MapError, Queue};
use listentop_abi::{
    listener::Work,
    thread::{ThreadKey, ThreadRecord},
};
use listentop_model::sample::{ThreadSample, ThreadState};
use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

use super::shared::SharedArray;
use crate::source::{
    machine,
    proc::{self, Stat},
};

/// A thread's times and name are read again after this long; the work itself is read at each sample.
const TIMES_EVERY: Duration = Duration::from_secs(1);
/// The record of a thread that /proc does not show is freed when it did nothing for this long.
const INVISIBLE_IDLE: Duration = Duration::from_secs(60);
/// Ended threads that are kept one by one per listener; older ones are summed up.
const DEPARTED: usize = 64;

/// All threads of all listeners.
pub(crate) struct Threads {
    records: SharedArray<ThreadRecord>,
    index: BpfHashMap<MapData, ThreadKey, u32>,
    free: Queue<MapData, u32>,
    /// By record.
    seen: Vec<Option<Box<Seen>>>,
    /// By the listener's slot; `None` where no thread was seen.
    slots: Vec<Option<Box<Slot>>>,
    /// What /proc says of each thread, however many listeners it works for.
    clocks: HashMap<Identity, Clock>,
    /// What some of them do was told last.
    described: bool,
    /// Number of the last refresh.
    serial: u64,
}

/// A thread's id in listentop's PID namespace, and its start.
pub(crate) type Identity = (u32, u64);

/// A thread's work for one listener.
struct Seen {
    key: ThreadKey,
    generation: u32,
    sample: ThreadSample,
    /// What an earlier record of it had counted, if it was taken for ended.
    earlier: Work,
    worked_at: Instant,
    /// Number of the last refresh in which it was told what /proc says.
    told: u64,
}

/// The threads of one listener.
#[derive(Default)]
struct Slot {
    /// Their records.
    records: Vec<u32>,
    generation: u32,
    /// Those that ended last.
    departed: VecDeque<ThreadSample>,
    /// The sum over those that are no longer kept one by one.
    older: Option<ThreadSample>,
    /// All work of theirs.
    work: Work,
    /// Number of the refresh in which something about them changed last.
    changed: u64,
}

/// A thread according to /proc.
struct Clock {
    /// Name, times and end; nothing about its work.
    observed: ThreadSample,
    /// It could not be looked up.
    unseen: bool,
    read_at: Instant,
    /// Number of the last refresh in which it had a record.
    wanted: u64,
    /// Number of the last refresh in which /proc said something else about it.
    changed: u64,
}

/// The threads of one listener, as the last refresh found them.
pub(crate) struct OfListener<'a> {
    threads: &'a Threads,
    slot: Option<&'a Slot>,
}

impl OfListener<'_> {
    /// Whether anything about them has changed since the refresh before.
    pub(crate) fn have_changed(&self) -> bool {
        self.slot.is_some_and(|slot| slot.changed == self.threads.serial)
    }

    /// Their work altogether.
    pub(crate) fn work(&self) -> Work {
        self.slot.map(|slot| slot.work).unwrap_or_default()
    }

    /// The living threads that were seen accepting from the listener: process, thread, start.
    pub(crate) fn acceptors(&self) -> Vec<(u32, u32, u64)> {
        self.living().filter(|t| accepts(t)).map(|t| (t.pid, t.tid, t.start_ns)).collect()
    }

    /// The same, with those that were seen reading; before the others those that did most.
    pub(crate) fn workers(&self) -> Vec<(u32, u32, u64)> {
        let mut workers: Vec<&ThreadSample> = self.living().filter(|t| t.reads > 0 || accepts(t)).collect();
        workers.sort_by_key(|t| Reverse(t.reads + t.accepts));
        workers.into_iter().map(|t| (t.pid, t.tid, t.start_ns)).collect()
    }

    /// The living threads that are in our PID namespace.
    fn living(&self) -> impl Iterator<Item = &ThreadSample> {
        let records = self.slot.map_or(&[] as &[u32], |slot| &slot.records);
        let seen = records.iter().filter_map(|record| self.threads.seen[*record as usize].as_deref());
        seen.map(|seen| &seen.sample).filter(|t| t.pid != 0 && !t.ended)
    }

    /// A process that accepts from the listener; `None` if none was seen that lives in our PID namespace.
    pub(crate) fn accepting(&self) -> Option<u32> {
        self.living().find(|thread| thread.accepts + thread.would_block > 0).map(|thread| thread.pid)
    }

    /// They and those that have ended, in order.
    pub(crate) fn samples(&self) -> Vec<ThreadSample> {
        let Some(slot) = self.slot else { return Vec::new() };
        let seen = slot.records.iter().filter_map(|record| self.threads.seen[*record as usize].as_deref());
        let all = seen.map(|seen| &seen.sample).chain(&slot.departed).chain(&slot.older);
        let mut samples: Vec<ThreadSample> = all.cloned().collect();
        samples.sort_unstable_by_key(|thread| (thread.pid, thread.tid, thread.start_ns));
        samples
    }
}

/// Whether a thread was seen accepting, or trying to.
fn accepts(thread: &ThreadSample) -> bool {
    thread.accepts + thread.would_block + thread.accept_failed > 0
}

impl Threads {
    /// Threads in a table of `capacity` records, none of which is [free](Threads::free) yet.
    pub(crate) fn new(
        records: SharedArray<ThreadRecord>,
        capacity: u32,
        index: BpfHashMap<MapData, ThreadKey, u32>,
        free: Queue<MapData, u32>,
    ) -> Self {
        let seen = std::iter::repeat_with(|| None).take(capacity as usize).collect();
        Self { records, index, free, seen, slots: Vec::new(), clocks: HashMap::new(), described: false, serial: 0 }
    }

    /// The queue of free records, to be filled at the start.
    pub(crate) fn free(&mut self) -> &mut Queue<MapData, u32> {
        &mut self.free
    }

    /// Reads the table, and frees the records of threads that have ended: nothing will add to them.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(crate) fn refresh(&mut self, now: Instant) -> io::Result<()> {
        self.serial += 1;
        let mut ended = Vec::new();
        for (index, seen) in (0..).zip(&mut self.seen) {
            // SAFETY: inside the mapping; a field of a record of integers, read as a whole.
            if unsafe { ptr::read_volatile(&raw const (*self.records.pointer(index)).key.tid) } == 0 {
                continue;
            }
            let record = self.records.read(index);
            let slot = slot_of(&mut self.slots, record.key.slot);
            let seen = seen.get_or_insert_with(|| {
                slot.records.push(index);
                Box::new(slot.revived(&record, now).unwrap_or_else(|| Seen::new(&record, now)))
            });
            note_accepts(&mut seen.sample, &record);
            if charge(&mut seen.sample, &sum(&seen.earlier, &record.work), &mut slot.work) {
                seen.worked_at = now;
                slot.changed = self.serial;
            }
            // A thread outside our PID namespace cannot be looked up.
            let mut unseen = record.pid == 0;
            if !unseen {
                let clock = self.clocks.entry((record.tid, record.key.start_ns));
                let clock = clock.or_insert_with(|| Clock::new(&seen.sample, now));
                clock.wanted = self.serial;
                clock.refresh(now, self.serial);
                unseen = clock.unseen;
                // A thread may work for thousands of listeners: they are told only what is new.
                if seen.told < clock.changed {
                    seen.told = self.serial;
                    if clock.update(&mut seen.sample) {
                        slot.changed = self.serial;
                    }
                }
            }
            // The record of one that cannot be looked up is freed when it was idle for long. That does not mean that it
            // has ended: if it works again, it goes on.
            if seen.sample.ended || unseen && now.duration_since(seen.worked_at) > INVISIBLE_IDLE {
                slot.changed = self.serial;
                ended.push(index);
            }
        }
        self.clocks.retain(|_, clock| clock.wanted == self.serial);
        for index in ended {
            if let Some(mut seen) = self.seen[index as usize].take() {
                // Once more: it may have worked between the reading and its end.
                let slot = slot_of(&mut self.slots, seen.key.slot);
                let record = self.records.read(index);
                note_accepts(&mut seen.sample, &record);
                charge(&mut seen.sample, &sum(&seen.earlier, &record.work), &mut slot.work);
                self.release(seen.key, index)?;
                self.depart(index, *seen);
            }
        }
        Ok(())
    }

    /// Takes in what threads do, by thread id and start; those that are missing are not known.
    pub(crate) fn describe(&mut self, states: &HashMap<Identity, ThreadState>) {
        // Mostly nothing waits for any thread.
        if !std::mem::replace(&mut self.described, !states.is_empty()) && states.is_empty() {
            return;
        }
        for seen in self.seen.iter_mut().flatten() {
            let state = states.get(&(seen.sample.tid, seen.key.start_ns));
            if seen.sample.state.as_ref() != state {
                seen.sample.state = state.cloned();
                slot_of(&mut self.slots, seen.key.slot).changed = self.serial;
            }
        }
    }

    /// Frees a record: first its entry in the index, so that no probe finds it.
    fn release(&mut self, key: ThreadKey, record: u32) -> io::Result<()> {
        match self.index.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        self.records.write(record, ThreadRecord::default());
        self.free.push(&record, 0).map_err(io::Error::other)
    }

    fn depart(&mut self, record: u32, mut seen: Seen) {
        seen.sample.state = None;
        let slot = slot_of(&mut self.slots, seen.key.slot);
        slot.records.retain(|of| *of != record);
        if slot.generation != seen.generation {
            slot.generation = seen.generation;
            slot.departed.clear();
            slot.older = None;
        }
        slot.keep(seen.sample);
    }

    /// Those of the listener at this slot.
    pub(crate) fn of(&self, slot: u32) -> OfListener<'_> {
        OfListener { threads: self, slot: self.slots.get(slot as usize).and_then(Option::as_deref) }
    }

    /// The thread that has the record before this index, if it works for the listener of this slot and generation.
    pub(crate) fn at(&self, after: u32, (slot, generation): (u32, u32)) -> Option<&ThreadSample> {
        let seen = self.seen.get(after.checked_sub(1)? as usize)?.as_deref()?;
        (seen.key.slot == slot && seen.generation == generation && seen.sample.pid != 0).then_some(&seen.sample)
    }

    /// Forgets the threads of a listener whose slot is to be used again.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(crate) fn forget(&mut self, slot: u32) -> io::Result<()> {
        let forgotten = self.slots.get_mut(slot as usize).and_then(Option::take);
        let records = forgotten.map_or_else(Vec::new, |slot| slot.records);
        for record in records {
            if let Some(seen) = self.seen[record as usize].take() {
                self.release(seen.key, record)?;
            }
        }
        Ok(())
    }
}

/// The threads of the listener at this slot, of which some are known from now on.
fn slot_of(slots: &mut Vec<Option<Box<Slot>>>, slot: u32) -> &mut Slot {
    let slot = slot as usize;
    if slot >= slots.len() {
        slots.resize_with(slot + 1, || None);
    }
    slots[slot].get_or_insert_default()
}

impl Slot {
    /// Keeps a thread without a record: one by one, or if there are too many, in the sum. One that is not known to have
    /// ended may work again, so it goes into the sum last.
    fn keep(&mut self, sample: ThreadSample) {
        self.departed.push_back(sample);
        if self.departed.len() > DEPARTED {
            let place = self.departed.iter().position(|thread| thread.ended).unwrap_or(0);
            if let Some(oldest) = self.departed.remove(place) {
                self.older.get_or_insert_with(ThreadSample::sum).sum_up(&oldest);
            }
        }
    }

    /// A thread that was taken for ended and works again, with what it had done: no two samples are of one thread. (If
    /// it is in the sum by now, it goes on as another thread; its work counts once.)
    fn revived(&mut self, record: &ThreadRecord, now: Instant) -> Option<Seen> {
        let key = record.key;
        let is = |sample: &ThreadSample| (sample.initial_tid, sample.start_ns) == (key.tid, key.start_ns);
        let sample = self.departed.remove(self.departed.iter().position(is)?)?;
        Some(Seen {
            earlier: work_of(&sample),
            sample: ThreadSample { ended: false, ..sample },
            ..Seen::new(record, now)
        })
    }
}

impl Seen {
    fn new(record: &ThreadRecord, now: Instant) -> Self {
        let sample = ThreadSample {
            pid: record.pid,
            tid: record.tid,
            initial_pid: record.initial_pid,
            initial_tid: record.key.tid,
            start_ns: record.key.start_ns,
            comm: text(&record.comm),
            ..ThreadSample::default()
        };
        let (key, generation) = (record.key, record.generation);
        Self { key, generation, sample, earlier: Work::default(), worked_at: now, told: 0 }
    }
}

impl Clock {
    /// Nothing has been read yet.
    fn new(thread: &ThreadSample, now: Instant) -> Self {
        let observed = ThreadSample {
            pid: thread.pid,
            tid: thread.tid,
            start_ns: thread.start_ns,
            comm: thread.comm.clone(),
            ..ThreadSample::default()
        };
        Self { observed, unseen: false, read_at: now.checked_sub(TIMES_EVERY).unwrap_or(now), wanted: 0, changed: 0 }
    }

    /// Reads /proc again if it is time, in the refresh of this number.
    fn refresh(&mut self, now: Instant, serial: u64) {
        if now.duration_since(self.read_at) >= TIMES_EVERY {
            self.read_at = now;
            let before = self.observed.clone();
            let sighting = read_times(&mut self.observed);
            self.observed.ended = sighting == Sighting::Ended;
            self.unseen = sighting == Sighting::Unseen;
            if self.observed != before || self.changed == 0 {
                self.changed = serial;
            }
        }
    }

    /// Updates a sample of the thread with what was read. Returns whether that was new.
    fn update(&self, sample: &mut ThreadSample) -> bool {
        let observed = &self.observed;
        if (observed.ended, observed.on_cpu_ns, observed.run_queue_ns)
            == (sample.ended, sample.on_cpu_ns, sample.run_queue_ns)
            && observed.comm == sample.comm
        {
            return false;
        }
        (sample.ended, sample.on_cpu_ns, sample.run_queue_ns) =
            (observed.ended, observed.on_cpu_ns, observed.run_queue_ns);
        sample.comm.clone_from(&observed.comm);
        true
    }
}

/// Notes when the thread accepted. If an earlier record of it knew, that was the first time.
fn note_accepts(sample: &mut ThreadSample, record: &ThreadRecord) {
    let known = |ns: u64| (ns != 0).then_some(ns);
    sample.first_accept_ns = sample.first_accept_ns.or(known(record.first_accept_ns));
    sample.last_accept_ns = known(record.last_accept_ns).or(sample.last_accept_ns);
}

/// What a sample has counted.
fn work_of(sample: &ThreadSample) -> Work {
    Work {
        reads: sample.reads,
        read_bytes: sample.read_bytes,
        writes: sample.writes,
        write_bytes: sample.write_bytes,
        accepts: sample.accepts,
        would_block: sample.would_block,
        accept_failed: sample.accept_failed,
        first_reads: sample.first_reads,
    }
}

fn sum(a: &Work, b: &Work) -> Work {
    Work {
        reads: a.reads + b.reads,
        read_bytes: a.read_bytes + b.read_bytes,
        writes: a.writes + b.writes,
        write_bytes: a.write_bytes + b.write_bytes,
        accepts: a.accepts + b.accepts,
        would_block: a.would_block + b.would_block,
        accept_failed: a.accept_failed + b.accept_failed,
        first_reads: a.first_reads + b.first_reads,
    }
}

/// Updates a sample from the record, and adds what is new to the work of all. Returns whether anything is.
fn charge(sample: &mut ThreadSample, work: &Work, all: &mut Work) -> bool {
    let counters = [
        (&mut sample.accepts, work.accepts, &mut all.accepts),
        (&mut sample.would_block, work.would_block, &mut all.would_block),
        (&mut sample.accept_failed, work.accept_failed, &mut all.accept_failed),
        (&mut sample.reads, work.reads, &mut all.reads),
        (&mut sample.read_bytes, work.read_bytes, &mut all.read_bytes),
        (&mut sample.first_reads, work.first_reads, &mut all.first_reads),
        (&mut sample.writes, work.writes, &mut all.writes),
        (&mut sample.write_bytes, work.write_bytes, &mut all.write_bytes),
    ];
    let mut changed = false;
    for (shown, counted, sum) in counters {
        changed |= *shown != counted;
        *sum = sum.wrapping_add(counted.wrapping_sub(*shown));
        *shown = counted;
    }
    changed
}

/// What /proc says of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sighting {
    Lives,
    Ended,
    /// It cannot be looked up, so nobody knows.
    Unseen,
}

/// Reads a thread's name and times.
fn read_times(sample: &mut ThreadSample) -> Sighting {
    let directory = format!("/proc/{}/task/{}", sample.pid, sample.tid);
    match proc::text(format!("{directory}/stat")) {
        Ok(text) => match Stat::parse(&text) {
            // Another thread may have got the id since.
            Some(stat) if !machine::is_start(stat.start_ticks, sample.start_ns) => return Sighting::Ended,
            // It does nothing any more, whether or not its parent has waited for it.
            Some(stat) if matches!(stat.state, 'Z' | 'X' | 'x') => return Sighting::Ended,
            // exec changes the name, but not the id and the start.
            Some(stat) => stat.comm.clone_into(&mut sample.comm),
            None => {}
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
            // /proc may hide it (hidepid). Signal 0 asks only whether somebody has the id.
            let lives = !matches!(kill(Pid::from_raw(sample.tid as i32), None), Err(Errno::ESRCH));
            return if lives { Sighting::Unseen } else { Sighting::Ended };
        }
        Err(_) => {}
    }
    if let Ok(schedstat) = fs::read_to_string(format!("{directory}/schedstat")) {
        let mut fields = schedstat.split_ascii_whitespace().map(|field| field.parse().ok());
        sample.on_cpu_ns = fields.next().flatten();
        sample.run_queue_ns = fields.next().flatten();
    }
    Sighting::Lives
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_was_taken_for_ended_goes_on() {
        let key = ThreadKey { slot: 3, tid: 7, start_ns: 9 };
        let record = |tid, reads| ThreadRecord {
            key: ThreadKey { tid, ..key },
            initial_pid: 5,
            work: Work { reads, ..Work::default() },
            ..ThreadRecord::default()
        };
        let now = Instant::now();
        let mut slot = Slot::default();
        for tid in [6, 7, 8] {
            let mut seen = Seen::new(&record(tid, 0), now);
            charge(&mut seen.sample, &record(tid, 100).work, &mut slot.work);
            seen.sample.ended = true;
            slot.departed.push_back(seen.sample);
        }
        assert!(slot.revived(&record(9, 1), now).is_none(), "it is new");
        let mut seen = slot.revived(&record(7, 4), now).expect("it had departed");
        assert!(charge(&mut seen.sample, &sum(&seen.earlier, &record(7, 4).work), &mut slot.work));
        assert_eq!((seen.sample.reads, seen.sample.ended, slot.work.reads), (104, false, 304));
        assert_eq!(slot.departed.iter().map(|t| t.initial_tid).collect::<Vec<_>>(), [6, 8]);
        assert!(slot.revived(&record(7, 4), now).is_none(), "it lives");
    }

    #[test]
    fn the_oldest_that_has_ended_goes_into_the_sum() {
        let mut slot = Slot::default();
        let thread = |tid, ended| ThreadSample { tid, reads: u64::from(tid), ended, ..ThreadSample::default() };
        (1..=64).for_each(|tid| slot.keep(thread(tid, tid != 1)));
        assert!(slot.older.is_none() && slot.departed.len() == 64);
        (65..=66).for_each(|tid| slot.keep(thread(tid, true)));
        assert_eq!(slot.older.as_ref().map(|sum| sum.reads), Some(2 + 3), "the first may live");
        assert_eq!(slot.departed.iter().map(|t| t.tid).take(2).collect::<Vec<_>>(), [1, 4]);
        (67..=140).for_each(|tid| slot.keep(thread(tid, false)));
        assert_eq!((slot.departed.len(), slot.departed[0].ended), (64, false));
        let all: u64 = slot.departed.iter().chain(&slot.older).map(|t| t.reads).sum();
        assert_eq!(all, (1..=140).sum::<u64>());
    }

    #[test]
    fn the_first_accept_is_of_the_first_record_and_the_last_of_the_last() {
        let record =
            |first_accept_ns, last_accept_ns| ThreadRecord { first_accept_ns, last_accept_ns, ..<_>::default() };
        let mut sample = ThreadSample::default();
        let mut note = |record: ThreadRecord| {
            note_accepts(&mut sample, &record);
            (sample.first_accept_ns, sample.last_accept_ns)
        };
        assert_eq!(note(record(0, 0)), (None, None));
        assert_eq!(note(record(5, 9)), (Some(5), Some(9)));
        assert_eq!(note(record(0, 0)), (Some(5), Some(9)), "a new record of it");
        assert_eq!(note(record(20, 30)), (Some(5), Some(30)));
    }

    #[test]
    fn what_proc_says_of_a_thread_is_new_once() {
        // There is no such thread, so it has ended.
        let (thread, now) = (ThreadSample { pid: 1 << 30, tid: 1 << 30, ..ThreadSample::default() }, Instant::now());
        let mut clock = Clock::new(&thread, now);
        clock.refresh(now, 7);
        assert_eq!((clock.changed, clock.observed.ended), (7, true));
        clock.refresh(now + TIMES_EVERY, 8);
        assert_eq!(clock.changed, 7, "it says the same");
        clock.observed.ended = false;
        clock.refresh(now + TIMES_EVERY * 2, 9);
        assert_eq!(clock.changed, 9);
    }

    #[test]
    fn another_thread_with_the_same_id_is_not_the_same() {
        let text = proc::text("/proc/self/stat").expect("we run");
        let stat = Stat::parse(&text).expect("the kernel's format");
        let pid = std::process::id();
        let start_ns = machine::start_ns(stat.start_ticks);
        let mut sample = ThreadSample { pid, tid: pid, start_ns, ..ThreadSample::default() };
        assert_eq!(read_times(&mut sample), Sighting::Lives);
        assert_eq!(sample.comm, stat.comm);
        sample.start_ns += 1_000_000_000;
        assert_eq!(read_times(&mut sample), Sighting::Ended);
    }

    #[test]
    fn one_that_its_parent_has_not_waited_for_has_ended() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().expect("every Linux has it");
        let text = proc::text(format!("/proc/{}/stat", child.id())).expect("it runs");
        let start_ns = machine::start_ns(Stat::parse(&text).expect("the kernel's format").start_ticks);
        let mut sample = ThreadSample { pid: child.id(), tid: child.id(), start_ns, ..ThreadSample::default() };
        assert_eq!(read_times(&mut sample), Sighting::Lives);
        child.kill().expect("it runs");
        let began = Instant::now();
        while read_times(&mut sample) != Sighting::Ended {
            assert!(began.elapsed() < Duration::from_secs(10), "it is there still");
            std::thread::yield_now();
        }
        child.wait().expect("our child");
    }

    #[test]
    fn a_thread_that_proc_does_not_show_may_live() {
        let own = std::process::id();
        // /proc has no such place, but the thread has an id: as where /proc is mounted with hidepid.
        let mut hidden = ThreadSample { pid: u32::MAX, tid: own, ..ThreadSample::default() };
        assert_eq!(read_times(&mut hidden), Sighting::Unseen);
        let mut gone = ThreadSample { pid: u32::MAX, tid: i32::MAX as u32, ..ThreadSample::default() };
        assert_eq!(read_times(&mut gone), Sighting::Ended);
    }
}
