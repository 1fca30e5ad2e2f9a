//! Refused connection attempts of both kinds: SYNs and final ACKs.

use listentop_model::model::Drops;
use socket2::Socket;

use crate::{
    sleep_ms,
    sockets::{attempt, connect, defer_accept, give_up_refused, retransmits, send_all},
};

/// Three attempts that stay in the SYN queue of a listener. Their final ACKs come with their first data.
pub fn half_open(listener: &Socket, port: u16) -> Vec<Socket> {
    defer_accept(listener, 5);
    let clients = (0..3).map(|_| attempt(port)).collect();
    defer_accept(listener, 0);
    clients
}

/// The load of [`MixedRefusals::run`], half done: four connections fill the accept queue of a listener with backlog 3,
/// and three more attempts wait in its SYN queue.
pub struct MixedRefusals {
    half_open: Vec<Socket>,
    waiting: Vec<Socket>,
    port: u16,
}

impl MixedRefusals {
    /// Fills both queues of the listener on this port.
    pub fn prepare(listener: &Socket, port: u16) -> Self {
        let half_open = half_open(listener, port);
        Self { half_open, waiting: (0..4).map(|_| connect(port)).collect(), port }
    }

    /// Lets the full accept queue refuse three final ACKs and five SYNs. The clients repeat each several times. Returns
    /// the connections that fill the queue, and the number of SYNs that the refused clients sent.
    pub fn run(self) -> (Vec<Socket>, u64) {
        self.half_open.iter().for_each(|client| send_all(client, b"x"));
        let refused: Vec<Socket> = (0..5).map(|_| attempt(self.port)).collect();
        // Long enough for the data to be sent again several times, and for the SYNs to be sent again once.
        sleep_ms(1300);
        let syns = refused.iter().map(|client| 1 + retransmits(client)).sum::<u64>();
        assert!(give_up_refused(refused).is_empty());
        (self.waiting, syns)
    }
}

/// Checks that the drops by cause, with those without a known cause, sum to the total.
pub fn assert_adds_up(drops: &Drops) {
    let causes = [drops.accept_queue_full_on_syn, drops.accept_queue_full_on_ack, drops.syn_queue_full, drops.other];
    let known: u64 = causes.iter().map(|cause| cause.unwrap_or(0)).sum();
    assert_eq!(Some(known + drops.unexplained.expect("it is measured")), drops.total, "{drops:?}");
}
