//! What happens in the kernel, and the ways to see it: for each event the hooks that bring it, the best way first.
//!
//! A way by functions is the better one where it tells more (the moment a connection leaves the queue, each refused
//! SYN). For reads, writes and arrivals the tracepoints tell the same and also see what has its own functions (kTLS,
//! MPTCP), so there they come first.

use listentop_model::coverage::Measure;

use Measure::{
    AcceptQueuePeak, AcceptWait, Accepts, CookiesSent, DropCause, DropClients, Drops, Enqueued, FirstByte, FirstRead,
    Handshake, OpenConnections, QueuedBytes, Reads, Residency, SynRequests, SynackRetransmits, WouldBlock, Writes,
};

use Target::{Entry, Exit, Syscall, Tracepoint};

/// Where a program attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
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
    /// As coverage lists name it.
    pub(super) fn name(self) -> String {
        match self {
            Tracepoint(name, _) => format!("tp_btf/{name}"),
            Syscall(name) => format!("tracepoint/syscalls/{name}"),
            Entry(name) => format!("fentry/{name}"),
            Exit(name) => format!("fexit/{name}"),
        }
    }

    /// Whether it is a function.
    pub(super) fn is_function(self) -> bool {
        matches!(self, Entry(_) | Exit(_))
    }
}

/// Whether a way can do without a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The way does not work without it.
    Always,
    /// As `Always`, but a kernel that does not have the target does not need it either.
    IfPresent,
    /// Without it the way sees a little less.
    Helps,
    /// As `Always`, but what it tells stands beside the event: it is not where the event's measures come from.
    Beside,
}

/// One program on one hook.
#[derive(Debug)]
pub(super) struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Where it goes.
    pub target: Target,
    /// What it is worth.
    pub need: Need,
}

const fn hook(program: &'static str, target: Target) -> Hook {
    Hook { program, target, need: Need::Always }
}

const fn if_present(program: &'static str, target: Target) -> Hook {
    Hook { program, target, need: Need::IfPresent }
}

const fn beside(program: &'static str, target: Target) -> Hook {
    Hook { program, target, need: Need::Beside }
}

const fn helps(program: &'static str, target: Target) -> Hook {
    Hook { program, target, need: Need::Helps }
}

/// The functions of accept4(2) and accept(2). They are called through a table, so no compiler merges them into
/// anything, and there is no way around them but io_uring.
#[cfg(target_arch = "aarch64")]
pub(super) const ACCEPT_CALLS: (Target, Target) = (Exit("__arm64_sys_accept4"), Exit("__arm64_sys_accept"));
#[cfg(not(target_arch = "aarch64"))]
pub(super) const ACCEPT_CALLS: (Target, Target) = (Exit("__x64_sys_accept4"), Exit("__x64_sys_accept"));

/// The tracepoint of io_uring's completions.
pub(super) const URING_COMPLETE: &str = "io_uring_complete";

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
pub(super) struct Way {
    /// Which kind of probes it counts as; `None`: either, for tracepoints that no function could better.
    pub kind: Option<Kind>,
    /// The hooks, in the order of attaching.
    pub hooks: &'static [Hook],
    /// Another event that these hooks bring too.
    pub also: Option<Event>,
    /// Measures that this way brings less well than others, and why.
    pub note: Option<(&'static [Measure], &'static str)>,
}

impl Way {
    const fn of(kind: Option<Kind>, hooks: &'static [Hook]) -> Self {
        Self { kind, hooks, also: None, note: None }
    }

    /// It brings this event too.
    const fn also(self, event: Event) -> Self {
        Self { also: Some(event), ..self }
    }

    /// It brings these measures less well than other ways, and why.
    const fn noted(self, measures: &'static [Measure], reason: &'static str) -> Self {
        Self { note: Some((measures, reason)), ..self }
    }
}

/// A way by functions.
const fn functions(hooks: &'static [Hook]) -> Way {
    Way::of(Some(Kind::Fentry), hooks)
}

/// A way by tracepoints.
const fn tracepoints(hooks: &'static [Hook]) -> Way {
    Way::of(Some(Kind::Tracepoint), hooks)
}

/// A way by tracepoints that no function could better.
const fn either(hooks: &'static [Hook]) -> Way {
    Way::of(None, hooks)
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

/// What is missing where an accept in vain is told by the listener.
const BY_LISTENER: &str = "accepts that waited in vain for a time are not seen on this kernel, and io_uring's looks at a listener that does not block count, too";

/// What is less sure where a refused final ACK is told by the packet and the depth.
const BY_PACKET: &str =
    "that a final ACK was refused is told by the packet and the depth: this kernel cannot trace tcp_v4_syn_recv_sock";

/// An event and the ways to see it.
#[derive(Debug)]
pub(super) struct Definition {
    pub event: Event,
    /// Measures that are lost without it, or told less well.
    pub carries: &'static [Measure],
    /// Without it nothing makes sense, so the start fails.
    pub essential: bool,
    /// The best first.
    pub ways: &'static [Way],
}

/// In the order of attaching: what ends a connection's record before what makes one, so that none is left behind.
pub(super) const EVENTS: &[Definition] = &[
    Definition {
        event: Event::Destroyed,
        carries: &[OpenConnections],
        essential: true,
        ways: &[either(&[hook("destroy", Tracepoint("tcp_destroy_sock", 1))])],
    },
    Definition {
        event: Event::Read,
        carries: &[Reads, Residency, FirstRead, FirstByte, QueuedBytes],
        essential: false,
        ways: &[
            tracepoints(&[hook("recv_length", Tracepoint("sock_recv_length", 3))]),
            functions(&[hook("receive", Exit("tcp_recvmsg")), if_present("mptcp_receive", Exit("mptcp_recvmsg"))]),
        ],
    },
    Definition {
        event: Event::Spliced,
        carries: &[],
        essential: false,
        ways: &[
            functions(&[hook("splice_read", Exit("tcp_splice_read"))]),
            tracepoints(&[hook("exit_splice", Syscall("sys_exit_splice"))]),
        ],
    },
    Definition {
        event: Event::Written,
        carries: &[Writes],
        essential: false,
        ways: &[
            // Up to 6.4, where sendfile passes a function of its own, the tracepoint misses it.
            tracepoints(&[
                hook("send_length", Tracepoint("sock_send_length", 3)),
                helps("send_page", Exit("tcp_sendpage")),
            ]),
            functions(&[
                hook("send", Exit("tcp_sendmsg")),
                if_present("send_page", Exit("tcp_sendpage")),
                if_present("mptcp_send", Exit("mptcp_sendmsg")),
            ]),
        ],
    },
    Definition {
        event: Event::SynackRetransmitted,
        carries: &[SynackRetransmits],
        essential: false,
        ways: &[either(&[hook("retransmit_synack", Tracepoint("tcp_retransmit_synack", 2))])],
    },
    Definition {
        event: Event::AckRefused,
        carries: &[Drops, DropCause, DropClients],
        essential: false,
        ways: &[
            functions(&[
                hook("check", Exit("tcp_check_req")),
                if_present("child_v6", Exit("tcp_v6_syn_recv_sock")),
                hook("child_v4", Exit("tcp_v4_syn_recv_sock")),
            ]),
            functions(&[
                hook("check_by_packet", Exit("tcp_check_req")),
                hook("cookie_child", Exit("tcp_get_cookie_sock")),
            ])
            .noted(&[Drops, DropCause], BY_PACKET),
            tracepoints(&[hook("kfree_skb", Tracepoint("kfree_skb", 4))]),
        ],
    },
    Definition {
        event: Event::Syn,
        carries: &[SynRequests, CookiesSent],
        essential: false,
        ways: &[functions(&[
            // A SYN of which nothing else was seen counts as refused, so all that may be seen must be.
            if_present("cookie_v6", Entry("cookie_v6_init_sequence")),
            hook("cookie_v4", Entry("cookie_v4_init_sequence")),
            hook("request", Exit("inet_csk_reqsk_queue_hash_add")),
            helps("flood", Exit("tcp_syn_flood_action")),
            hook("syn_ends", Exit("tcp_conn_request")),
            hook("syn_begins", Entry("tcp_conn_request")),
        ])],
    },
    Definition {
        event: Event::CookieValidated,
        carries: &[],
        essential: false,
        ways: &[functions(&[hook("cookie_back", Entry("tcp_get_cookie_sock"))])],
    },
    Definition {
        event: Event::RequestGivenUp,
        carries: &[],
        essential: false,
        ways: &[functions(&[hook("request_drop", Exit("inet_csk_reqsk_queue_drop"))])],
    },
    Definition {
        event: Event::Accepted,
        carries: &[Accepts, AcceptWait, WouldBlock, OpenConnections, FirstByte, FirstRead],
        essential: false,
        ways: &[
            // That one brings nothing is seen at the end of the call, and where io_uring completes it; by a tracepoint
            // of the call only where its function cannot be traced, because that slows all calls down.
            functions(&[
                beside("accept4_ends", ACCEPT_CALLS.0),
                beside("accept_ends", ACCEPT_CALLS.1),
                helps("uring_complete", Tracepoint(URING_COMPLETE, 3)),
                hook("accept", Exit("inet_csk_accept")),
            ]),
            functions(&[
                beside("exit_accept_in_vain", Syscall("sys_exit_accept4")),
                beside("exit_accept_in_vain", Syscall("sys_exit_accept")),
                helps("uring_complete", Tracepoint(URING_COMPLETE, 3)),
                hook("accept", Exit("inet_csk_accept")),
            ]),
            functions(&[hook("accept_by_listener", Exit("inet_csk_accept"))]).noted(&[WouldBlock], BY_LISTENER),
            tracepoints(&[
                helps("uring_complete", Tracepoint(URING_COMPLETE, 3)),
                hook("exit_accept", Syscall("sys_exit_accept4")),
                hook("exit_accept", Syscall("sys_exit_accept")),
            ]),
        ],
    },
    Definition {
        event: Event::Arrived,
        carries: &[Residency, FirstByte, QueuedBytes],
        essential: false,
        ways: &[
            tracepoints(&[hook("data_ready_of_connections", Tracepoint("sk_data_ready", 1))]),
            functions(&[hook("readable", Entry("sock_def_readable"))]),
        ],
    },
    Definition {
        event: Event::Enqueued,
        carries: &[AcceptQueuePeak, Enqueued, AcceptWait, Handshake, Residency, FirstByte, QueuedBytes],
        essential: true,
        ways: &[
            functions(&[
                beside("listen_stops", Entry("inet_csk_listen_stop")),
                beside("listen_starts", Exit("inet_csk_listen_start")),
                if_present("migrate", Exit("reuseport_migrate_sock")),
                hook("queue_add", Entry("inet_csk_reqsk_queue_add")),
                hook("complete_ends", Exit("inet_csk_complete_hashdance")),
                hook("complete_begins", Entry("inet_csk_complete_hashdance")),
            ]),
            // Where the functions that open and close listeners cannot be traced.
            functions(&[
                beside("state_of_listeners", Tracepoint("inet_sock_set_state", 3)),
                if_present("migrate", Exit("reuseport_migrate_sock")),
                hook("queue_add", Entry("inet_csk_reqsk_queue_add")),
                hook("complete_ends", Exit("inet_csk_complete_hashdance")),
                hook("complete_begins", Entry("inet_csk_complete_hashdance")),
            ]),
            tracepoints(&[
                beside("state", Tracepoint("inet_sock_set_state", 3)),
                hook("data_ready", Tracepoint("sk_data_ready", 1)),
            ])
            .also(Event::Arrived),
        ],
    },
];

/// Which of an event's ways are tried: all, or those of one kind.
#[must_use]
pub(super) fn allowed(way: &Way, wanted: Option<Kind>) -> bool {
    wanted.is_none() || way.kind.is_none() || way.kind == wanted
}
