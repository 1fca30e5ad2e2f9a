//! Clients that come while a server is busy with something else, and measure how long they wait.

use std::{
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use test_support::sleep_ms;

use super::exchange::{Client, Exchange};

/// How often the server is kept busy.
const ROUNDS: u32 = 3;
/// From the request that keeps it busy to the first of the clients: until then it has begun.
const BEGUN_MS: u64 = 60;
/// Between two clients.
const APART_MS: u64 = 2;
/// The least that a client should wait. Beside it, the time from accepting to the answer is little.
const LONG: Duration = Duration::from_millis(150);
/// The time from accepting to the answer is at most this part of what they wait: some 40 ms of 400, of which a busy
/// machine's server waits for a CPU.
const SERVED: f64 = 0.1;
/// The time that connecting takes, in which the connection is in the queue already, and the wait of the requests that
/// keep the server busy: at most this part.
const CONNECTED: f64 = 0.01;

/// How long clients waited in all, from having connected to their answer.
#[derive(Debug)]
pub(crate) struct Waits {
    pub(crate) clients: u32,
    pub(crate) sum: Duration,
}

impl Waits {
    /// Several times: `busy` makes a request that keeps the server busy, and returns when it is done. Meanwhile so many
    /// clients connect, one after the other, ask for something that takes no time, and wait for their answer.
    pub(crate) fn rounds(port: u16, clients: u32, exchange: Exchange, busy: impl Fn() + Sync) -> Self {
        let client = || {
            let mut client = Client::connect(port).expect("it connects");
            let connected = Instant::now();
            exchange(&mut client).expect("it is answered");
            connected.elapsed()
        };
        let mut waits = Self { clients: 0, sum: Duration::ZERO };
        for _ in 0..ROUNDS {
            thread::scope(|scope| {
                let busy = scope.spawn(&busy);
                sleep_ms(BEGUN_MS);
                let clients: Vec<_> = (0..clients)
                    .map(|_| {
                        sleep_ms(APART_MS);
                        scope.spawn(client)
                    })
                    .collect();
                for client in clients {
                    waits.sum += client.join().expect("a client does not fail");
                    waits.clients += 1;
                }
                busy.join().expect("the request that keeps it busy is answered");
            });
        }
        let mean = waits.sum / waits.clients;
        assert!(mean > LONG, "the test's own load did not come about: a client waited for {mean:?}");
        waits
    }

    /// The time that the connections were in the accept queue, in microseconds: what their clients waited, but for the
    /// time that the server had accepted them.
    pub(crate) fn queued_us(&self) -> RangeInclusive<f64> {
        let sum = self.sum.as_micros() as f64;
        sum * (1.0 - SERVED)..=sum * (1.0 + CONNECTED)
    }
}
