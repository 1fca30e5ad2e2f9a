//! Which connections are shown in which order, and a line of them.

use std::cmp::{Ordering, Reverse};

use listentop_model::{
    connections::{ClientState, Connection},
    model::{ListenerModel, Model},
    words::{self, connections, connections::Sort},
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::Id;
use crate::dashboard::{filter::Filter, theme::Theme, widgets::text};

/// A column: its head, what the help says of it, and where its text stands.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Its numbers stand at the right.
    pub(super) right: bool,
    /// Columns that it takes; 0: as many as it needs.
    width: u16,
    /// What it shows.
    text: fn(&Shown<'_>) -> String,
    /// The first order.
    order: fn(&Shown<'_>, &Shown<'_>) -> Ordering,
}

/// Where the longest waiting come first, and those of unknown age last.
fn by_waiting(one: &Shown<'_>, other: &Shown<'_>) -> Ordering {
    let key = |shown: &Shown<'_>| (shown.connection.since_ns.is_none(), shown.connection.since_ns);
    key(one).cmp(&key(other))
}

/// The columns, from the left.
pub(super) const COLUMNS: [Column; 9] = [
    Column {
        name: "WAITS",
        help: "For how long it waits: to be accepted, or its oldest unread byte to be read; of a half-open one, how long \
               ago its SYN-ACK was sent first. ~ is an estimate, ≥ a lower bound.",
        right: true,
        width: 8,
        text: |shown| connections::waits(shown.connection, shown.model),
        order: by_waiting,
    },
    Column {
        name: "FOR",
        help: "What it waits for: accept (it is on the accept queue), read (a process has it, and bytes in it that it has \
               not read), or ack (it is half open, on the SYN queue: the final ACK of its handshake has not been taken).",
        right: false,
        width: 6,
        text: |shown| {
            match shown.sort {
                Sort::Waiting => "accept",
                Sort::Unread => "read",
                Sort::HalfOpen => "ack",
            }
            .to_owned()
        },
        order: |one, other| one.sort.cmp(&other.sort),
    },
    Column {
        name: "CLIENT",
        help: "The client's address and port.",
        right: false,
        width: 0,
        text: |shown| connections::client(shown.connection),
        order: |one, other| {
            (one.connection.client, one.connection.port).cmp(&(other.connection.client, other.connection.port))
        },
    },
    Column {
        name: "LISTENER",
        help: "The listener that it came through; of a group, with the number of the shard.",
        right: false,
        width: 0,
        text: |shown| words::numbered_endpoint(shown.model, shown.listener),
        // Listeners are in order in the model.
        order: |one, other| one.place.listener.cmp(&other.place.listener),
    },
    Column {
        name: "IS",
        help: "How its client stands: open; closed (it has sent its FIN, and nothing more); reset (the connection has \
               ended). Half open: syn (its SYN came), acked (its final ACK came, too, but the accept queue was full or, \
               with TCP_DEFER_ACCEPT, it brought no data).",
        right: false,
        width: 6,
        text: |shown| {
            match shown.connection.half_open.map(|half_open| half_open.acked) {
                None => shown.connection.state.name(),
                Some(Some(true)) => "acked",
                Some(_) => "syn",
            }
            .to_owned()
        },
        order: |one, other| {
            let key = |shown: &Shown<'_>| {
                let acked = shown.connection.half_open.and_then(|half_open| half_open.acked);
                (Reverse(shown.connection.state as u8), Reverse(acked))
            };
            key(one).cmp(&key(other))
        },
    },
    Column {
        name: "UNREAD",
        help: "Bytes of payload that arrived and were not read.",
        right: true,
        width: 8,
        text: |shown| match shown.sort {
            Sort::HalfOpen => words::NOTHING.to_owned(),
            _ => words::bytes(shown.connection.unread),
        },
        order: |one, other| other.connection.unread.cmp(&one.connection.unread),
    },
    Column {
        name: "AGAIN",
        help: "Of a half-open one: how often its SYN-ACK was sent again, because the final ACK did not come, or the client \
               sent its SYN again. Shown where there is one.",
        right: true,
        width: 6,
        text: |shown| {
            let half_open = shown.connection.half_open.as_ref();
            half_open.map_or_else(|| words::NOTHING.to_owned(), |half_open| words::short(half_open.resent.into()))
        },
        order: |one, other| {
            let key = |shown: &Shown<'_>| Reverse(shown.connection.half_open.map(|half_open| half_open.resent));
            key(one).cmp(&key(other))
        },
    },
    Column {
        name: "READ BY",
        help: "The thread that read from it last; else the process that holds it; else, in brackets, that which holds \
               the listener.",
        right: false,
        width: 0,
        text: by,
        order: |one, other| by(one).cmp(&by(other)),
    },
    Column {
        name: "OPEN",
        help: "How long ago it was accepted.",
        right: true,
        width: 8,
        text: |shown| shown.connection.open_us(shown.model).map_or_else(|| "-".to_owned(), words::duration),
        order: |one, other| {
            let key = |shown: &Shown<'_>| (shown.connection.accepted_ns.is_none(), shown.connection.accepted_ns);
            key(one).cmp(&key(other))
        },
    },
];

/// Places of [`COLUMNS`] that are as wide as they need: the client, the listener, who reads.
const CLIENT: usize = 2;
const LISTENER: usize = 3;
/// Shown only where a connection is half open.
const AGAIN: usize = 6;
const BY: usize = 7;
const OPEN: usize = 8;

/// Where a connection is in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its listener's place.
    listener: usize,
    sort: Sort,
    /// Its own in that listener's list.
    at: usize,
}

/// A connection with what it belongs to.
pub(super) struct Shown<'a> {
    model: &'a Model,
    listener: &'a ListenerModel,
    connection: &'a Connection,
    sort: Sort,
    place: Place,
}

impl Place {
    pub(super) fn of<'a>(&self, model: &'a Model) -> Option<Shown<'a>> {
        let listener = model.listeners.get(self.listener)?;
        let connection = self.sort.of(listener.connections.as_ref()?).connections.get(self.at)?;
        Some(Shown { model, listener, connection, sort: self.sort, place: *self })
    }

    pub(super) fn id(&self, model: &Model) -> Option<Id> {
        let shown = self.of(model)?;
        Some((shown.listener.id, self.sort, shown.connection.client, shown.connection.port))
    }
}

/// What is to be shown.
pub(super) struct Sought<'a> {
    pub(super) only: Option<Sort>,
    pub(super) filter: &'a Filter,
    pub(super) by: usize,
    pub(super) reversed: bool,
}

/// The connections to show, in order.
pub(super) fn in_order(model: &Model, sought: &Sought<'_>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (at, lists) in model.listeners.iter().enumerate().filter_map(|(at, l)| Some((at, l.connections.as_ref()?))) {
        for sort in Sort::ALL.into_iter().filter(|sort| sought.only.is_none_or(|o| o == *sort)) {
            let count = sort.of(lists).connections.len();
            places.extend((0..count).map(|place| Place { listener: at, sort, at: place }));
        }
    }
    let mut shown: Vec<Shown<'_>> = places.iter().filter_map(|place| place.of(model)).collect();
    shown.retain(|shown| sought.filter.is_empty() || sought.filter.passes(&searched(shown)));
    let order = COLUMNS.get(sought.by).map_or(by_waiting as fn(&_, &_) -> _, |column| column.order);
    let directed = |ordering: Ordering| if sought.reversed { ordering.reverse() } else { ordering };
    shown.sort_by(|one, other| directed(order(one, other)).then_with(|| by_waiting(one, other)));
    shown.into_iter().map(|shown| shown.place).collect()
}

/// What the filter looks at, in lower case.
fn searched(shown: &Shown<'_>) -> String {
    let of_columns: Vec<String> = COLUMNS.iter().map(|column| (column.text)(shown)).collect();
    let listener = format!("{} {}", words::process(shown.listener), words::netns(shown.listener));
    format!("{} {listener}", of_columns.join(" ")).to_lowercase()
}

/// Where each column is: x and width, 0 if there is no room. Widening takes none away.
pub(super) fn column_places(model: &Model, places: &[Place], area: Rect) -> Vec<(u16, u16)> {
    let needed = |column: usize| {
        let texts = places.iter().filter_map(|place| Some(words::width(&(COLUMNS[column].text)(&place.of(model)?))));
        texts.max().unwrap_or(0).max(COLUMNS[column].name.len() + 1) as u16
    };
    // The cursor at the left, the scroll bar at the right; a space between columns.
    let room = area.width.saturating_sub(3);
    let mut widths: Vec<u16> = COLUMNS.iter().map(|column| column.width).collect();
    if !places.iter().any(|place| place.sort == Sort::HalfOpen) {
        widths[AGAIN] = 0;
    }
    let gaps = widths[..OPEN].iter().enumerate().filter(|(at, width)| **width > 0 || *at != AGAIN).count() - 1;
    let fixed: u16 = widths[..OPEN].iter().sum::<u16>() + gaps as u16;
    widths[OPEN] = 0;
    let flexible = room.saturating_sub(fixed);
    // Addresses first; both ends of one stay. Who reads has at least some columns.
    let by = needed(BY).min(flexible / 4);
    let addresses = flexible.saturating_sub(by);
    widths[CLIENT] = needed(CLIENT).min(addresses.saturating_sub(needed(LISTENER)).max(addresses / 2));
    widths[LISTENER] = needed(LISTENER).min(addresses.saturating_sub(widths[CLIENT]));
    let rest = flexible.saturating_sub(widths[CLIENT] + widths[LISTENER]);
    widths[BY] = needed(BY).min(rest);
    if rest - widths[BY] > COLUMNS[OPEN].width {
        widths[OPEN] = COLUMNS[OPEN].width;
    }
    let mut x = area.x + 1;
    let mut columns = Vec::with_capacity(widths.len());
    for width in widths {
        columns.push((x, width));
        x += width + u16::from(width > 0);
    }
    columns
}

/// A line of the list.
pub(super) fn draw_line(
    buf: &mut Buffer,
    line: Rect,
    columns: &[(u16, u16)],
    (model, place): (&Model, &Place),
    theme: Theme,
) {
    let Some(shown) = place.of(model) else { return };
    for (at, (column, &(x, width))) in COLUMNS.iter().zip(columns).enumerate().filter(|(_, (_, c))| c.1 > 0) {
        let content = words::clean(&(column.text)(&shown));
        let content = if at == CLIENT || at == LISTENER { words::fit_middle(&content, width.into()) } else { content };
        let style = match shown.connection.state {
            // Whoever accepts or reads it does so for nobody.
            ClientState::Reset if column.name == "IS" => theme.critical(),
            ClientState::Closed if column.name == "IS" => theme.warning(),
            _ => Style::new(),
        };
        let put = if column.right { text::right } else { text::left };
        put(buf, x, line.y, width, &content, style);
    }
}

/// The connection in a sentence.
pub(super) fn sentence(place: &Place, model: &Model) -> Option<String> {
    let shown = place.of(model)?;
    Some(connections::sentence(shown.connection, shown.sort, model, shown.listener))
}

fn by(shown: &Shown<'_>) -> String {
    if shown.sort == Sort::HalfOpen {
        return words::NOTHING.to_owned();
    }
    connections::read_by(shown.connection, shown.listener)
}
