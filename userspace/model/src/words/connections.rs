//! Connections one by one, in words.

use super::{agree, bytes, clean, duration, endpoint, grouped, numbered_endpoint, process};
use crate::{
    connections::{Actor, ClientState, Connection, ConnectionList, ConnectionLists, Precision},
    model::{ListenerModel, Model},
};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// To be accepted.
    Waiting,
    /// To be read.
    Unread,
    /// For the end of its handshake.
    HalfOpen,
}

impl Sort {
    /// Every sort, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Unread, Self::HalfOpen];

    /// The connections of this sort.
    #[must_use]
    pub const fn of(self, lists: &ConnectionLists) -> &ConnectionList {
        match self {
            Self::Waiting => &lists.waiting,
            Self::Unread => &lists.unread,
            Self::HalfOpen => &lists.half_open,
        }
    }

    /// What they are, behind their number: `3 waiting to be accepted`.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Waiting => "waiting to be accepted",
            Self::Unread => "waiting to be read",
            Self::HalfOpen => "half open, their handshakes not complete",
        }
    }
}

/// The client's address and port.
#[must_use]
pub fn client(connection: &Connection) -> String {
    endpoint(connection.client, connection.port, true, None)
}

/// For how long it waits: `~` before an estimate, `≥` before a lower bound, `n/a` where that is unknown.
#[must_use]
pub fn waits(connection: &Connection, model: &Model) -> String {
    let Some(waits) = connection.waits_us(model) else { return "n/a".to_owned() };
    let mark = match connection.precision {
        Precision::Measured => "",
        Precision::Estimated => "~",
        Precision::AtLeast => "≥",
    };
    format!("{mark}{}", duration(waits))
}

/// The thread that read from it last, else the process that holds it, else in brackets that which holds its listener.
#[must_use]
pub fn read_by(connection: &Connection, listener: &ListenerModel) -> String {
    match connection.reader.as_ref().or(connection.holder.as_ref()) {
        Some(Actor { pid, tid: Some(tid), comm }) if tid != pid => format!("{}[{pid}/{tid}]", clean(comm)),
        Some(Actor { pid, comm, .. }) => format!("{}[{pid}]", clean(comm)),
        None => format!("({})", process(listener)),
    }
}

/// How many of how many are listed: `6 of 129`, or `3`.
#[must_use]
pub fn listed(list: &ConnectionList) -> String {
    let count = grouped(list.connections.len() as u64);
    if list.cut() == 0 { count } else { format!("{count} of {}", grouped(list.total)) }
}

/// What is known of a connection in addition to its client and its waiting, in words.
#[must_use]
pub fn facts(connection: &Connection, model: &Model) -> Vec<String> {
    let actor = |actor: &Actor| match actor.tid {
        Some(tid) => format!("{}[{}], thread {tid}", clean(&actor.comm), actor.pid),
        None => format!("{}[{}]", clean(&actor.comm), actor.pid),
    };
    let half_open = connection.half_open.as_ref();
    [
        half_open.map(|half_open| resent(half_open.resent)),
        half_open.and_then(|half_open| Some(format!("its timer expires in {}", duration(half_open.timer_us?)))),
        half_open.and_then(|half_open| half_open.acked).and_then(|acked| {
            acked.then(|| {
                "its final ACK came, but the accept queue was full, or it brought no data and the listener defers"
                    .to_owned()
            })
        }),
        (connection.unread > 0).then(|| format!("{} unread", bytes(connection.unread))),
        connection.open_us(model).map(|us| format!("accepted {} ago", duration(us))),
        connection.reader.as_ref().map(|reader| format!("last read by {}", actor(reader))),
        connection.holder.as_ref().map(|holder| format!("held by {}", actor(holder))),
        match connection.state {
            ClientState::Open => None,
            ClientState::Closed => Some("its client has closed".to_owned()),
            ClientState::Reset => Some("it has ended: reset, or timed out".to_owned()),
        },
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How often its SYN-ACK was sent again.
fn resent(times: u32) -> String {
    match times {
        0 => "its SYN-ACK was sent once".to_owned(),
        times => {
            format!("its SYN-ACK was sent again {} {}", grouped(times.into()), agree(times.into(), "time", "times"))
        }
    }
}

/// A connection in a sentence.
#[must_use]
pub fn sentence(connection: &Connection, sort: Sort, model: &Model, listener: &ListenerModel) -> String {
    let age = match (connection.waits_us(model), connection.precision) {
        (None, _) => "for an unknown time".to_owned(),
        (Some(us), Precision::Measured) => format!("for {}", duration(us)),
        (Some(us), Precision::Estimated) => format!("for about {}", duration(us)),
        (Some(us), Precision::AtLeast) => format!("for at least {}", duration(us)),
    };
    let what = match sort {
        Sort::Waiting => "to be accepted by",
        Sort::Unread => "to be read, through",
        Sort::HalfOpen => "half open at",
    };
    let through = format!("{} {}", numbered_endpoint(model, listener), process(listener));
    let facts = facts(connection, model);
    let facts = if facts.is_empty() { String::new() } else { format!("; {}", facts.join("; ")) };
    let verb = if sort == Sort::HalfOpen { "has been" } else { "waits" };
    let age =
        if sort == Sort::HalfOpen { format!("{what} {through} {age}") } else { format!("{age} {what} {through}") };
    format!("{} {verb} {age}{facts}.", client(connection))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures, tracker::Tracker};

    #[test]
    fn connections_are_put_into_words() {
        let samples = fixtures::connections();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let model = tracker.model();
        let listener = &model.listeners[0];
        let lists = listener.connections.as_ref().expect("some");
        let said = |list: &ConnectionList, at: usize, sort| sentence(&list.connections[at], sort, model, listener);
        let through = "0.0.0.0:8080 demo-server[2201]";
        assert_eq!(
            [0, 1, 2].map(|at| said(&lists.waiting, at, Sort::Waiting)),
            [
                format!("10.1.0.7:41002 waits for about 9.3s to be accepted by {through}."),
                format!(
                    "10.1.0.9:50123 waits for 4.2s to be accepted by {through}; it has ended: reset, or timed out."
                ),
                format!(
                    "192.168.100.200:60999 waits for 4.1s to be accepted by {through}; 120B unread; \
                     its client has closed."
                ),
            ]
        );
        assert!(
            said(&lists.waiting, 5, Sort::Waiting)
                .starts_with("10.1.0.8:33001 waits for an unknown time to be accepted")
        );
        assert_eq!(
            said(&lists.unread, 1, Sort::Unread),
            format!(
                "10.1.0.4:40002 waits for 310ms to be read, through {through}; 88B unread; accepted 1.0s ago; \
                 last read by web[900], thread 907; held by web[900]."
            )
        );
        assert_eq!(
            [0, 1].map(|at| said(&lists.half_open, at, Sort::HalfOpen)),
            [
                format!("10.2.0.1:20001 has been half open at {through} for 7.2s; its SYN-ACK was sent again 3 times."),
                format!(
                    "10.2.0.2:20002 has been half open at {through} for at least 1.4s; its SYN-ACK was sent once; its \
                     timer expires in 600ms; its final ACK came, but the accept queue was full, or it brought no data \
                     and the listener defers."
                ),
            ]
        );
        assert!(said(&lists.unread, 0, Sort::Unread).contains("waits for at least 6.5s to be read"));
        let waits = |at: usize| waits(&lists.waiting.connections[at], model);
        assert_eq!([waits(0), waits(1), waits(5)], ["~9.3s", "4.2s", "n/a"]);
        let by = |at: usize| read_by(&lists.unread.connections[at], listener);
        assert_eq!([by(0), by(1), by(2)], ["web[900]", "web[900/907]", "(demo-server[2201])"]);
        assert_eq!(Sort::ALL.map(|sort| listed(sort.of(lists))), ["6 of 129", "3", "2 of 14"]);
    }
}
