//! Loads of which everything is known: how many connections, requests and bytes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use test_support::{sleep_ms, wait_until};

use super::{
    exchange::{Client, Exchange},
    server::all_closed,
};

/// Between the loads of a process and of the one that replaces it. When each accepted is known from one sample of the
/// report to the next, and these are 250 ms apart.
pub(crate) const PAUSE_MS: u64 = 600;

/// Connections that are made, used and closed, a few at a time.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) port: u16,
    pub(crate) connections: u64,
    /// How many are open at a time.
    pub(crate) at_once: usize,
    /// Exchanges on each connection, one after the other.
    pub(crate) requests: u64,
    pub(crate) exchange: Exchange,
}

/// What a load was, by its own count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    /// Bytes from the clients to the server.
    pub(crate) sent: u64,
    /// Bytes from the server to the clients.
    pub(crate) received: u64,
    /// How long each exchange took; the first on a connection with the connecting.
    times: Vec<Duration>,
}

impl Load {
    /// Does all of it, and waits until the server has closed its side. Every exchange must succeed.
    pub(crate) fn run(&self) -> Tally {
        let begun = AtomicU64::new(0);
        let mut tally = Tally::default();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.at_once).map(|_| scope.spawn(|| self.client(&begun))).collect();
            for client in clients {
                tally.add(client.join().expect("a client of the load does not fail"));
            }
        });
        all_closed(self.port);
        tally
    }

    fn client(&self, begun: &AtomicU64) -> Tally {
        let mut tally = Tally::default();
        while begun.fetch_add(1, Ordering::Relaxed) < self.connections {
            let mut start = Instant::now();
            let mut client = Client::connect(self.port).expect("it connects");
            for _ in 0..self.requests {
                (self.exchange)(&mut client).expect("it is answered");
                tally.times.push(start.elapsed());
                start = Instant::now();
            }
            tally.connections += 1;
            tally.requests += self.requests;
            tally.sent += client.sent;
            tally.received += client.received;
        }
        tally
    }
}

impl Tally {
    /// Adds another load to this one.
    pub(crate) fn add(&mut self, other: Tally) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.sent += other.sent;
        self.received += other.received;
        self.times.extend(other.times);
    }

    /// The 99th percentile of the times that the exchanges took.
    pub(crate) fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default()
    }
}

/// Clients that connect once, and then make an exchange every 50 ms until this is dropped.
pub(crate) struct Persistent {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Persistent {
    /// Connects this many, and waits until each was answered.
    pub(crate) fn connect(port: u16, count: usize, exchange: Exchange) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let mut client = Client::connect(port).expect("it connects");
            exchange(&mut client).expect("it is answered");
            let ends = Arc::clone(&ends);
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) && exchange(&mut client).is_ok() {
                    sleep_ms(50);
                }
            })
        };
        let clients = (0..count).map(client).collect();
        Self { ends, clients }
    }
}

impl Drop for Persistent {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // A client that waits for a server that hangs ends with the server, or when it runs out of patience.
        self.clients.retain(|client| !client.is_finished());
    }
}

/// Connections that stay open and ask for nothing.
pub(crate) fn idle(port: u16, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(port).expect("it connects")).collect()
}

/// Clients that come at a fixed rate, whether or not those before were served. Each makes one exchange, and gives up if
/// the server does not answer.
pub(crate) struct Arrivals {
    ends: Arc<AtomicBool>,
    began: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
}

impl Arrivals {
    /// They begin to come, and go on until this is dropped; at most for a minute.
    pub(crate) fn begin(port: u16, per_second: u32, exchange: Exchange) -> Self {
        let (ends, began, answered): (Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let arrivals = Self { ends: Arc::clone(&ends), began: Arc::clone(&began), answered: Arc::clone(&answered) };
        thread::spawn(move || {
            let start = Instant::now();
            for number in 0..per_second * 60 {
                let due = Duration::from_secs(1) * number / per_second;
                thread::sleep(due.saturating_sub(start.elapsed()));
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                began.fetch_add(1, Ordering::Relaxed);
                let answered = Arc::clone(&answered);
                thread::spawn(move || {
                    if once(port, exchange).is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        arrivals
    }

    /// Waits until this many clients were answered.
    pub(crate) fn are_answered(&self, count: usize) {
        wait_until("clients are answered", || self.answered.load(Ordering::Relaxed) >= count);
    }

    /// How many clients came, and how many of them were answered.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.began.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed))
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn once(port: u16, exchange: Exchange) -> io::Result<()> {
    exchange(&mut Client::connect(port)?)
}
