//! Sends what is on the queue, one request at a time, the oldest first.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    config::{Protocol, Target},
    counters::{Counters, Loss},
    grpc, http,
    outcome::{Failure, Outcome},
    queue::{Batch, Queue},
};
use crate::say::say;

/// How long it waits after the first failure. Each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait of its own choice.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait that a collector may ask for: what waits longer is too old.
const LONGEST_ASKED: Duration = Duration::from_mins(5);
/// How often a failure is said, at most.
const SAID_EVERY: Duration = Duration::from_mins(10);

/// What the one who writes and the one who sends share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    filled: Notify,
    pub(super) counters: Arc<Counters>,
}

impl Shared {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), counters }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds requests.
    pub(super) fn add(&self, batches: Vec<Batch>) {
        for batch in batches {
            self.counters.queued.fetch_add(batch.points, Ordering::Relaxed);
            let lost = self.queue().push(batch);
            self.lose(Loss::QueueFull, lost);
        }
        self.filled.notify_one();
    }

    fn lose(&self, why: Loss, points: u64) {
        self.counters.queued.fetch_sub(points, Ordering::Relaxed);
        self.counters.lose(why, points);
    }

    fn next(&self) -> Option<Batch> {
        let mut queue = self.queue();
        let lost = queue.expire(Instant::now());
        let next = queue.pop();
        drop(queue);
        self.lose(Loss::TooOld, lost);
        next
    }

    /// Puts a request back that may be tried again.
    fn put_back(&self, batch: Batch) {
        let lost = self.queue().put_back(batch);
        self.lose(Loss::QueueFull, lost);
    }

    /// Gives up what waits, as nobody will send it: how many points.
    pub(super) fn give_up(&self) -> u64 {
        let left = self.counters.queued.load(Ordering::Relaxed);
        self.lose(Loss::Ended, left);
        left
    }
}

/// The connection, by the target's protocol.
enum Client {
    Grpc(grpc::Client),
    Http(http::Client),
}

impl Client {
    fn new(target: &Target) -> Self {
        match target.protocol {
            Protocol::Grpc => Self::Grpc(grpc::Client::default()),
            Protocol::Http => Self::Http(http::Client::default()),
        }
    }

    async fn send(&mut self, target: &Target, body: Bytes) -> Outcome {
        match self {
            Self::Grpc(client) => client.send(target, body).await,
            Self::Http(client) => client.send(target, body).await,
        }
    }
}

/// Sends until `ending` is true and nothing is left, or nothing can be sent.
pub(super) async fn run(target: Target, shared: Arc<Shared>, mut ending: watch::Receiver<bool>) {
    let mut client = Client::new(&target);
    let mut teller = Teller::new(&target);
    let mut wait = FIRST_WAIT;
    loop {
        let Some(batch) = shared.next() else {
            if *ending.borrow() {
                return;
            }
            tokio::select! {
                () = shared.filled.notified() => {}
                _ = ending.changed() => {}
            }
            continue;
        };
        let outcome = timeout(target.timeout, client.send(&target, batch.body.clone())).await;
        let outcome = outcome.unwrap_or_else(|_| {
            // A connection that hangs is not used again.
            client = Client::new(&target);
            Outcome::later(Failure::Timeout, "no answer in time")
        });
        let pause = settle(&shared, batch, outcome, &mut teller, &mut wait);
        if let Some(pause) = pause {
            if *ending.borrow() {
                return;
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = ending.changed() => {}
            }
        }
    }
}

/// Counts what happened to a request; how long to wait before the next attempt, if it may be made.
fn settle(
    shared: &Shared,
    batch: Batch,
    outcome: Outcome,
    teller: &mut Teller,
    wait: &mut Duration,
) -> Option<Duration> {
    let counters = &shared.counters;
    match outcome {
        Outcome::Taken { rejected, why } => {
            let rejected = rejected.min(batch.points);
            shared.lose(Loss::Rejected, rejected);
            counters.queued.fetch_sub(batch.points - rejected, Ordering::Relaxed);
            counters.sent.fetch_add(batch.points - rejected, Ordering::Relaxed);
            *wait = FIRST_WAIT;
            if rejected == 0 {
                teller.works(counters);
            } else {
                teller.fails(&format!("it rejects {rejected} points of a request: {why}"));
            }
            None
        }
        Outcome::Never { failure, why } => {
            counters.fail(failure);
            shared.lose(Loss::Refused, batch.points);
            teller.fails(&why);
            None
        }
        Outcome::Later { after, failure, why } => {
            counters.fail(failure);
            shared.put_back(batch);
            teller.fails(&why);
            // Many that lost the same collector do not come back at the same moment.
            let pause = after.unwrap_or_else(|| wait.mul_f64(0.5 + fastrand::f64()));
            *wait = (*wait * 2).min(LONGEST_WAIT);
            Some(pause.min(LONGEST_ASKED))
        }
    }
}

/// Says on stderr, rarely, that a collector does not take points.
struct Teller {
    collector: String,
    said: Option<Instant>,
    /// A failure was said, and has not passed.
    is_open: bool,
}

impl Teller {
    fn new(target: &Target) -> Self {
        Self { collector: target.uri.to_string(), said: None, is_open: false }
    }

    fn fails(&mut self, why: &str) {
        if self.said.is_some_and(|said| said.elapsed() < SAID_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        self.is_open = true;
        tell(format!("listentop: {} does not take all points: {why}", self.collector));
    }

    fn works(&mut self, counters: &Counters) {
        if std::mem::take(&mut self.is_open) {
            let lost = counters.all_lost();
            tell(format!("listentop: {} takes points again; {lost} are lost since the start", self.collector));
        }
    }
}

/// Says a line. A terminal that is stopped does not stop anything else.
fn tell(line: String) {
    drop(spawn_blocking(move || say(line)));
}
