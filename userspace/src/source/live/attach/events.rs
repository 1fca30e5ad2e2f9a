//! What happens in the kernel, and how it is seen: for each event its methods, the best first, and for each method its
//! hooks.
//!
//! This declaration is the only one. Attaching, coverage, the doctor and the tests are derived from it: which measures
//! each hook brings, and what is missing without it.
//!
//! Functions come first where they show more (the moment a connection leaves the queue, each refused SYN). For reads,
//! writes and arrivals tracepoints show the same, and also sockets with functions of their own (kTLS, MPTCP). So
//! tracepoints come first there.

use listentop_model::coverage::Measure;

pub use super::declaration::{Definition, Event, Hook, Kind, Level, Loss, Method, Part, Requirement, Target};
use super::declaration::{either, functions, hook, if_present, loss, optional, tracepoints};

use Measure::{
    AcceptQueuePeak, AcceptWait, Accepts, Answer, ClientGone, CookiesSent, DropCause, DropClients, Drops, Enqueued,
    FirstByte, FirstRead, Handshake, OldestUnread, OpenConnections, QueuedBytes, Reads, Residency, SynQueueDepth,
    SynRequests, SynackRetransmits, UnreadConnections, WouldBlock, Writes,
};

use Target::{Entry, Exit, Syscall, Tracepoint};
/// The functions of accept4(2) and accept(2). They are called through a table, so no compiler merges them into their
/// callers. Only io_uring accepts without them.
#[cfg(target_arch = "aarch64")]
const ACCEPT_CALLS: (Target, Target) = (Exit("__arm64_sys_accept4"), Exit("__arm64_sys_accept"));
#[cfg(not(target_arch = "aarch64"))]
const ACCEPT_CALLS: (Target, Target) = (Exit("__x64_sys_accept4"), Exit("__x64_sys_accept"));

/// The tracepoint of io_uring's completions.
pub(crate) const URING_COMPLETE: &str = "io_uring_complete";
const URING: Target = Tracepoint(URING_COMPLETE, 3);

/// The function that decides about a SYN when the SYN queue is full.
pub(crate) const FLOOD: Target = Exit("tcp_syn_flood_action");

/// Every hook of every method of every event.
pub fn all_hooks() -> impl Iterator<Item = &'static Hook> {
    EVENTS.iter().flat_map(|event| event.methods).flat_map(|method| method.hooks)
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
    &[Accepts, AcceptWait, WouldBlock, ClientGone, OpenConnections, FirstByte, FirstRead],
    "accepts through io_uring are not counted until the connection is read or written",
);

/// What the end of inet_csk_accept provides. It shows failed accepts less well.
const ACCEPTED: &[Measure] =
    &[Accepts, AcceptWait, ClientGone, OpenConnections, FirstByte, FirstRead, OldestUnread, UnreadConnections];

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
        &[Reads, Residency, FirstRead, FirstByte, QueuedBytes, OldestUnread, UnreadConnections, Answer],
        &[
            tracepoints(&[hook("recv_length", Tracepoint("sock_recv_length", 3))]),
            functions(&[hook("receive", Exit("tcp_recvmsg")), if_present("mptcp_receive", Exit("mptcp_recvmsg"))]),
        ],
    )
    .from(Level::All),
    Definition::of(
        Event::Spliced,
        &[],
        &[
            functions(&[hook("splice_read", Exit("tcp_splice_read"))]),
            tracepoints(&[hook("exit_splice", Syscall("sys_exit_splice"))]).relies_on(&[(
                URING,
                loss(&[Reads, Residency, FirstRead, Answer], "reads by splice through io_uring are not counted"),
            )]),
        ],
    )
    .from(Level::All)
    .without(&[loss(&[Reads, Residency, FirstRead, Answer], "reads by splice(2) are not counted")]),
    Definition::of(
        Event::Written,
        &[Writes, Answer],
        &[
            // Up to 6.4 sendfile uses a separate function, which the tracepoint does not see.
            tracepoints(&[
                hook("send_length", Tracepoint("sock_send_length", 3)),
                optional("send_page", Exit("tcp_sendpage"), &[Writes, Answer], "writes by sendfile(2) are not counted"),
            ]),
            functions(&[
                hook("send", Exit("tcp_sendmsg")),
                if_present("send_page", Exit("tcp_sendpage")),
                if_present("mptcp_send", Exit("mptcp_sendmsg")),
            ]),
        ],
    )
    .from(Level::All),
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
                hook("check_begins", Entry("tcp_check_req")).brings(&[]),
            ]),
            functions(&[
                hook("check_by_packet", Exit("tcp_check_req")),
                hook("cookie_child", Exit("tcp_get_cookie_sock")),
                hook("check_begins", Entry("tcp_check_req")).brings(&[]),
            ])
            .limited(&[BY_PACKET]),
            tracepoints(&[hook("kfree_skb", Tracepoint("kfree_skb", 4))]),
        ],
    ),
    Definition::of(
        Event::Syn,
        &[SynRequests, CookiesSent],
        &[functions(&[
            // A SYN counts as refused if none of these hooks saw it, so all of them are required.
            if_present("cookie_v6", Entry("cookie_v6_init_sequence")).brings(&[CookiesSent]),
            hook("cookie_v4", Entry("cookie_v4_init_sequence")).brings(&[CookiesSent]),
            hook("request", Exit("inet_csk_reqsk_queue_hash_add")).brings(&[SynRequests, SynQueueDepth]),
            // Where a compiler has merged it into its caller, the depths show nearly the same.
            optional(
                "flood",
                FLOOD,
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
        &[functions(&[
            // It moves with its shard's requests where the kernel can do that.
            optional(
                "request_copied",
                Exit("inet_reqsk_clone"),
                &[SynRequests],
                "requests that another shard takes over when their SYN-ACK is sent again are not counted there",
            ),
            // What times out may be taken out of the queue by a function that is part of this one.
            hook("request_expired", Exit("reqsk_timer_handler")).brings(&[SynRequests]),
            hook("request_expires", Entry("reqsk_timer_handler")).brings(&[]),
            hook("request_drop", Exit("inet_csk_reqsk_queue_drop")).brings(&[SynRequests]),
        ])],
    )
    .without(&[loss(&[SynRequests], "requests that are given up are not counted")])
    .with_parts(&[Part::RequestsGivenUp]),
    Definition::of(
        Event::Accepted,
        &[Accepts, AcceptWait, WouldBlock, ClientGone, OpenConnections, FirstByte, FirstRead, OldestUnread, UnreadConnections],
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
                hook("exit_accept_without_connection", Syscall("sys_exit_accept4")).brings(&[WouldBlock]),
                hook("exit_accept_without_connection", Syscall("sys_exit_accept")).brings(&[WouldBlock]),
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
    .from(Level::Accepts)
    // A connection that ends was accepted, or was not.
    .without(&[loss(&[Enqueued], "connections that leave the queue unaccepted are not told from accepted ones")])
    .with_parts(&[Part::FailedAccepts, Part::Aborted]),
    Definition::of(
        Event::Arrived,
        &[Residency, FirstByte, QueuedBytes, OldestUnread, UnreadConnections, Answer],
        &[
            tracepoints(&[hook("data_ready_of_connections", Tracepoint("sk_data_ready", 1))]),
            // A subflow of MPTCP has a function of its own.
            functions(&[
                if_present("subflow_readable", Entry("subflow_data_ready")),
                hook("readable", Entry("sock_def_readable")),
            ]),
        ],
    )
    .from(Level::All),
    Definition::of(
        Event::Enqueued,
        &[
            AcceptQueuePeak,
            Enqueued,
            AcceptWait,
            Handshake,
            Residency,
            FirstByte,
            QueuedBytes,
            OldestUnread, UnreadConnections,
            Answer,
        ],
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
