//! Iterators that list connections on request: those on accept queues, those whose bytes nobody reads, and those on SYN
//! queues, the longest waiting of each listener. Nothing runs while nobody asks.

use listentop_abi::{
    connection::{Connection, PLACES, STATE_BASELINE, STATE_WALKED},
    listed::{
        ACKED, ACKED_UNKNOWN, ENTRIES, HALF_OPEN, LIST_ENDED, LIST_STRETCH, Listed, PAGES as LIST_PAGES, Page,
        SINCE_AT_LEAST, SINCE_ESTIMATED, UNREAD, WAITING,
    },
    listener::ListenerRef,
};

use super::iterators::{TcpSocket, reader_of, walk};
use crate::{
    connections,
    kernel::{LISTEN, MaybeGone, Request},
    maps::{self, CONNECTIONS, INFO, LISTING, LISTS, PAGES, SPILLED},
    record, stats,
    values::{Lookup as _, MapValue, field},
};

walk! {
    /// Lists the first connections of each accept queue, which have waited longest: a stretch of each queue per pass.
    list_waiting, list_waiting_one: u64 => list_queue
}

#[inline(always)]
fn list_queue<const ONE: bool>(key: u64) {
    let raw = MaybeGone(key);
    let Some(listener) = maps::listener_at(key) else { return };
    let head = raw.accept_head();
    if head.is_null() || raw.state() != LISTEN {
        return;
    }
    let Some(page) = page_of(listener, WAITING) else { return };
    let cursor = field!(page.cursor).get();
    if cursor == LIST_ENDED {
        return;
    }
    let mut request = Request(cursor);
    if cursor == 0 {
        field!(page.total).set(raw.accept_depth());
        request = head;
    }
    for _ in 0..LIST_STRETCH {
        // One that has left the queue since may be another listener's by now, and lead along its queue.
        if request.is_null() || request.listener() != raw.0 || is_full(page) {
            field!(page.cursor).set(LIST_ENDED);
            return;
        }
        let next = request.next();
        list_request(page, request);
        request = next;
    }
    field!(page.cursor).set(if request.is_null() { LIST_ENDED } else { request.0 });
}

#[inline(always)]
fn is_full(page: MapValue<Page>) -> bool {
    let wanted = LISTING.value(0).map_or(0, |listing| field!(listing.wanted).get());
    field!(page.count).get() >= wanted
}

/// Lists one that waits, unless it leaves the queue at this moment.
#[inline(always)]
fn list_request(page: MapValue<Page>, request: Request) {
    let child = request.child();
    if child.0 == 0 {
        return;
    }
    let Some(position) = child.position() else { return };
    let client = Client::of(child);
    let tracked = connections::find(child.0).filter(|connection| {
        let connection = *connection;
        field!(connection.identity).get() == position.identity
    });
    let (mut since_ns, mut flags) = (0, SINCE_ESTIMATED);
    if let Some(connection) = tracked {
        since_ns = field!(connection.enqueued_ns).get();
        flags = if field!(connection.state).get() & STATE_WALKED == 0 { 0 } else { SINCE_ESTIMATED };
    }
    if since_ns == 0 {
        (since_ns, flags) = (request.enqueued_ns(), SINCE_ESTIMATED);
    }
    // What was read above is this connection's only if it has stayed where it was.
    if child.socket() != 0 || request.has_left(child) || child.identity() != Some(position.identity) {
        return;
    }
    let place = field!(page.count).get();
    let Some(entry) = field!(page.entries).element(core::hint::black_box(place as usize)) else { return };
    field!(page.count).set(place + 1);
    client.write(entry);
    field!(entry.since_ns).set(since_ns);
    field!(entry.unread).set(position.end.wrapping_sub(position.copied));
    field!(entry.flags).set(flags);
}

walk! {
    /// Lists accepted connections with unread bytes: walks over all sets, one at a time, and lists one connection of
    /// each; the next pass lists the next. (With a loop the verifier would follow all of this for each place of a set,
    /// at every start.)
    list_unread, list_unread_one: u32 => list_set
}

#[inline(always)]
fn list_set<const ONE: bool>(index: u32) {
    let Some(set) = CONNECTIONS.value(index) else { return };
    let Some(listing) = LISTING.value(0) else { return };
    field!(listing.seen).set(0);
    field!(listing.chosen).set(PLACES as u32);
    for place in 0..PLACES {
        if connections::at(set, place).is_some_and(|(_, connection)| has_unread(connection)) {
            let seen = field!(listing.seen).get();
            // Through the map: what is in a register is followed by the verifier, in each of its values.
            if seen == field!(listing.pass).get() {
                field!(listing.chosen).set(place as u32);
            }
            field!(listing.seen).set(seen + 1);
        }
    }
    let seen = field!(listing.seen).get();
    if seen > field!(listing.most).get() {
        field!(listing.most).set(seen);
    }
    let place = field!(listing.chosen).get() as usize;
    if place < PLACES
        && let Some((key, connection)) = connections::at(set, place)
    {
        list_connection(MaybeGone(key), connection);
    }
}

/// Whether it is accepted, and bytes seem to wait in it.
#[inline(always)]
fn has_unread(connection: MapValue<Connection>) -> bool {
    field!(connection.live).get() != 0
        && field!(connection.accepted_ns).get() != 0
        && field!(connection.arrived).get().wrapping_sub(field!(connection.consumed).get()) as i32 > 0
}

walk! {
    /// The same for [`SPILLED`].
    list_unread_spilled, list_unread_spilled_one: u64 => list_spilled
}

#[inline(always)]
fn list_spilled<const ONE: bool>(key: u64) {
    if let Some(connection) = SPILLED.value(&key) {
        list_connection(MaybeGone(key), connection);
    }
}

/// Lists a connection, if bytes wait that its process has not read, and if it has waited longer than those listed.
#[inline(always)]
fn list_connection(socket: MaybeGone, connection: MapValue<Connection>) {
    if !has_unread(connection) {
        return;
    }
    let accepted_ns = field!(connection.accepted_ns).get();
    let consumed = field!(connection.consumed).get();
    let arrived = field!(connection.arrived).get();
    let listener = field!(connection.listener).get();
    let Some(info) = INFO.value(listener.slot) else { return };
    if field!(info.generation).get() != listener.generation {
        return;
    }
    let position = reader_of(socket, connection, consumed, arrived);
    let unread = arrived.wrapping_sub(position);
    if unread as i32 <= 0 {
        return;
    }
    let first_ns = record::first_unread(connection, position);
    let since_ns = first_ns.max(accepted_ns);
    let client = Client::of(socket);
    let inode = socket.mptcp().unwrap_or(socket).inode();
    if socket.identity() != Some(field!(connection.identity).get()) {
        return;
    }
    let Some(page) = page_of(listener, UNREAD) else {
        if let Some(listing) = LISTING.value(0) {
            field!(listing.unread_without_page).set(field!(listing.unread_without_page).get() + 1);
        }
        return;
    };
    field!(page.total).set(field!(page.total).get() + 1);
    let Some(entry) = displaced(page, since_ns) else { return };
    client.write(entry);
    field!(entry.since_ns).set(since_ns);
    field!(entry.accepted_ns).set(accepted_ns);
    field!(entry.inode).set(inode);
    field!(entry.unread).set(unread);
    field!(entry.reader).set(field!(connection.reader).get());
    // Of one that was open at the start neither is known, if its bytes came before.
    let before = field!(connection.state).get() & STATE_BASELINE != 0 && first_ns <= accepted_ns;
    field!(entry.flags).set(if before || first_ns == 0 { SINCE_AT_LEAST } else { 0 });
    note_youngest(page);
}

/// Visits the sockets of one namespace, and lists the requests of its SYN queues. No list of the kernel leads from a
/// listener to them.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn list_half_open(ctx: &TcpSocket) -> i32 {
    let Some(request) = ctx.request() else { return 0 };
    let Some(listener) = maps::listener_at(request.listener()) else { return 0 };
    let Some(page) = page_of(listener, HALF_OPEN) else { return 0 };
    field!(page.total).set(field!(page.total).get() + 1);
    let (synack_ns, now) = (request.synack_ns(), stats::now());
    let since_ns = if synack_ns == 0 { now } else { synack_ns };
    let Some(entry) = displaced(page, since_ns) else { return 0 };
    Client::of(MaybeGone(request.0)).write(entry);
    field!(entry.since_ns).set(since_ns);
    field!(entry.resent).set(request.resent());
    let acked = match request.acked() {
        None => ACKED_UNKNOWN,
        Some(true) => ACKED,
        Some(false) => 0,
    };
    field!(entry.flags).set(acked | if synack_ns == 0 { SINCE_AT_LEAST } else { 0 });
    note_youngest(page);
    0
}

/// The entry for a connection that waits since then: a free one, or that of the one that waits for the shortest time.
/// `None` if all wait longer.
#[inline(always)]
fn displaced(page: MapValue<Page>, since_ns: u64) -> Option<MapValue<Listed>> {
    let count = field!(page.count).get();
    let place = if is_full(page) {
        if count == 0 || since_ns >= field!(page.youngest_ns).get() {
            return None;
        }
        field!(page.youngest).get()
    } else {
        field!(page.count).set(count + 1);
        count
    };
    field!(page.entries).element(core::hint::black_box(place as usize))
}

/// Notes which entry waits for the shortest time. Those that are free wait since 0.
#[inline(always)]
fn note_youngest(page: MapValue<Page>) {
    field!(page.youngest_ns).set(0);
    for place in 0..ENTRIES {
        let entry = field!(page.entries).wrapping(place);
        let since_ns = field!(entry.since_ns).get();
        // Through the page: what is in a register is followed by the verifier, in each of its values.
        if since_ns > field!(page.youngest_ns).get() {
            field!(page.youngest_ns).set(since_ns);
            field!(page.youngest).set(place as u32);
        }
    }
}

/// The client's end of a connection, and how it stands.
struct Client {
    family: u16,
    address: [u8; 16],
    port: u16,
    state: u32,
}

impl Client {
    #[inline(always)]
    fn of(socket: MaybeGone) -> Self {
        let family = socket.family();
        Self { family, address: socket.peer(family), port: socket.peer_port(), state: socket.state() as u32 }
    }

    #[inline(always)]
    fn write(&self, entry: MapValue<Listed>) {
        field!(entry.family).set(self.family);
        field!(entry.address).set_bytes(self.address);
        field!(entry.port).set(self.port);
        field!(entry.state).set(self.state);
    }
}

/// A listener's page of a sort; takes a free one for the first connection. `None` if none is left.
#[inline(always)]
fn page_of(listener: ListenerRef, sort: usize) -> Option<MapValue<Page>> {
    let lists = LISTS.value(listener.slot)?;
    let index = lists.wrapping(sort);
    let known = index.get();
    if known != 0 {
        return PAGES.value(known - 1);
    }
    let listing = LISTING.value(0)?;
    let next = field!(listing.pages).get();
    if next >= LIST_PAGES {
        return None;
    }
    let page = PAGES.value(next)?;
    field!(listing.pages).set(next + 1);
    field!(page.slot).set(listener.slot);
    field!(page.generation).set(listener.generation);
    field!(page.sort).set(sort as u32);
    index.set(next + 1);
    Some(page)
}
