//! BTF tracepoints that pass the socket. They fire for every socket of every namespace, so each returns at once if it
//! is not a listener or one of its connections.

use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use listentop_abi::{listener::ListenerRef, loss::Loss};

use crate::{
    config, connections,
    context::{Arguments as _, programs},
    events::{arrived, destroyed, enqueued, listening, read, refused, written},
    kernel::{Child, LISTEN, LiveSocket, LiveTcp, MaybeGone, SYN_RECV},
    maps::{self, INFO, listener_at},
    record, stats,
    values::{Lookup as _, field},
};

/// `MSG_PEEK`: the bytes stay in the queue.
pub(super) const MSG_PEEK: i32 = 2;
/// `MSG_ERRQUEUE`: what is returned was never in the queue.
pub(super) const MSG_ERRQUEUE: i32 = 0x2000;

programs! {
    btf_tracepoint("inet_sock_set_state") state(BtfTracePointContext);
    btf_tracepoint("inet_sock_set_state") state_of_listeners(BtfTracePointContext);
    btf_tracepoint("sk_data_ready") data_ready(BtfTracePointContext);
    btf_tracepoint("sk_data_ready") data_ready_of_connections(BtfTracePointContext);
    btf_tracepoint("sock_recv_length") recv_length(BtfTracePointContext);
    btf_tracepoint("sock_send_length") send_length(BtfTracePointContext);
    btf_tracepoint("tcp_destroy_sock") destroy(BtfTracePointContext);
    btf_tracepoint("tcp_retransmit_synack") retransmit_synack(BtfTracePointContext);
}

/// inet_sock_set_state(sk, old, new): listeners open and close; a child is cloned.
#[inline(always)]
fn state(ctx: &BtfTracePointContext) {
    state_changes::<true>(ctx);
}

/// The same where functions show the children, but those that open and close listeners cannot be traced.
#[inline(always)]
fn state_of_listeners(ctx: &BtfTracePointContext) {
    state_changes::<false>(ctx);
}

/// `CHILDREN` is a parameter of the type, not of the call: so each program has its own log closure, which the compiler
/// inlines. A closure that two programs share would be a function in `.text`.
#[inline(always)]
fn state_changes<const CHILDREN: bool>(ctx: &BtfTracePointContext) {
    let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    if old != LISTEN && new != LISTEN {
        return;
    }
    let sock = ctx.socket(0);
    if new == SYN_RECV {
        // The clone of the listener, not yet a socket of its own in any table.
        if CHILDREN && let Some(completing) = maps::completing() {
            field!(completing.child).set(sock.key());
        }
        return;
    }
    if !sock.is_tcp() {
        return;
    }
    if new == LISTEN {
        opens(sock);
        if config::debug() {
            debug!(ctx, "listening: {}", sock.address().cookie());
        }
    } else {
        closes(sock);
        if config::debug() {
            debug!(ctx, "listens no more: {}", sock.address().cookie());
        }
    }
}

/// A TCP socket begins to listen.
#[inline(always)]
pub(crate) fn opens(sock: LiveSocket) {
    match listening::begin(sock, stats::now()) {
        Some(listener) => listening::called(sock, listener),
        None => stats::lost(Loss::Listeners),
    }
}

/// It stops, or its start fails.
#[inline(always)]
pub(crate) fn closes(sock: LiveSocket) {
    listening::end(sock);
}

/// sk_data_ready(sk): on a listener, a connection was enqueued; on a connection, payload arrived.
#[inline(always)]
fn data_ready(ctx: &BtfTracePointContext) {
    let sock = ctx.socket(0);
    if sock.state() != LISTEN {
        if config::arrivals() {
            readable(sock);
        }
        return;
    }
    let Some(listener) = listener(sock) else { return };
    let Some(tcp) = sock.tcp() else { return };
    let mut child = 0;
    if let Some(completing) = maps::completing() {
        child = field!(completing.child).get();
        field!(completing.child).set(0);
    }
    if child == 0 {
        child = newest_child(sock);
    }
    let child = if child == 0 { None } else { Some(Child::of(child, tcp)) };
    enqueued::enqueued(listener, child, sock.accept_depth(), tcp.qlen());
}

/// The same where another hook shows what is enqueued.
#[inline(always)]
fn data_ready_of_connections(ctx: &BtfTracePointContext) {
    let sock = ctx.socket(0);
    if sock.state() != LISTEN {
        readable(sock);
    }
}

/// Payload arrived for a socket, if it is a connection.
#[inline(always)]
pub(crate) fn readable(sock: LiveSocket) {
    let Some(connection) = connections::find_for_arrival(sock.key()) else { return };
    // A record of another connection ends when a process uses the socket.
    if field!(connection.identity_kept).get() == sock.identity()
        && let Some(tcp) = sock.tcp()
    {
        arrived::arrived(connection, tcp);
    }
}

/// sock_recv_length(sk, ret, flags): a receive call returned.
#[inline(always)]
fn recv_length(ctx: &BtfTracePointContext) {
    received(ctx.socket(0), ctx.arg(1), ctx.arg(2));
}

/// A receive call on a socket returned `result`.
#[inline(always)]
pub(crate) fn received(sock: LiveSocket, result: i32, flags: i32) {
    if result <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    if let Some(connection) = record::find(sock.key(), || Some(sock.identity())) {
        if let Some(tcp) = sock.tcp() {
            let reader_at = |expected| tcp.reader_at(expected);
            read::read(connection, sock.key(), result as u32, reader_at, tcp.taken_ns());
        }
    } else if sock.is_mptcp() {
        let subflow = sock.address().first_subflow();
        if let Some(connection) = record::of(subflow) {
            read::read_multipath(connection, subflow.0, result as u32);
        }
    }
}

/// sock_send_length(sk, ret, flags): a send call returned.
#[inline(always)]
fn send_length(ctx: &BtfTracePointContext) {
    sent(ctx.socket(0), ctx.arg(1));
}

/// A send call on a socket returned `result`.
#[inline(always)]
pub(crate) fn sent(sock: LiveSocket, result: i32) {
    if result <= 0 {
        return;
    }
    if let Some(connection) = record::find(sock.key(), || Some(sock.identity())) {
        let sent_ns = || sock.tcp().and_then(LiveTcp::sent_ns).unwrap_or_else(stats::now);
        written::written(connection, sock.key(), result as u32, sent_ns);
    } else if sock.is_mptcp() {
        let subflow = sock.address().first_subflow();
        if let Some(connection) = record::of(subflow) {
            written::written(connection, subflow.0, result as u32, stats::now);
        }
    }
}

/// tcp_destroy_sock(sk).
#[inline(always)]
fn destroy(ctx: &BtfTracePointContext) {
    destroyed::destroyed(ctx.socket(0));
}

/// tcp_retransmit_synack(sk, req).
#[inline(always)]
fn retransmit_synack(ctx: &BtfTracePointContext) {
    let sock = ctx.socket(0);
    let Some(listener) = listener_at(sock.key()) else { return };
    if let Some(tcp) = sock.tcp() {
        refused::synack_retransmitted(listener, sock.accept_depth(), tcp.qlen());
    }
}

/// The listener's records. The kernel skips a program that interrupts itself. If it skipped the one for the opening of
/// this listener, the listener is tracked from here on.
#[inline(always)]
pub(crate) fn listener(sock: LiveSocket) -> Option<ListenerRef> {
    let completing = maps::completing()?;
    let last = field!(completing.listener).get();
    // Where this program may be preempted, key and place may be of two listeners.
    if config::exclusive()
        && field!(completing.listener_key).get() == sock.key()
        && let Some(info) = INFO.value(last.slot)
        && field!(info.generation).get() == last.generation
        && field!(info.closed_ns).get() == 0
    {
        return Some(last);
    }
    if let Some(listener) = listener_at(sock.key()) {
        field!(completing.listener).set(listener);
        field!(completing.listener_key).set(sock.key());
        return Some(listener);
    }
    if !sock.is_tcp() {
        return None;
    }
    // If the table is full, that was counted when the listener opened.
    let listener = listening::begin(sock, stats::now())?;
    let info = INFO.value(listener.slot)?;
    field!(info.noticed).set(1);
    Some(listener)
}

/// The records of the listener that a process uses through this socket; `None` if it is no listener.
#[inline(always)]
pub(crate) fn listener_behind(socket: MaybeGone) -> Option<ListenerRef> {
    let listener = listener_at(socket.0);
    if listener.is_none() && socket.is_mptcp() { listener_at(socket.first_subflow().0) } else { listener }
}

/// The last connection on the accept queue, for when no program saw the clone (the kernel skipped it). Another CPU may
/// have enqueued one since; if it has counted that one, this does not take it again.
#[inline(always)]
fn newest_child(sock: LiveSocket) -> u64 {
    let child = sock.address().accept_tail().child();
    if child.0 != 0 && record::of(child).is_none() { child.0 } else { 0 }
}
