//! Connections one by one: those that no process has yet wait on an accept queue, others may have unread bytes. The
//! kernel lists neither since when, nor through which listener they came.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use listentop_model::connections::{ClientState, Connection, ConnectionLists, Precision};

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
    fn what_shards_share_stands_at_the_first() {
        let shards = [1, 2].map(|cookie| Entry { depth: 2, ..entry(cookie, "0.0.0.0", 80) });
        let connections = [with(0, "10.0.0.9:1", 1, 0, None)];
        let found = assign(&connections, shards.iter(), (&Scan::default(), 5), &mut HashSet::new());
        let waiting = &found[&1].waiting;
        assert_eq!((waiting.connections[0].since_ns, waiting.total), (None, 4));
        assert_eq!(found.len(), 1);
    }
}
