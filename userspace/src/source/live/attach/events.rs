//! What happens in the kernel, and how it is seen: for each event its methods, the best first, and for each method its
//! hooks.
//!
//! This declaration is the only one. Attaching, coverage, the doctor and the tests are derived from it: which measures
//! each hook brings, and what is missing without it.
//!
//! Functions come first where they show more (the moment a connection leaves the queue, each refused SYN). For reads,
//! writes and arrivals tracepoints show the same, and also sockets with functions of their own (kTLS, MPTCP). So
//! tracepoints come first there.

use std::fmt;

use listentop_model::coverage::Measure;

use Measure::{
    AcceptQueuePeak, AcceptWait, Accepts, CookiesSent, DropCause, DropClients, Drops, Enqueued, FirstByte, FirstRead,
    Handshake, OpenConnections, QueuedBytes, Reads, Residency, SynQueueDepth, SynRequests, SynackRetransmits,
    WouldBlock, Writes,
};

use Target::{Entry, Exit, Syscall, Tracepoint};

/// Where a program attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A BTF tracepoint with at least this many arguments.
    Tracepoint(&'static str, u32),
    /// A classic tracepoint of the category `syscalls`.
    Syscall(&'static str),
    /// The beginning of a function.
    Entry(&'static str),
    /// The end of a function.
    Exit(&'static str),
}

impl Target {
    /// Whether it is a function.
    #[must_use]
    pub fn is_function(self) -> bool {
        matches!(self, Entry(_) | Exit(_))
    }
}

/// The name that every list shows, and that the option `--refuse` of the tests takes.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tracepoint(name, _) => write!(f, "tp_btf/{name}"),
            Syscall(name) => write!(f, "tracepoint/syscalls/{name}"),
            Entry(name) => write!(f, "fentry/{name}"),
            Exit(name) => write!(f, "fexit/{name}"),
        }
    }
}

/// What measures lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Which measures.
    pub measures: &'static [Measure],
    /// What they lack, as a sentence.
    pub without: &'static str,
}

/// Whether a method works without a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// The method does not work without it.
    Required,
    /// As `Required`. A kernel that does not have the target works without it.
    IfPresent,
    /// The method works without it, with this loss. A kernel that does not have the target loses nothing.
    Optional(Loss),
}

/// One program on one hook.
#[derive(Debug)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Where it goes.
    pub target: Target,
    /// Whether the method works without it.
    pub requirement: Requirement,
    /// The measures that it brings; `None`: all that the event carries.
    pub brings: Option<&'static [Measure]>,
}

impl Hook {
    /// It brings only these measures.
    const fn brings(self, measures: &'static [Measure]) -> Self {
        Self { brings: Some(measures), ..self }
    }

    /// Whether it brings a measure.
    #[must_use]
    pub fn has(&self, measure: Measure) -> bool {
        self.brings.is_none_or(|measures| measures.contains(&measure))
    }

    /// What is missing without it; `None` where the method does not work without it.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        match self.requirement {
            Requirement::Optional(loss) => Some(loss),
            Requirement::Required | Requirement::IfPresent => None,
        }
    }
}

const fn hook(program: &'static str, target: Target) -> Hook {
    Hook { program, target, requirement: Requirement::Required, brings: None }
}

const fn if_present(program: &'static str, target: Target) -> Hook {
    Hook { program, target, requirement: Requirement::IfPresent, brings: None }
}

/// A hook that brings what is missing without it.
const fn optional(program: &'static str, target: Target, measures: &'static [Measure], without: &'static str) -> Hook {
    let requirement = Requirement::Optional(Loss { measures, without });
    Hook { program, target, requirement, brings: Some(measures) }
}

/// The functions of accept4(2) and accept(2). They are called through a table, so no compiler merges them into their
/// callers. Only io_uring accepts without them.
#[cfg(target_arch = "aarch64")]
const ACCEPT_CALLS: (Target, Target) = (Exit("__arm64_sys_accept4"), Exit("__arm64_sys_accept"));
#[cfg(not(target_arch = "aarch64"))]
const ACCEPT_CALLS: (Target, Target) = (Exit("__x64_sys_accept4"), Exit("__x64_sys_accept"));

/// The tracepoint of io_uring's completions.
pub(crate) const URING_COMPLETE: &str = "io_uring_complete";
const URING: Target = Tracepoint(URING_COMPLETE, 3);

/// A kind of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// fentry and fexit programs, on functions.
    Fentry,
    /// Programs on tracepoints.
    Tracepoint,
}

impl Kind {
    /// As the option `--probes` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fentry => "fentry",
            Kind::Tracepoint => "tracepoint",
        }
    }
}

/// A set of hooks that together bring an event.
#[derive(Debug)]
pub struct Method {
    /// Which kind of probes it counts as; `None`: either, for tracepoints that no function could better.
    pub kind: Option<Kind>,
    /// The hooks, in the order of attaching.
    pub hooks: &'static [Hook],
    /// Another event that these hooks bring too.
    pub also: Option<Event>,
    /// What measures lack that this method brings.
    pub limits: &'static [Loss],
    /// Hooks of other events that this method relies on, and what is missing without them.
    pub relies_on: &'static [(Target, Loss)],
    /// Parts of measures that this method does not bring.
    pub lacks: &'static [Part],
}

impl Method {
    const fn of(kind: Option<Kind>, hooks: &'static [Hook]) -> Self {
        Self { kind, hooks, also: None, limits: &[], relies_on: &[], lacks: &[] }
    }

    /// It brings this event too.
    const fn also(self, event: Event) -> Self {
        Self { also: Some(event), ..self }
    }

    /// These measures lack something by this method.
    const fn limited(self, limits: &'static [Loss]) -> Self {
        Self { limits, ..self }
    }

    /// It does not bring these parts of measures.
    const fn lacks(self, parts: &'static [Part]) -> Self {
        Self { lacks: parts, ..self }
    }

    /// It relies on hooks of other events.
    const fn relies_on(self, hooks: &'static [(Target, Loss)]) -> Self {
        Self { relies_on: hooks, ..self }
    }

    /// Whether it may be tried where probes of one kind are wanted, or of any (`None`).
    #[must_use]
    pub fn is_allowed(&self, wanted: Option<Kind>) -> bool {
        wanted.is_none() || self.kind.is_none() || self.kind == wanted
    }
}

/// A method by functions.
const fn functions(hooks: &'static [Hook]) -> Method {
    Method::of(Some(Kind::Fentry), hooks)
}

/// A method by tracepoints.
const fn tracepoints(hooks: &'static [Hook]) -> Method {
    Method::of(Some(Kind::Tracepoint), hooks)
}

/// A method by tracepoints that no function could better.
const fn either(hooks: &'static [Hook]) -> Method {
    Method::of(None, hooks)
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A socket is destroyed.
    Destroyed,
    /// A thread read.
    Read,
    /// A thread read by splice(2).
    Spliced,
    /// A thread wrote.
    Written,
    /// A SYN-ACK was sent again.
    SynackRetransmitted,
    /// A final ACK was refused.
    AckRefused,
    /// A SYN made a request, was answered with a cookie, or was refused.
    Syn,
    /// A valid cookie came back.
    CookieValidated,
    /// A request left the SYN queue without a connection.
    RequestGivenUp,
    /// A thread accepted, or found nothing.
    Accepted,
    /// Payload arrived.
    Arrived,
    /// A listener opened or closed; a connection was put on its accept queue.
    Enqueued,
}

impl Event {
    /// A word or two for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Event::Destroyed => "connection ends",
            Event::Read => "read",
            Event::Spliced => "read by splice",
            Event::Written => "write",
            Event::SynackRetransmitted => "SYN-ACK sent again",
            Event::AckRefused => "final ACK refused",
            Event::Syn => "SYN",
            Event::CookieValidated => "cookie came back",
            Event::RequestGivenUp => "request given up",
            Event::Accepted => "accept",
            Event::Arrived => "payload arrives",
            Event::Enqueued => "connection enqueued",
        }
    }
}

/// A figure whose measure may be there without it. It is unknown then, not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Accepts that fail, of [`Measure::Accepts`].
    FailedAccepts,
    /// Cookies that come back, of [`Measure::CookiesSent`].
    CookiesValidated,
    /// Requests that are given up, of [`Measure::SynRequests`].
    RequestsGivenUp,
}

/// An event and the methods to see it.
#[derive(Debug)]
pub struct Definition {
    /// Which event.
    pub event: Event,
    /// Measures that are unavailable without it.
    pub carries: &'static [Measure],
    /// Measures that lack something without it. Where one is carried too, this says why nothing else brings it.
    pub without: &'static [Loss],
    /// Parts of measures that it brings.
    pub parts: &'static [Part],
    /// Whether the start fails without it, because nothing else makes sense then.
    pub essential: bool,
    /// The best first.
    pub methods: &'static [Method],
}

impl Definition {
    /// An event that carries these measures.
    const fn of(event: Event, carries: &'static [Measure], methods: &'static [Method]) -> Self {
        Self { event, carries, without: &[], parts: &[], essential: false, methods }
    }

    /// The start fails without it.
    const fn essential(self) -> Self {
        Self { essential: true, ..self }
    }

    /// Measures that lack something without it.
    const fn without(self, losses: &'static [Loss]) -> Self {
        Self { without: losses, ..self }
    }

    /// It brings these parts of measures.
    const fn with_parts(self, parts: &'static [Part]) -> Self {
        Self { parts, ..self }
    }
}

/// Every hook of every method of every event.
pub fn all_hooks() -> impl Iterator<Item = &'static Hook> {
    EVENTS.iter().flat_map(|event| event.methods).flat_map(|method| method.hooks)
}

const fn loss(measures: &'static [Measure], without: &'static str) -> Loss {
    Loss { measures, without }
}

/// What a method lacks that reports a failed accept from the listener's side.
const BY_LISTENER: Loss = loss(
    &[WouldBlock],
    "accepts that time out are not counted on this kernel; io_uring polls of a non-blocking listener are",
);

/// What a method lacks that recognises a refused final ACK by the packet and the depth.
const BY_PACKET: Loss = loss(
    &[Drops, DropCause],
    "refused final ACKs are recognised by packet and queue depth: this kernel cannot trace tcp_v4_syn_recv_sock",
);

/// io_uring's completions, where a function shows its accepts.
const URING_FAILED: Hook =
    optional("uring_complete", URING, &[WouldBlock], "would-block and failed accepts through io_uring are not counted");

/// io_uring's completions, where nothing else shows its accepts.
const URING_ACCEPTS: Hook = optional(
    "uring_complete",
    URING,
    &[Accepts, AcceptWait, WouldBlock, OpenConnections, FirstByte, FirstRead],
    "accepts through io_uring are not counted until the connection is read or written",
);

/// What the end of inet_csk_accept brings. That an accept failed it shows less well.
const ACCEPTED: &[Measure] = &[Accepts, AcceptWait, OpenConnections, FirstByte, FirstRead];

/// In the order of attaching. What ends a connection's record comes before what makes one, so that no record is left
/// behind.
pub const EVENTS: &[Definition] = &[
    Definition::of(
        Event::Destroyed,
        &[OpenConnections],
        &[either(&[hook("destroy", Tracepoint("tcp_destroy_sock", 1))])],
    )
    .essential(),
    Definition::of(
        Event::Read,
        &[Reads, Residency, FirstRead, FirstByte, QueuedBytes],
        &[
            tracepoints(&[hook("recv_length", Tracepoint("sock_recv_length", 3))]),
            functions(&[hook("receive", Exit("tcp_recvmsg")), if_present("mptcp_receive", Exit("mptcp_recvmsg"))]),
        ],
    ),
    Definition::of(
        Event::Spliced,
        &[],
        &[
            functions(&[hook("splice_read", Exit("tcp_splice_read"))]),
            tracepoints(&[hook("exit_splice", Syscall("sys_exit_splice"))]).relies_on(&[(
                URING,
                loss(&[Reads, Residency, FirstRead], "reads by splice through io_uring are not counted"),
            )]),
        ],
    )
    .without(&[loss(&[Reads, Residency, FirstRead], "reads by splice(2) are not counted")]),
    Definition::of(
        Event::Written,
        &[Writes],
        &[
            // Up to 6.4 sendfile passes a function of its own, and the tracepoint misses it.
            tracepoints(&[
                hook("send_length", Tracepoint("sock_send_length", 3)),
                optional("send_page", Exit("tcp_sendpage"), &[Writes], "writes by sendfile(2) are not counted"),
            ]),
            functions(&[
                hook("send", Exit("tcp_sendmsg")),
                if_present("send_page", Exit("tcp_sendpage")),
                if_present("mptcp_send", Exit("mptcp_sendmsg")),
            ]),
        ],
    ),
    Definition::of(
        Event::SynackRetransmitted,
        &[SynackRetransmits],
        &[either(&[hook("retransmit_synack", Tracepoint("tcp_retransmit_synack", 2))])],
    ),
    Definition::of(
        Event::AckRefused,
        &[Drops, DropCause, DropClients],
        &[
            functions(&[
                hook("check", Exit("tcp_check_req")),
                if_present("child_v6", Exit("tcp_v6_syn_recv_sock")),
                hook("child_v4", Exit("tcp_v4_syn_recv_sock")),
            ]),
            functions(&[
                hook("check_by_packet", Exit("tcp_check_req")),
                hook("cookie_child", Exit("tcp_get_cookie_sock")),
            ])
            .limited(&[BY_PACKET]),
            tracepoints(&[hook("kfree_skb", Tracepoint("kfree_skb", 4))]),
        ],
    ),
    Definition::of(
        Event::Syn,
        &[SynRequests, CookiesSent],
        &[functions(&[
            // A SYN counts as refused if nothing else was seen of it, so all that may be seen must be.
            if_present("cookie_v6", Entry("cookie_v6_init_sequence")).brings(&[CookiesSent]),
            hook("cookie_v4", Entry("cookie_v4_init_sequence")).brings(&[CookiesSent]),
            hook("request", Exit("inet_csk_reqsk_queue_hash_add")).brings(&[SynRequests, SynQueueDepth]),
            // Where a compiler has merged it into its caller, the depths show the same.
            optional(
                "flood",
                Exit("tcp_syn_flood_action"),
                &[DropCause],
                "why a SYN was refused is inferred from queue depths",
            ),
            hook("syn_ends", Exit("tcp_conn_request")).brings(&[DropCause, DropClients]),
            hook("syn_begins", Entry("tcp_conn_request")).brings(&[]),
        ])],
    )
    .without(&[
        loss(&[SynRequests], "no tracepoint fires when a request is made"),
        loss(&[CookiesSent], "counted per namespace only (SyncookiesSent)"),
        loss(&[SynQueueDepth], "read at each refresh and enqueue; a peak in between is missed"),
        loss(
            &[DropCause],
            "no tracepoint fires for a refused SYN: its cause is inferred from counters, exactly where one listener drops at a time",
        ),
        loss(&[DropClients], "refused final ACKs only: no tracepoint shows a refused SYN"),
    ]),
    Definition::of(
        Event::CookieValidated,
        &[],
        &[functions(&[hook("cookie_back", Entry("tcp_get_cookie_sock")).brings(&[CookiesSent])])],
    )
    .without(&[loss(&[CookiesSent], "cookies that come back are not counted")])
    .with_parts(&[Part::CookiesValidated]),
    Definition::of(
        Event::RequestGivenUp,
        &[],
        &[functions(&[hook("request_drop", Exit("inet_csk_reqsk_queue_drop")).brings(&[SynRequests])])],
    )
    .without(&[loss(&[SynRequests], "requests that are given up are not counted")])
    .with_parts(&[Part::RequestsGivenUp]),
    Definition::of(
        Event::Accepted,
        &[Accepts, AcceptWait, WouldBlock, OpenConnections, FirstByte, FirstRead],
        &[
            // A failed accept is seen at the end of the call, and where io_uring completes it. A tracepoint of the call
            // slows all calls down, so it comes second.
            functions(&[
                hook("accept4_ends", ACCEPT_CALLS.0).brings(&[WouldBlock]),
                hook("accept_ends", ACCEPT_CALLS.1).brings(&[WouldBlock]),
                URING_FAILED,
                hook("accept", Exit("inet_csk_accept")).brings(ACCEPTED),
            ]),
            functions(&[
                hook("exit_accept_in_vain", Syscall("sys_exit_accept4")).brings(&[WouldBlock]),
                hook("exit_accept_in_vain", Syscall("sys_exit_accept")).brings(&[WouldBlock]),
                URING_FAILED,
                hook("accept", Exit("inet_csk_accept")).brings(ACCEPTED),
            ]),
            functions(&[hook("accept_by_listener", Exit("inet_csk_accept"))])
                .limited(&[BY_LISTENER])
                .lacks(&[Part::FailedAccepts]),
            tracepoints(&[
                URING_ACCEPTS,
                hook("exit_accept", Syscall("sys_exit_accept4")),
                hook("exit_accept", Syscall("sys_exit_accept")),
            ]),
        ],
    )
    .with_parts(&[Part::FailedAccepts]),
    Definition::of(
        Event::Arrived,
        &[Residency, FirstByte, QueuedBytes],
        &[
            tracepoints(&[hook("data_ready_of_connections", Tracepoint("sk_data_ready", 1))]),
            functions(&[hook("readable", Entry("sock_def_readable"))]),
        ],
    ),
    Definition::of(
        Event::Enqueued,
        &[AcceptQueuePeak, Enqueued, AcceptWait, Handshake, Residency, FirstByte, QueuedBytes],
        &[
            functions(&[
                hook("listen_stops", Entry("inet_csk_listen_stop")).brings(&[]),
                hook("listen_starts", Exit("inet_csk_listen_start")).brings(&[]),
                if_present("migrate", Exit("reuseport_migrate_sock")),
                hook("queue_add", Entry("inet_csk_reqsk_queue_add")),
                hook("complete_ends", Exit("inet_csk_complete_hashdance")),
                hook("complete_begins", Entry("inet_csk_complete_hashdance")),
            ]),
            // Where the functions that open and close listeners cannot be traced.
            functions(&[
                hook("state_of_listeners", Tracepoint("inet_sock_set_state", 3)).brings(&[]),
                if_present("migrate", Exit("reuseport_migrate_sock")),
                hook("queue_add", Entry("inet_csk_reqsk_queue_add")),
                hook("complete_ends", Exit("inet_csk_complete_hashdance")),
                hook("complete_begins", Entry("inet_csk_complete_hashdance")),
            ]),
            tracepoints(&[
                hook("state", Tracepoint("inet_sock_set_state", 3)).brings(&[]),
                hook("data_ready", Tracepoint("sk_data_ready", 1)),
            ])
            .limited(&[loss(&[Handshake], "left out: handshakes whose SYN-ACK was sent again or was a cookie")])
            .also(Event::Arrived),
        ],
    )
    .essential(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_that_is_lost_with_an_event_is_brought_by_each_method() {
        for definition in EVENTS {
            for method in definition.methods {
                let brought = |measure| method.hooks.iter().any(|hook| hook.loss().is_none() && hook.has(measure));
                for measure in definition.carries {
                    assert!(brought(*measure), "{:?}: {measure} by {:?}", definition.event, method.kind);
                }
            }
        }
    }

    #[test]
    fn every_loss_says_what_is_missing() {
        let hooks = all_hooks().filter_map(Hook::loss);
        let methods = || EVENTS.iter().flat_map(|event| event.methods);
        let limits = methods().flat_map(|method| method.limits).copied();
        let relied = methods().flat_map(|method| method.relies_on).map(|(_, loss)| *loss);
        let events = EVENTS.iter().flat_map(|event| event.without).copied();
        for loss in hooks.chain(limits).chain(relied).chain(events) {
            assert!(!loss.measures.is_empty() && !loss.without.is_empty(), "{loss:?}");
        }
        for definition in EVENTS {
            let lost = definition.carries.len() + definition.without.len();
            assert!(lost > 0 || definition.essential, "nothing is lost without {:?}", definition.event);
        }
    }
}
