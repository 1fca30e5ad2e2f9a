//! Connections one by one: of each listener those that wait longest. They are listed on request only, a few of each
//! listener, and what is not listed is counted.

use std::{cmp::Reverse, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{model::Model, names::names};

/// The most connections that are listed of a listener: of those that wait to be accepted, of those with unread bytes,
/// and of those that are half open.
pub const PER_LISTENER: u32 = 16;
/// The most that are listed of all listeners, of each of the three.
pub const IN_ALL: u32 = 256;

names! {
    /// How a client stands.
    pub enum ClientState {
        /// It has not ended the connection.
        Open = "open",
        /// It has sent its FIN: it sends nothing more.
        Closed = "closed",
        /// The connection has ended: reset, or timed out.
        Reset = "reset",
    }
}

names! {
    /// How well it is known for how long something waits.
    pub enum Precision {
        /// To the microsecond.
        Measured = "measured",
        /// Worked out from what the kernel keeps: the connection waited before the start, or no probe saw it enqueued.
        Estimated = "estimated",
        /// It waits for so long at least.
        AtLeast = "at_least",
    }
}

/// A process or one of its threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Process id.
    pub pid: u32,
    /// Thread id; `None` where this is about the process.
    pub tid: Option<u32>,
    /// Command name of the thread, or of the process.
    pub comm: String,
}

/// What is known of a connection whose handshake is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfOpen {
    /// SYN-ACKs that were sent again.
    pub resent: u32,
    /// Whether the final ACK has come: the accept queue had no room then or, with TCP_DEFER_ACCEPT, no data came with
    /// it. `None` if the source does not show that.
    pub acked: Option<bool>,
    /// Microseconds until the kernel's timer expires, which sends the SYN-ACK again or gives up; `None` if the source
    /// does not show that.
    pub timer_us: Option<u64>,
}

/// One connection that waits: to be accepted, for its bytes to be read, or for the end of its handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The client's address; one that is mapped into IPv6 as IPv4.
    pub client: IpAddr,
    /// The client's port.
    pub port: u16,
    /// Since when it waits to be accepted, or its oldest unread byte to be read, or its SYN-ACK to be answered
    /// (CLOCK_MONOTONIC, nanoseconds); `None` if that is unknown.
    pub since_ns: Option<u64>,
    /// How well that is known.
    pub precision: Precision,
    /// When it was accepted; `None` while it waits for that, and if it is unknown.
    #[serde(default)]
    pub accepted_ns: Option<u64>,
    /// How its client stands.
    pub state: ClientState,
    /// Payload bytes that arrived and were not read.
    pub unread: u64,
    /// The thread that read from it last; `None` if none did, or it is not known.
    #[serde(default)]
    pub reader: Option<Actor>,
    /// The process that holds it; `None` while it waits to be accepted, and if it is not known (yet).
    #[serde(default)]
    pub holder: Option<Actor>,
    /// What is known of its handshake; `None` if that is complete.
    #[serde(default)]
    pub half_open: Option<HalfOpen>,
}

impl Connection {
    /// For how long it waits, in microseconds.
    #[must_use]
    pub fn waits_us(&self, model: &Model) -> Option<u64> {
        Some(model.monotonic_ns.saturating_sub(self.since_ns?) / 1_000)
    }

    /// How long ago it was accepted, in microseconds.
    #[must_use]
    pub fn open_us(&self, model: &Model) -> Option<u64> {
        Some(model.monotonic_ns.saturating_sub(self.accepted_ns?) / 1_000)
    }

    /// Orders by waiting: the longest first, those of unknown age last.
    fn order(&self) -> (bool, u64, IpAddr, u16) {
        (self.since_ns.is_none(), self.since_ns.unwrap_or(0), self.client, self.port)
    }
}

/// Connections of one sort of a listener: the longest waiting, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionList {
    /// Those that are listed.
    pub connections: Vec<Connection>,
    /// How many there are, listed or not.
    pub total: u64,
}

impl ConnectionList {
    /// How many are not listed.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.total.saturating_sub(self.connections.len() as u64)
    }

    /// Puts them in order. There are at least as many as are listed: the two are counted one after the other.
    pub fn sort(&mut self) {
        self.connections.sort_by_key(Connection::order);
        self.total = self.total.max(self.connections.len() as u64);
    }

    fn merge(&mut self, other: &Self) {
        self.connections.extend_from_slice(&other.connections);
        self.total += other.total;
        self.sort();
    }
}

/// The connections of a listener that wait longest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionLists {
    /// On its accept queue.
    pub waiting: ConnectionList,
    /// Accepted, with bytes that nobody has read.
    pub unread: ConnectionList,
    /// On its SYN queue: the SYN-ACK was sent, the handshake is not complete.
    #[serde(default)]
    pub half_open: ConnectionList,
}

impl ConnectionLists {
    /// Those of several listeners as one; `None` if none has any.
    #[must_use]
    pub fn merged<'a>(lists: impl Iterator<Item = &'a Self>) -> Option<Self> {
        lists.fold(None, |all: Option<Self>, lists| {
            let mut all = all.unwrap_or_default();
            all.waiting.merge(&lists.waiting);
            all.unread.merge(&lists.unread);
            all.half_open.merge(&lists.half_open);
            Some(all)
        })
    }
}

/// What holds for all lists of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// So many connections are listed of a listener at most.
    pub per_listener: u32,
    /// So many of all.
    pub in_all: u32,
    /// Connections with unread bytes at listeners of which none is listed, because too many listeners have some.
    pub unlisted: u64,
}

/// Keeps of each sort the [`IN_ALL`] connections that wait longest.
pub fn keep_longest<'a>(lists: impl Iterator<Item = &'a mut ConnectionLists>) {
    let (mut waiting, mut unread, mut half_open) = (Vec::new(), Vec::new(), Vec::new());
    for lists in lists {
        waiting.push(&mut lists.waiting);
        unread.push(&mut lists.unread);
        half_open.push(&mut lists.half_open);
    }
    for mut sort in [waiting, unread, half_open] {
        keep_longest_of(&mut sort, IN_ALL as usize);
    }
}

fn keep_longest_of(lists: &mut [&mut ConnectionList], most: usize) {
    let mut excess = lists.iter().map(|list| list.connections.len()).sum::<usize>().saturating_sub(most);
    // From the shortest on. Each list is in order, so that is the last of some list.
    let mut order: Vec<_> =
        lists.iter().enumerate().flat_map(|(at, list)| list.connections.iter().map(move |c| (c.order(), at))).collect();
    order.sort_unstable_by_key(|place| Reverse(*place));
    for (_, at) in order {
        if excess == 0 {
            break;
        }
        lists[at].connections.pop();
        excess -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(port: u16, since_ns: Option<u64>) -> Connection {
        Connection {
            client: "10.0.0.1".parse().expect("an address"),
            port,
            since_ns,
            precision: Precision::Measured,
            accepted_ns: None,
            state: ClientState::Open,
            unread: 0,
            reader: None,
            holder: None,
            half_open: None,
        }
    }

    fn list(connections: &[(u16, Option<u64>)], total: u64) -> ConnectionList {
        let connections = connections.iter().map(|(port, since)| connection(*port, *since)).collect();
        let mut list = ConnectionList { connections, total };
        list.sort();
        list
    }

    fn ports(list: &ConnectionList) -> Vec<u16> {
        list.connections.iter().map(|connection| connection.port).collect()
    }

    #[test]
    fn the_longest_waiting_come_first_and_those_of_unknown_age_last() {
        let mut all = list(&[(1, Some(30)), (2, None), (3, Some(10))], 5);
        assert_eq!((ports(&all), all.cut()), (vec![3, 1, 2], 2));
        all.merge(&list(&[(4, Some(20)), (5, Some(40))], 0));
        // A list is never longer than what there is.
        assert_eq!((ports(&all), all.total, all.cut()), (vec![3, 4, 1, 5, 2], 7, 2));
    }

    #[test]
    fn of_too_many_in_all_the_longest_waiting_stay() {
        let (mut one, mut other) = (list(&[(1, Some(10)), (2, Some(40)), (3, None)], 3), list(&[(4, Some(20))], 9));
        keep_longest_of(&mut [&mut one, &mut other], 2);
        assert_eq!((ports(&one), one.cut(), ports(&other), other.cut()), (vec![1], 2, vec![4], 8));
        keep_longest_of(&mut [&mut one, &mut other], 2);
        assert_eq!((ports(&one), ports(&other)), (vec![1], vec![4]));
        keep_longest_of(&mut [&mut one, &mut other], 0);
        assert_eq!((one.cut(), other.cut()), (3, 9));
    }

    #[test]
    fn shards_are_merged() {
        let half_open = |ports: &[(u16, Option<u64>)]| list(ports, 3);
        let one =
            ConnectionLists { waiting: list(&[(1, Some(10))], 4), unread: list(&[], 0), half_open: half_open(&[]) };
        let other = ConnectionLists {
            waiting: list(&[(2, Some(5))], 1),
            unread: list(&[(3, Some(1))], 2),
            half_open: half_open(&[(4, Some(2))]),
        };
        let all = ConnectionLists::merged([&one, &other].into_iter()).expect("some");
        assert_eq!((ports(&all.waiting), all.waiting.cut()), (vec![2, 1], 3));
        assert_eq!((ports(&all.unread), all.unread.cut()), (vec![3], 1));
        assert_eq!((ports(&all.half_open), all.half_open.total), (vec![4], 6));
        assert_eq!(ConnectionLists::merged([].into_iter()), None);
    }
}
