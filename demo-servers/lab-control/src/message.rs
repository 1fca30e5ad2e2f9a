//! The messages.

use serde::{Deserialize, Serialize};

/// What a lab receives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToLab {
    /// The first message of each connection.
    Hello {
        /// [`crate::VERSION`].
        version: u32,
        /// What it is.
        role: Role,
        /// A program's name in the lesson; empty for others.
        #[serde(default)]
        name: String,
    },
    /// Asks the lab to do something.
    Act(Act),
    /// listentop's report so far, upon [`FromLab::Report`] or before it ends.
    Report {
        /// The number of the request; 0 if there was none.
        #[serde(default)]
        number: u64,
        /// The JSON report.
        report: serde_json::Value,
    },
    /// A program has carried out an order, or could not.
    Done {
        /// The order's number.
        number: u64,
        /// Why it could not.
        #[serde(default)]
        error: Option<String>,
    },
}

/// What connects to a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// listentop: answers requests for reports; a dashboard is sent states too.
    Listentop,
    /// A server: is sent orders.
    Server,
    /// A client program: is sent orders.
    Load,
    /// Anything else: is sent states, and may act.
    Observer,
}

/// What a lab can be asked to do. `server` is a name or a port; without it the lesson's only server is meant. `load`
/// likewise; without it all loads are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// The server accepts nothing from now on.
    Stall {
        /// Which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// It accepts again.
    Release {
        /// Which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// It calls listen(2) again.
    Backlog {
        /// Which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// The new backlog.
        backlog: u32,
    },
    /// It gets one more acceptor, or one more shard.
    AddAcceptor {
        /// Which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// Loads go on at this share of their own rate.
    Rate {
        /// Which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        load: Option<String>,
        /// In percent of the lesson's rate, from 1 to 1000.
        percent: u32,
    },
    /// SYN cookies of the lab's namespace: 0 off, 1 if the SYN queue is full, 2 always.
    Cookies {
        /// The value of tcp_syncookies.
        value: u8,
    },
    /// The next step begins now.
    NextStep,
    /// The lesson begins again, with new programs and a new namespace.
    Repeat,
    /// The lesson ends, and the menu of lessons opens.
    Course,
}

/// What a lab sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromLab {
    /// The answer to a hello.
    Welcome {
        /// [`crate::VERSION`].
        version: u32,
        /// The lesson that runs.
        lesson: String,
    },
    /// The answer to a message that the lab cannot use, or to an act that failed.
    Refused {
        /// Why, in one line.
        reason: String,
    },
    /// How the lesson stands. Sent whenever that changes.
    State(Box<State>),
    /// Asks listentop for its report.
    Report {
        /// To be repeated in the answer.
        number: u64,
    },
    /// Asks a program to change.
    Order {
        /// To be repeated in the answer.
        number: u64,
        /// What to do.
        #[serde(flatten)]
        order: Order,
    },
}

/// What a program can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Accept nothing from now on.
    Stall,
    /// Accept again.
    Release,
    /// Call listen(2) again.
    Backlog {
        /// The new backlog.
        backlog: u32,
    },
    /// Start one more acceptor, or one more shard.
    AddAcceptor,
    /// Go on at this share of the rate of the command line.
    Rate {
        /// In percent.
        percent: u32,
    },
}

/// How a lesson stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The lesson's name.
    pub lesson: String,
    /// The step's name.
    pub step: String,
    /// Its number, from 1.
    pub number: usize,
    /// The number of steps.
    pub steps: usize,
    /// Seconds that are left of the step; `None` when the lesson is over and goes on until it is ended.
    pub left: Option<u64>,
    /// What to watch now.
    pub watch: String,
    /// What is expected, in the order of the lesson.
    pub expected: Vec<Expected>,
    /// What was done last, and when: "14:03:07 stall slow_acceptor".
    pub last_act: Option<String>,
    /// Findings that the lesson is about, by their ids.
    #[serde(default)]
    pub findings: Vec<String>,
    /// The clients' side, a load each.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// Load in percent of the lesson's own.
    pub rate: u32,
    /// The value of tcp_syncookies.
    pub cookies: u8,
    /// The ports of the servers that accept nothing because of an act.
    #[serde(default)]
    pub stalled: Vec<u16>,
    /// What was done so far, oldest first: steps that began, and acts. Of many the last ones.
    #[serde(default)]
    pub marks: Vec<Mark>,
}

/// Something that was done, for time lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// CLOCK_MONOTONIC when it was done, in nanoseconds.
    pub monotonic_ns: u64,
    /// What was done.
    pub what: String,
    /// The inode number of the lab's network namespace.
    pub netns: u32,
    /// The port of the server that it was done to; `None` if it concerns all.
    pub port: Option<u16>,
}

impl State {
    /// How many of the expectations hold so far.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.expected.iter().filter(|expected| expected.holds == Some(true)).count()
    }
}

/// What the clients of a load got so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// The load's name.
    pub name: String,
    /// The port that it connects to.
    pub port: u16,
    /// Connections that were due.
    pub due: u64,
    /// Those that got all their answers.
    pub served: u64,
    /// Answers, or messages that were brought.
    #[serde(default)]
    pub answers: u64,
    /// Milliseconds from the intended start until the first answer, half of them at most.
    pub p50_ms: Option<f64>,
    /// 99 of 100 at most.
    pub p99_ms: Option<f64>,
    /// Connects whose SYN was sent again: the first time after 1 s.
    pub syn_again: u64,
    /// Those of them whose SYN was sent again twice or more: after 2 s, before Linux 6.5 after 3 s.
    pub syn_twice: u64,
    /// Kinds of failures, with their numbers.
    pub failed: Vec<(String, u64)>,
    /// The last half minute, in half seconds, the latest last.
    pub ticks: Vec<Tick>,
}

/// One moment of a load and of its server's queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// CLOCK_MONOTONIC of the moment, in nanoseconds.
    #[serde(default)]
    pub monotonic_ns: u64,
    /// Answers since the last one.
    pub answers: u64,
    /// Milliseconds that half of these took at most, each from when it was meant to be asked for; `None`: nothing was
    /// answered.
    #[serde(default)]
    pub p50_ms: Option<f64>,
    /// 99 of 100 at most.
    #[serde(default)]
    pub p99_ms: Option<f64>,
    /// Connects since the last one whose SYN was sent again for the first time.
    #[serde(default)]
    pub syn_again: u64,
    /// And for the second time.
    #[serde(default)]
    pub syn_twice: u64,
    /// Kinds of failures since the last one, with their numbers.
    #[serde(default)]
    pub failed: Vec<(String, u64)>,
    /// Retries and failures since the last one.
    pub trouble: u64,
    /// Depth of the accept queue now.
    pub depth: u64,
}

/// An expectation and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// What is expected.
    pub what: String,
    /// Its bounds, in words.
    pub bounds: String,
    /// The value so far with its unit; `None` if it is not known yet.
    pub value: Option<String>,
    /// Whether it is within its bounds; `None` if it is not known yet.
    pub holds: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_written_as_documented() {
        for (message, written) in [
            (
                ToLab::Hello { version: 1, role: Role::Server, name: "a".to_owned() },
                json!({"type": "hello", "version": 1, "role": "server", "name": "a"}),
            ),
            (ToLab::Act(Act::Stall { server: None }), json!({"type": "act", "act": "stall"})),
            (
                ToLab::Act(Act::Backlog { server: Some("7001".to_owned()), backlog: 64 }),
                json!({"type": "act", "act": "backlog", "server": "7001", "backlog": 64}),
            ),
            (ToLab::Act(Act::NextStep), json!({"type": "act", "act": "next_step"})),
            (ToLab::Done { number: 3, error: None }, json!({"type": "done", "number": 3, "error": null})),
        ] {
            assert_eq!(serde_json::to_value(&message).unwrap(), written);
            assert_eq!(serde_json::from_value::<ToLab>(written).unwrap(), message);
        }
        let order = FromLab::Order { number: 7, order: Order::Rate { percent: 50 } };
        let written = json!({"type": "order", "number": 7, "order": "rate", "percent": 50});
        assert_eq!(serde_json::to_value(&order).unwrap(), written);
        assert_eq!(serde_json::from_value::<FromLab>(written).unwrap(), order);
    }

    #[test]
    fn what_is_unknown_is_refused_by_the_parser() {
        for bad in [r#"{"type":"act","act":"explode"}"#, r#"{"type":"shout"}"#, "{}", "[]", "stall"] {
            assert!(serde_json::from_str::<ToLab>(bad).is_err(), "{bad}");
        }
    }
}
