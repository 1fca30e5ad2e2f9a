//! Connections one by one: those that wait longest of each listener, while somebody asks for them.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    ptr,
    time::{Duration, Instant},
};

use listentop_abi::{
    connection::PLACES,
    listed::{
        ACKED, ACKED_UNKNOWN, ENTRIES, HALF_OPEN, LIST_ENDED, LIST_STRETCH, Listed, Listing as Table, Lists as Places,
        Page, SINCE_AT_LEAST, SINCE_ESTIMATED, UNREAD, WAITING,
    },
};
use listentop_model::{
    connections::{
        Actor, ClientState, Connection, ConnectionList, ConnectionLists, HalfOpen, IN_ALL, Listing, PER_LISTENER,
        Precision,
    },
    sample::ListenerSample,
    shared::Shared,
};

use super::{listeners::Listeners, shared::SharedArray, threads::Threads};
use crate::source::{
    lists::{add_to_samples, holder},
    live::visitor::Visitor,
    machine, namespaces,
    owners::Scan,
    pace::Pace,
};

const _: () = assert!(PER_LISTENER as usize == ENTRIES);

/// `AF_INET`.
const AF_INET: u16 = 2;
/// `TCP_CLOSE`.
const CLOSE: u32 = 7;
/// `TCP_CLOSE_WAIT`.
const CLOSE_WAIT: u32 = 8;

/// The walk over the connections is repeated after this many times the CPU time that it took at the earliest: 2 % of a
/// core at most.
const THRIFT: u32 = 50;

/// The tables that the iterators write.
pub(crate) struct ListTables {
    pub(crate) listing: SharedArray<Table>,
    pub(crate) lists: SharedArray<Places>,
    pub(crate) pages: SharedArray<Page>,
}

/// Lists connections.
pub(crate) struct Lists {
    /// Over the listeners, for their accept queues.
    waiting: Visitor,
    /// Over the sets of connections, and over those that found their set full, for unread bytes; `None` if those are
    /// not measured.
    unread: Option<[Visitor; 2]>,
    /// They are measured at the level that holds now.
    sees_reads: bool,
    /// Over the sockets of a namespace, for SYN queues; `None` where the kernel does not take it.
    half_open: Option<Visitor>,
    tables: ListTables,
    /// So many of each listener; 0: nobody asks.
    wanted: u32,
    pace: Pace,
    /// The same for SYN queues.
    half_open_pace: Pace,
    /// The last lists of unread bytes, by the listener's cookie, and how many connections were on none.
    last_unread: (HashMap<u64, ConnectionList>, u64),
    /// The last lists of half-open connections, by the listener's cookie.
    last_half_open: HashMap<u64, ConnectionList>,
    /// Inodes of the sockets that are listed, for the search for their holders.
    inodes: Vec<u64>,
}

impl Lists {
    pub(crate) fn new(
        waiting: Visitor,
        unread: Option<[Visitor; 2]>,
        half_open: Option<Visitor>,
        tables: ListTables,
    ) -> Self {
        let pace = || Pace::new(Instant::now(), THRIFT);
        Self {
            waiting,
            unread,
            sees_reads: true,
            half_open,
            tables,
            wanted: 0,
            pace: pace(),
            half_open_pace: pace(),
            last_unread: Default::default(),
            last_half_open: HashMap::new(),
            inodes: Vec::new(),
        }
    }

    /// From now on so many of each listener are listed; 0: none.
    pub(crate) fn want(&mut self, per_listener: u32) {
        self.wanted = per_listener.min(PER_LISTENER);
        if self.wanted == 0 {
            self.last_unread = Default::default();
            self.last_half_open.clear();
            self.inodes.clear();
        } else {
            // Whoever asks wants to see them at once.
            self.pace.be_due();
            self.half_open_pace.be_due();
        }
    }

    /// Whether arrivals and reads are seen from now on.
    pub(crate) fn see_reads(&mut self, seen: bool) {
        self.sees_reads = seen;
        self.last_unread = Default::default();
        self.pace.be_due();
    }

    /// From now on all is read at every sample, regardless of the cost.
    pub(crate) fn be_lavish(&mut self) {
        self.pace.be_lavish();
        self.half_open_pace.be_lavish();
    }

    /// Inodes of the sockets that are listed.
    pub(crate) fn inodes(&self) -> impl Iterator<Item = u64> {
        self.inodes.iter().copied()
    }

    /// Time between two readings of what waits unread, if it is longer than that between two samples.
    pub(crate) fn every(&self) -> Option<Duration> {
        self.pace.every().filter(|_| self.wanted > 0)
    }

    /// The same for SYN queues.
    pub(crate) fn half_open_every(&self) -> Option<Duration> {
        self.half_open_pace.every().filter(|_| self.wanted > 0)
    }

    /// Lists the connections, and adds them to the samples of their listeners. `None` while nobody asks. `files` lead
    /// into namespaces, by inode.
    ///
    /// # Errors
    /// What bpf(2) or read(2) says.
    pub(crate) fn read(
        &mut self,
        listeners: &Listeners,
        threads: &Threads,
        (scan, files): (&Scan, &HashMap<u32, PathBuf>),
        samples: &mut Shared<ListenerSample>,
    ) -> io::Result<Option<Listing>> {
        if self.wanted == 0 {
            return Ok(None);
        }
        let mut lists: HashMap<u64, ConnectionLists> = HashMap::new();
        self.clear();
        // Each pass over the listeners lists a stretch of each queue; the last finds that nothing is left.
        for _ in 0..=self.wanted.div_ceil(LIST_STRETCH) {
            self.waiting.run()?;
            if self.pages().all(|page| page.cursor == LIST_ENDED) {
                break;
            }
        }
        for page in self.pages().filter(|page| page.sort == WAITING as u32) {
            if let Some(info) = listeners.info(page.slot, page.generation) {
                lists.entry(info.cookie).or_default().waiting = list(&page, |entry| connection(entry, None, None));
            }
        }
        self.read_unread(listeners, threads, scan)?;
        for (cookie, unread) in &self.last_unread.0 {
            lists.entry(*cookie).or_default().unread = unread.clone();
        }
        self.read_half_open(listeners, (scan, files), samples);
        for (cookie, half_open) in &self.last_half_open {
            lists.entry(*cookie).or_default().half_open = half_open.clone();
        }
        add_to_samples(lists, samples);
        Ok(Some(Listing { per_listener: self.wanted, in_all: IN_ALL, unlisted: self.last_unread.1 }))
    }

    /// Walks over the connections with unread bytes, as often as that costs little; otherwise the last lists stay.
    fn read_unread(&mut self, listeners: &Listeners, threads: &Threads, scan: &Scan) -> io::Result<()> {
        let (begin, cpu) = (Instant::now(), machine::thread_cpu());
        if !self.pace.is_due(begin) {
            return Ok(());
        }
        let Some([sets, spilled]) = self.unread.as_ref().filter(|_| self.sees_reads) else { return Ok(()) };
        spilled.run()?;
        // Each pass lists one connection of each set: mostly there is no second.
        for pass in 0..PLACES as u32 {
            let so_far = self.tables.listing.read(0);
            if pass > 0 && pass >= so_far.most {
                break;
            }
            self.tables.listing.write(0, Table { pass, ..so_far });
            sets.run()?;
        }
        self.pace.has_read(begin, machine::thread_cpu().saturating_sub(cpu));
        let suspended_ns = machine::boottime_ns().saturating_sub(machine::monotonic_ns());
        self.inodes = self.pages().flat_map(|page| inodes(&page)).collect();
        let mut unread = HashMap::new();
        for page in self.pages().filter(|page| page.sort == UNREAD as u32) {
            let Some(info) = listeners.info(page.slot, page.generation) else { continue };
            let found = list(&page, |entry| {
                let reader = threads.at(entry.reader, (page.slot, page.generation));
                // A thread's record is another's when the thread has ended. One that started after the byte had come
                // was not the last to read before it.
                let reader = reader.filter(|thread| thread.start_ns.saturating_sub(suspended_ns) <= entry.since_ns);
                let reader = reader.map(|t| Actor { pid: t.pid, tid: Some(t.tid), comm: t.comm.clone() });
                connection(entry, reader, holder(scan, entry.inode))
            });
            unread.insert(info.cookie, found);
        }
        self.last_unread = (unread, self.tables.listing.read(0).unread_without_page);
        Ok(())
    }

    /// Walks over the sockets of each namespace of which a listener has half-open connections, as often as that costs
    /// little; otherwise the last lists stay.
    fn read_half_open(
        &mut self,
        listeners: &Listeners,
        (scan, files): (&Scan, &HashMap<u32, PathBuf>),
        samples: &Shared<ListenerSample>,
    ) {
        let Some(sockets) = &self.half_open else { return };
        let has_some = |sample: &&ListenerSample| !sample.closed && sample.gauges.syn_depth.unwrap_or(0) > 0;
        let inhabited: BTreeSet<u32> = samples.iter().filter(has_some).map(|sample| sample.netns).collect();
        if inhabited.is_empty() {
            self.last_half_open.clear();
            return;
        }
        let (begin, cpu) = (Instant::now(), machine::thread_cpu());
        if !self.half_open_pace.is_due(begin) {
            return;
        }
        for inode in inhabited {
            let process = || Some(format!("/proc/{}/ns/net", scan.namespaces.get(&inode)?.first()?).into());
            let Some(file) = files.get(&inode).cloned().or_else(process) else { continue };
            // One that may not be entered, or is gone meanwhile, shows how many there are, and none of them. Whatever
            // the file leads to by now: each request is found by its listener.
            let _ = namespaces::inside(&file, || sockets.run());
        }
        self.half_open_pace.has_read(begin, machine::thread_cpu().saturating_sub(cpu));
        self.last_half_open = self
            .pages()
            .filter(|page| page.sort == HALF_OPEN as u32)
            .filter_map(|page| {
                let info = listeners.info(page.slot, page.generation)?;
                Some((info.cookie, list(&page, half_open)))
            })
            .collect();
    }

    /// The pages in use.
    fn pages(&self) -> impl Iterator<Item = Page> {
        let used = self.tables.listing.read(0).pages.min(self.tables.pages.length());
        (0..used).map(|index| self.tables.pages.read(index))
    }

    /// Empties what was listed before.
    fn clear(&mut self) {
        for index in 0..self.tables.listing.read(0).pages.min(self.tables.pages.length()) {
            let page = self.tables.pages.pointer(index);
            // SAFETY: inside the mapping; all-zero is a valid page. Only the iterators write it, and none runs now.
            let slot = unsafe {
                let slot = (*page).slot;
                ptr::write_bytes(page, 0, 1);
                slot
            };
            if slot < self.tables.lists.length() {
                self.tables.lists.write(slot, Places::default());
            }
        }
        self.tables.listing.write(0, Table { wanted: self.wanted, ..Table::default() });
    }
}

/// The list of a page.
fn list(page: &Page, connection: impl FnMut(&Listed) -> Connection) -> ConnectionList {
    let entries = page.entries.iter().take(page.count as usize);
    let mut list = ConnectionList { connections: entries.map(connection).collect(), total: page.total.into() };
    list.sort();
    list
}

fn inodes(page: &Page) -> Vec<u64> {
    page.entries.iter().take(page.count as usize).map(|entry| entry.inode).filter(|inode| *inode != 0).collect()
}

fn connection(entry: &Listed, reader: Option<Actor>, holder: Option<Actor>) -> Connection {
    let known = |ns: u64| (ns != 0).then_some(ns);
    Connection {
        client: client(entry),
        port: u16::from_be(entry.port),
        since_ns: known(entry.since_ns),
        precision: match entry.flags {
            flags if flags & SINCE_AT_LEAST != 0 => Precision::AtLeast,
            flags if flags & SINCE_ESTIMATED != 0 => Precision::Estimated,
            _ => Precision::Measured,
        },
        accepted_ns: known(entry.accepted_ns),
        state: match entry.state {
            CLOSE => ClientState::Reset,
            CLOSE_WAIT => ClientState::Closed,
            _ => ClientState::Open,
        },
        unread: entry.unread.into(),
        reader,
        holder,
        half_open: None,
    }
}

/// One whose handshake is not complete.
fn half_open(entry: &Listed) -> Connection {
    let half_open = HalfOpen {
        resent: entry.resent,
        acked: (entry.flags & ACKED_UNKNOWN == 0).then_some(entry.flags & ACKED != 0),
        timer_us: None,
    };
    Connection { half_open: Some(half_open), state: ClientState::Open, ..connection(entry, None, None) }
}

fn client(entry: &Listed) -> IpAddr {
    if entry.family == AF_INET {
        let [a, b, c, d, ..] = entry.address;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(entry.address)).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_kernel_is_read() {
        let mut entry = Listed {
            since_ns: 7,
            family: AF_INET,
            port: 443_u16.to_be(),
            unread: 5,
            state: CLOSE_WAIT,
            ..Listed::default()
        };
        entry.address[..4].copy_from_slice(&[10, 0, 0, 1]);
        let read = connection(&entry, None, None);
        assert_eq!((read.client.to_string(), read.port, read.unread), ("10.0.0.1".to_owned(), 443, 5));
        assert_eq!((read.since_ns, read.accepted_ns, read.state), (Some(7), None, ClientState::Closed));
        assert_eq!(read.precision, Precision::Measured);
        // An IPv4 client of a dual-stack listener, whose connection was reset, and whose age is not known.
        entry.family = 10;
        entry.address = Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().octets();
        (entry.since_ns, entry.state, entry.flags) = (0, CLOSE, SINCE_ESTIMATED | SINCE_AT_LEAST);
        let read = connection(&entry, None, None);
        assert_eq!((read.client.to_string(), read.since_ns), ("10.0.0.2".to_owned(), None));
        assert_eq!((read.state, read.precision), (ClientState::Reset, Precision::AtLeast));
        for (flags, acked) in [(0, Some(false)), (ACKED, Some(true)), (ACKED_UNKNOWN, None)] {
            (entry.state, entry.flags, entry.resent) = (12, flags, 3);
            let read = half_open(&entry);
            assert_eq!(read.half_open, Some(HalfOpen { resent: 3, acked, timer_us: None }));
            assert_eq!((read.state, read.precision), (ClientState::Open, Precision::Measured));
        }
    }
}
