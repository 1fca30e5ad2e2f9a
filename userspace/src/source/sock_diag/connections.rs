//! Connections one by one: those that no process has yet wait on an accept queue, others may have unread bytes, and
//! request sockets are half open. The kernel lists neither since when, nor through which listener they came.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use listentop_model::connections::{ClientState, Connection, ConnectionLists, HalfOpen, Precision};

use super::{netlink::Entry, requests::ByAddress};
use crate::source::{lists::holder, owners::Scan};

/// `TCP_CLOSE_WAIT`.
const CLOSE_WAIT: u8 = 8;

/// Of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// As in `sk_state`.
    pub(super) state: u8,
    /// Milliseconds since the last payload came, and since the last packet with an ACK; `None` if the kernel did not
    /// list it.
    pub(super) quiet: Option<(u32, u32)>,
}

/// The lists, by the listener's cookie, the longest waiting first. What several shards share stands at the first of
/// them. `inodes` gets those of the sockets that processes hold.
pub(super) fn assign<'a>(
    connections: &[Entry],
    listeners: impl Iterator<Item = &'a Entry>,
    (scan, now_ns): (&Scan, u64),
    inodes: &mut HashSet<u64>,
) -> HashMap<u64, ConnectionLists> {
    let listeners = ByAddress::of(listeners);
    let mut found: HashMap<u64, ConnectionLists> = HashMap::new();
    for entry in connections {
        let Some(peer) = &entry.peer else { continue };
        let Some(shards @ [first, ..]) = listeners.through(entry) else { continue };
        let (waits, unread) = (entry.inode == 0, unread(entry, peer));
        if !waits && unread == 0 {
            continue;
        }
        let lists = found.entry(first.cookie).or_default();
        let connection = connection(entry, peer, unread, now_ns);
        if waits {
            lists.waiting.connections.push(connection);
            lists.waiting.total = shards.iter().map(|shard| u64::from(shard.depth)).sum();
        } else {
            inodes.insert(entry.inode.into());
            lists.unread.connections.push(Connection { holder: holder(scan, entry.inode.into()), ..connection });
        }
    }
    for lists in found.values_mut() {
        lists.waiting.sort();
        lists.unread.sort();
    }
    found
}

/// Adds the half-open connections. `seen`: when each was seen first, by its cookie; those that are gone are forgotten.
pub(super) fn add_half_open<'a>(
    requests: &[Entry],
    listeners: impl Iterator<Item = &'a Entry>,
    now_ns: u64,
    seen: &mut HashMap<u64, u64>,
    found: &mut HashMap<u64, ConnectionLists>,
) {
    let listeners = ByAddress::of(listeners);
    let before = std::mem::take(seen);
    for entry in requests {
        let since_ns = before.get(&entry.cookie).copied().unwrap_or(now_ns);
        seen.insert(entry.cookie, since_ns);
        let Some(peer) = &entry.peer else { continue };
        let Some([first, ..]) = listeners.through(entry) else { continue };
        let list = &mut found.entry(first.cookie).or_default().half_open;
        let half_open = HalfOpen {
            resent: entry.retransmits.into(),
            acked: None,
            timer_us: entry.timer.map(|left| left.as_micros() as u64),
        };
        let connection = connection(entry, peer, 0, now_ns);
        list.connections.push(Connection { since_ns: Some(since_ns), half_open: Some(half_open), ..connection });
    }
    found.values_mut().for_each(|lists| lists.half_open.sort());
}

/// Bytes that were not read. The FIN takes a number, too, until it is read.
fn unread(entry: &Entry, peer: &Peer) -> u64 {
    u64::from(entry.depth).saturating_sub(u64::from(peer.state == CLOSE_WAIT))
}

fn connection(entry: &Entry, peer: &Peer, unread: u64, now_ns: u64) -> Connection {
    // A connection that waits has done so since its client was heard last at the least, and the oldest byte since the
    // last payload.
    let quiet_ms = peer.quiet.map(|(payload, any)| if entry.inode == 0 { payload.max(any) } else { payload });
    Connection {
        client: peer.address.to_canonical(),
        port: peer.port,
        since_ns: quiet_ms.map(|ms| now_ns.saturating_sub(u64::from(ms) * 1_000_000)),
        precision: Precision::AtLeast,
        accepted_ns: None,
        state: if peer.state == CLOSE_WAIT { ClientState::Closed } else { ClientState::Open },
        unread,
        reader: None,
        holder: None,
        half_open: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::requests::tests::entry, *};

    fn with(inode: u32, client: &str, state: u8, depth: u32, quiet: Option<(u32, u32)>) -> Entry {
        let client: std::net::SocketAddr = client.parse().expect("an address");
        let peer = Some(Peer { address: client.ip(), port: client.port(), state, quiet });
        Entry { inode, depth, peer, ..entry(0, "10.0.0.1", 80) }
    }

    #[test]
    fn what_no_process_has_waits_and_bytes_are_counted_without_the_end() {
        let listeners = [Entry { depth: 3, ..entry(1, "10.0.0.1", 80) }, entry(2, "10.0.0.1", 81)];
        let connections = [
            with(0, "10.0.0.9:1", 1, 0, Some((70, 20))),
            with(0, "[::ffff:10.0.0.9]:2", CLOSE_WAIT, 41, Some((90, 300))),
            with(7, "10.0.0.9:3", 1, 5, Some((60, 10))),
            with(7, "10.0.0.9:4", CLOSE_WAIT, 1, Some((60, 10))),
            with(7, "10.0.0.9:5", 1, 0, Some((60, 10))),
            Entry { port: 99, ..with(0, "10.0.0.9:6", 1, 0, None) },
        ];
        let now_ns = 1_000_000_000;
        let mut inodes = HashSet::new();
        let found = assign(&connections, listeners.iter(), (&Scan::default(), now_ns), &mut inodes);
        assert_eq!(inodes, HashSet::from([7]));
        assert_eq!(found.len(), 1);
        let lists = &found[&1];
        let read = |c: &Connection| (c.port, c.since_ns.map(|since| (now_ns - since) / 1_000_000), c.state, c.unread);
        let waiting: Vec<_> = lists.waiting.connections.iter().map(read).collect();
        assert_eq!(waiting, [(2, Some(300), ClientState::Closed, 40), (1, Some(70), ClientState::Open, 0)]);
        assert_eq!(lists.waiting.connections[0].client.to_string(), "10.0.0.9");
        // One was reset: the kernel does not list it, but counts it.
        assert_eq!((lists.waiting.total, lists.waiting.cut()), (3, 1));
        let unread: Vec<_> = lists.unread.connections.iter().map(read).collect();
        assert_eq!((unread, lists.unread.cut()), (vec![(3, Some(60), ClientState::Open, 5)], 0));
    }

    #[test]
    fn a_half_open_connection_is_as_old_as_it_is_known_to_be() {
        let listeners = [entry(1, "10.0.0.1", 80)];
        let request = |cookie, client| Entry {
            cookie,
            retransmits: 2,
            timer: Some(std::time::Duration::from_millis(400)),
            ..with(0, client, 3, 0, None)
        };
        let mut seen = HashMap::new();
        let mut ages = |requests: &[Entry], now_ns| {
            let mut found = HashMap::new();
            add_half_open(requests, listeners.iter(), now_ns, &mut seen, &mut found);
            let list = found.remove(&1).unwrap_or_default().half_open;
            assert_eq!(list.total, list.connections.len() as u64);
            list.connections.into_iter().map(|c| (c.port, c.since_ns, c.half_open)).collect::<Vec<_>>()
        };
        let known = Some(HalfOpen { resent: 2, acked: None, timer_us: Some(400_000) });
        let (one, other) = (request(8, "10.0.0.9:1"), request(9, "10.0.0.9:2"));
        assert_eq!(ages(std::slice::from_ref(&one), 5), [(1, Some(5), known)]);
        assert_eq!(ages(&[other, one.clone()], 9), [(1, Some(5), known), (2, Some(9), known)]);
        assert_eq!(ages(&[], 11), []);
        assert_eq!(ages(&[one], 12), [(1, Some(12), known)], "it is another one");
    }

    #[test]
    fn what_shards_share_stands_at_the_first() {
        let shards = [1, 2].map(|cookie| Entry { depth: 2, ..entry(cookie, "0.0.0.0", 80) });
        let connections = [with(0, "10.0.0.9:1", 1, 0, None)];
        let found = assign(&connections, shards.iter(), (&Scan::default(), 5), &mut HashSet::new());
        let waiting = &found[&1].waiting;
        assert_eq!((waiting.connections[0].since_ns, waiting.total), (None, 4));
        assert_eq!(found.len(), 1);
    }
}
