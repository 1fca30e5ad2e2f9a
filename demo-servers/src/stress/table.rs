//! The open connections of a load.

use super::connection::Connection;
use super::timers::Ticket;

/// Connections by token. Its upper half is a generation, so that a reused place has another token.
#[derive(Default)]
pub(super) struct Table {
    places: Vec<(u32, Option<Connection>)>,
    free: Vec<u32>,
    /// Number of connections.
    pub(super) open: u64,
}

impl Table {
    /// Adds a connection and returns its token.
    pub(super) fn insert(&mut self, connection: Connection) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(connection);
        self.open += 1;
        u64::from(place.0) << 32 | u64::from(index)
    }

    pub(super) fn get(&self, token: u64) -> Option<&Connection> {
        let (generation, connection) = self.places.get(token as u32 as usize)?;
        if *generation == (token >> 32) as u32 { connection.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Connection> {
        let (generation, connection) = self.places.get_mut(token as u32 as usize)?;
        if *generation == (token >> 32) as u32 { connection.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, token: u64) {
        if self.get(token).is_some() {
            let place = &mut self.places[token as u32 as usize];
            // The event loop has two tokens of its own with all upper bits set; no generation has them.
            *place = ((place.0 + 1) & 0x7fff_ffff, None);
            self.free.push(token as u32);
            self.open -= 1;
        }
    }

    /// Whether the connection is still in the phase of the ticket.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        self.get(ticket.token).is_some_and(|connection| connection.serial == ticket.serial)
    }

    /// All connections.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.places.iter().filter_map(|(_, connection)| connection.as_ref())
    }
}
