//! BTF tracepoints that pass the socket. They fire for every socket of every namespace, so each leaves at once for what
//! is not a listener or one of its connections.

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;

use listentop_abi::{listener::ListenerRef, loss::Loss};

use crate::{
    config, connections,
    events::{arrived, destroyed, enqueued, listening, read, refused, written},
    kernel::{Child, LISTEN, RawSock, SYN_RECV, Sock},
    maps::{COMPLETING, INFO, LISTENERS},
    stats,
};

/// `MSG_PEEK`: the bytes stay in the queue.
const MSG_PEEK: i32 = 2;
/// `MSG_ERRQUEUE`: what is returned was never in the queue.
const MSG_ERRQUEUE: i32 = 0x2000;

/// inet_sock_set_state(sk, old, new): listeners open and close; a child is cloned.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state(ctx: BtfTracePointContext) -> i32 {
    state_changes(&ctx, true)
}

/// The same where children are told by functions, and those that open and close listeners cannot be traced.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn state_of_listeners(ctx: BtfTracePointContext) -> i32 {
    state_changes(&ctx, false)
}

#[inline(always)]
fn state_changes(ctx: &BtfTracePointContext, children: bool) -> i32 {
    if config::empty() {
        return 0;
    }
    let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    if old != LISTEN && new != LISTEN {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    if new == SYN_RECV {
        // The clone of the listener, not yet a socket of its own in any table.
        if children && let Some(completing) = COMPLETING.get_ptr_mut(0) {
            unsafe { (*completing).child = sock.key() };
        }
        return 0;
    }
    if !sock.is_tcp() {
        return 0;
    }
    if new == LISTEN {
        opens(ctx, sock);
    } else {
        closes(ctx, sock);
    }
    0
}

/// A TCP socket begins to listen.
#[inline(always)]
pub(crate) fn opens(ctx: &impl EbpfContext, sock: Sock) {
    if listening::begin(sock, stats::now()).is_none() {
        stats::lost(Loss::Listeners);
    }
    if config::debug() {
        debug!(ctx, "listening: {:x}", sock.key());
    }
}

/// It stops, or what it began fails.
#[inline(always)]
pub(crate) fn closes(ctx: &impl EbpfContext, sock: Sock) {
    listening::end(sock);
    if config::debug() {
        debug!(ctx, "listens no more: {:x}", sock.key());
    }
}

/// sk_data_ready(sk): on a listener, a connection was enqueued; on a connection, payload arrived.
#[btf_tracepoint(function = "sk_data_ready")]
pub(crate) fn data_ready(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    if sock.state() != LISTEN {
        readable(sock);
        return 0;
    }
    let Some(listener) = listener(sock) else { return 0 };
    let Some(tcp) = sock.tcp() else { return 0 };
    let mut child = 0;
    if let Some(completing) = COMPLETING.get_ptr_mut(0) {
        unsafe {
            child = (*completing).child;
            (*completing).child = 0;
        }
    }
    if child == 0 {
        child = newest_child(sock);
    }
    let child = if child == 0 { None } else { Some(Child::of(child, tcp)) };
    enqueued::enqueued(listener, child, sock.accept_depth(), tcp.qlen());
    0
}

/// The same where what is enqueued is seen in another way.
#[btf_tracepoint(function = "sk_data_ready")]
pub(crate) fn data_ready_of_connections(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    if sock.state() != LISTEN {
        readable(sock);
    }
    0
}

/// Payload arrived for a socket, if it is a connection.
#[inline(always)]
pub(crate) fn readable(sock: Sock) {
    let Some(connection) = connections::find_for_arrival(sock.key()) else { return };
    if let Some(tcp) = sock.tcp() {
        arrived::arrived(connection, tcp);
    }
}

/// sock_recv_length(sk, ret, flags): a receive call returned.
#[btf_tracepoint(function = "sock_recv_length")]
pub(crate) fn recv_length(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    received(Sock::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2));
    0
}

/// A receive call on a socket returned `result`.
#[inline(always)]
pub(crate) fn received(sock: Sock, result: i32, flags: i32) {
    if result <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    if let Some(connection) = connections::find(sock.key()) {
        if let Some(tcp) = sock.tcp() {
            read::read(connection, sock.key(), result as u32, tcp.copied_seq(), tcp.taken_ns());
        }
    } else if sock.is_mptcp() {
        let subflow = RawSock(sock.key()).first_subflow();
        if let Some(connection) = connections::find(subflow.0) {
            read::read_multipath(connection, subflow.0, result as u32);
        }
    }
}

/// sock_send_length(sk, ret, flags): a send call returned.
#[btf_tracepoint(function = "sock_send_length")]
pub(crate) fn send_length(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    sent(Sock::new(ctx.arg(0)), ctx.arg(1));
    0
}

/// A send call on a socket returned `result`.
#[inline(always)]
pub(crate) fn sent(sock: Sock, result: i32) {
    if result <= 0 {
        return;
    }
    if let Some(connection) = connections::find(sock.key()) {
        written::written(connection, sock.key(), result as u32);
    } else if sock.is_mptcp() {
        let subflow = RawSock(sock.key()).first_subflow();
        if let Some(connection) = connections::find(subflow.0) {
            written::written(connection, subflow.0, result as u32);
        }
    }
}

/// tcp_destroy_sock(sk).
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn destroy(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    destroyed::destroyed(Sock::new(ctx.arg(0)));
    0
}

/// tcp_retransmit_synack(sk, req).
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub(crate) fn retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    let Some(listener) = LISTENERS.get_ptr(&sock.key()) else { return 0 };
    let listener = unsafe { *listener };
    if let Some(tcp) = sock.tcp() {
        refused::synack_retransmitted(listener, sock.accept_depth(), tcp.qlen());
    }
    0
}

/// The listener's records. The kernel skips a program that interrupts itself, and so may have skipped the one that
/// would have seen it open: then it is tracked from here on.
#[inline(always)]
pub(crate) fn listener(sock: Sock) -> Option<ListenerRef> {
    let completing = COMPLETING.get_ptr_mut(0)?;
    let last = unsafe { (*completing).listener };
    // Where this program may be preempted, key and place may be of two listeners.
    if config::exclusive()
        && unsafe { (*completing).listener_key } == sock.key()
        && let Some(info) = INFO.get_ptr(last.slot)
        && unsafe { (*info).generation == last.generation && (*info).closed_ns == 0 }
    {
        return Some(last);
    }
    if let Some(listener) = LISTENERS.get_ptr(&sock.key()) {
        unsafe {
            (*completing).listener = *listener;
            (*completing).listener_key = sock.key();
            return Some(*listener);
        }
    }
    if !sock.is_tcp() {
        return None;
    }
    // If the table is full that was counted when the listener opened.
    let listener = listening::begin(sock, stats::now())?;
    unsafe { (*INFO.get_ptr_mut(listener.slot)?).noticed = 1 };
    Some(listener)
}

/// The records of the listener that a process has this socket for, if it is one's.
#[inline(always)]
pub(crate) fn listener_behind(socket: RawSock) -> Option<ListenerRef> {
    let listener = LISTENERS.get_ptr(&socket.0);
    let listener =
        if listener.is_none() && socket.is_mptcp() { LISTENERS.get_ptr(&socket.first_subflow().0) } else { listener };
    listener.map(|listener| unsafe { *listener })
}

/// The last connection on the accept queue, for when the clone was not seen (the kernel skipped the program). Another
/// CPU may have enqueued one since; what it has counted is not taken again.
#[inline(always)]
fn newest_child(sock: Sock) -> u64 {
    let child = RawSock(sock.key()).accept_tail().child().0;
    if child != 0 && connections::find(child).is_none() { child } else { 0 }
}
