//! Functions of the accept queue, of reads and of writes: fentry and fexit programs, for kernels that lack a tracepoint
//! and for what no tracepoint shows.
//!
//! The positions of arguments differ even between kernels of one version, so they come from the running kernel's BTF.

use aya_ebpf::{
    Global,
    programs::{FEntryContext, FExitContext},
};
use aya_log_ebpf::debug;
use listentop_abi::connection::Connection;

use crate::{
    config,
    context::{Arguments as _, argument, programs},
    events::{accepted, enqueued, handshake},
    kernel::{self, LISTEN, LiveTcp, MaybeGone, Request},
    maps::{self, listener_at},
    record, stats,
    values::{MapValue, field},
};

/// Position of what `inet_csk_listen_start` returns: (sk, backlog) up to 5.16, (sk) since.
#[unsafe(no_mangle)]
static LISTEN_RESULT: Global<u32> = Global::new(u32::MAX);
/// Position of what `inet_csk_accept` returns: (sk, flags, err, kern) up to 6.9, (sk, arg) since.
#[unsafe(no_mangle)]
pub(super) static ACCEPT_RESULT: Global<u32> = Global::new(u32::MAX);
/// Positions in `tcp_recvmsg`: (sk, msg, len, nonblock, flags, addr_len) in 5.10, later without nonblock, then without
/// addr_len.
#[unsafe(no_mangle)]
pub(super) static RECEIVE_FLAGS: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
pub(super) static RECEIVE_RESULT: Global<u32> = Global::new(u32::MAX);
/// The same in `mptcp_recvmsg`.
#[unsafe(no_mangle)]
static MPTCP_RECEIVE_FLAGS: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static MPTCP_RECEIVE_RESULT: Global<u32> = Global::new(u32::MAX);

/// In inet_csk_complete_hashdance: the child of the listener's own request.
const QUEUEING: u32 = 1;
/// The child of a request that belonged to another shard, which has closed.
const MOVING: u32 = 2;

programs! {
    fexit("inet_csk_listen_start") listen_starts(FExitContext);
    fentry("inet_csk_listen_stop") listen_stops(FEntryContext);
    fentry("inet_csk_complete_hashdance") complete_begins(FEntryContext);
    fexit("inet_csk_complete_hashdance") complete_ends(FExitContext);
    fentry("inet_csk_reqsk_queue_add") queue_add(FEntryContext);
    fexit("reuseport_migrate_sock") migrate(FExitContext);
    fexit("inet_csk_accept") accept(FExitContext);
    fexit("inet_csk_accept") accept_by_listener(FExitContext);
    fentry("sock_def_readable") readable(FEntryContext);
    fentry("subflow_data_ready") subflow_readable(FEntryContext);
    fexit("tcp_recvmsg") receive(FExitContext);
    fexit("mptcp_recvmsg") mptcp_receive(FExitContext);
    fexit("tcp_splice_read") splice_read(FExitContext);
    fexit("tcp_sendmsg") send(FExitContext);
    fexit("tcp_sendpage") send_page(FExitContext);
    fexit("mptcp_sendmsg") mptcp_send(FExitContext);
}

/// inet_csk_listen_start(sk), with a backlog too up to 5.16, returns 0: it listens. Called for listeners only, unlike
/// `inet_sock_set_state`, which fires eight times in the life of a connection.
#[inline(always)]
fn listen_starts(ctx: &FExitContext) {
    let sock = ctx.socket(0);
    if argument(ctx, LISTEN_RESULT.load()) as i32 == 0 && sock.is_tcp() {
        super::sockets::opens(sock);
        if config::debug() {
            debug!(ctx, "listening: {}", sock.address().cookie());
        }
    }
}

/// inet_csk_listen_stop(sk): next, what waits on its queues is discarded or moves to another shard.
#[inline(always)]
fn listen_stops(ctx: &FEntryContext) {
    let sock = ctx.socket(0);
    super::sockets::closes(sock);
    if config::debug() {
        debug!(ctx, "listens no more: {}", sock.address().cookie());
    }
}

/// inet_csk_complete_hashdance(sk, child, req, own_req) puts a child on the accept queue, if it is the first one of its
/// request. The record is made before, because another CPU may accept the child before this one returns.
#[inline(always)]
fn complete_begins(ctx: &FEntryContext) {
    let Some(attempt) = maps::attempt() else { return };
    field!(attempt.queueing).set(0);
    if ctx.word(3) as u8 == 0 {
        return;
    }
    let sock = ctx.socket(0);
    let Some(listener) = super::sockets::listener(sock) else { return };
    let Some(tcp) = sock.tcp() else { return };
    let request = Request(ctx.arg(2));
    field!(attempt.queueing).set(if request.listener() == sock.key() { QUEUEING } else { MOVING });
    field!(attempt.listener).set(listener);
    if field!(attempt.requested).get() == 0 {
        handshake::completed_without_request(listener);
    }
    if field!(attempt.checking).get() == 0 {
        handshake::completed_without_check(listener);
    }
    let now = stats::now();
    let handshake_ns = request.since_synack_ns(now);
    let child = ctx.address(1);
    enqueued::queued(listener, child, child.position(), now, handshake_ns, sock.accept_depth() + 1, tcp.qlen());
}

/// It returns null if the listener was closed meanwhile; the child has been destroyed.
#[inline(always)]
fn complete_ends(ctx: &FExitContext) {
    let Some(attempt) = maps::attempt() else { return };
    let queueing = field!(attempt.queueing).get();
    field!(attempt.queueing).set(0);
    let listener = field!(attempt.listener).get();
    if queueing != 0 && ctx.word(4) == 0 {
        enqueued::not_queued(listener);
    } else if queueing == MOVING {
        // The request of a shard that was closed; its connection is on this one's queue.
        let sock = ctx.socket(0);
        handshake::request_migrated(listener, sock.accept_depth(), sock.tcp().map_or(0, LiveTcp::qlen));
    }
}

/// inet_csk_reqsk_queue_add(sk, req, child), where a compiler has not merged it into its caller: the child of a valid
/// cookie, or of data in a SYN (TCP Fast Open), is about to be put on the accept queue.
#[inline(always)]
fn queue_add(ctx: &FEntryContext) {
    let Some(attempt) = maps::attempt() else { return };
    if field!(attempt.queueing).get() != 0 {
        // Called by inet_csk_complete_hashdance, and counted.
        return;
    }
    if field!(attempt.inside).get() != 0 {
        field!(attempt.outcome).set(kernel::ENQUEUED);
    }
    let sock = ctx.socket(0);
    let Some(listener) = super::sockets::listener(sock) else { return };
    let Some(tcp) = sock.tcp() else { return };
    let child = ctx.address(2);
    // One that moves from another shard has just been counted there. A record of one that was accepted is another's.
    let counted = |connection: MapValue<Connection>| {
        field!(connection.listener).get() == listener && field!(connection.accepted_ns).get() == 0
    };
    if !record::of(child).is_some_and(counted) {
        enqueued::queued(listener, child, child.position(), stats::now(), 0, sock.accept_depth() + 1, tcp.qlen());
    }
}

/// reuseport_migrate_sock(sk, migrating, skb) returns the shard that takes over from a closing one: with a packet, the
/// request that the packet is for; without one, a connection on its accept queue, which the caller moves next.
#[inline(always)]
fn migrate(ctx: &FExitContext) {
    let (child, sock) = (ctx.address(1), ctx.address(3));
    if ctx.word(3) == 0 || ctx.word(2) != 0 {
        return;
    }
    let Some(connection) = record::of(child) else { return };
    let Some(listener) = listener_at(sock.0) else { return };
    enqueued::moved(listener, connection, sock.accept_depth() + 1, sock.qlen());
}

/// inet_csk_accept returns the connection that it took off the queue, in the thread that called accept, by a system
/// call or through io_uring. A null result means nothing: io_uring tries before it waits.
#[inline(always)]
fn accept(ctx: &FExitContext) {
    let _ = dequeued(ctx);
}

/// The same where no hook shows the calls' ends. An accept from a non-blocking listener returns no connection for one
/// reason only: it would block. But io_uring may wait even there, after it has tried, and then counts too.
#[inline(always)]
fn accept_by_listener(ctx: &FExitContext) {
    let sock = ctx.socket(0);
    if !dequeued(ctx)
        && kernel::opened_nonblocking(sock)
        && let Some(listener) = listener_at(sock.key())
    {
        accepted::failed(listener, accepted::EAGAIN);
    }
}

/// Counts the connection that an accept took off the queue; `false` if there was none.
#[inline(always)]
fn dequeued(ctx: &FExitContext) -> bool {
    let child = argument(ctx, ACCEPT_RESULT.load());
    if child == 0 {
        return false;
    }
    let child = MaybeGone::of(child as *const u8);
    if !accepted::accepted(child)
        && let Some(listener) = listener_at(ctx.socket(0).key())
    {
        accepted::accepted_unknown(listener, Some(child));
    }
    true
}

/// sock_def_readable(sk), which every socket calls through `sk_data_ready` unless something in the kernel reads it.
#[inline(always)]
fn readable(ctx: &FEntryContext) {
    let sock = ctx.socket(0);
    if sock.state() != LISTEN {
        super::sockets::readable(sock);
    }
}

/// subflow_data_ready(sk): the same for a subflow of MPTCP, which wakes the socket above it.
#[inline(always)]
fn subflow_readable(ctx: &FEntryContext) {
    let sock = ctx.socket(0);
    if sock.state() != LISTEN {
        super::sockets::readable(sock);
    }
}

/// tcp_recvmsg returns.
#[inline(always)]
fn receive(ctx: &FExitContext) {
    let result = argument(ctx, RECEIVE_RESULT.load()) as i32;
    let flags = argument(ctx, RECEIVE_FLAGS.load()) as i32;
    super::sockets::received(ctx.socket(0), result, flags);
}

/// mptcp_recvmsg returns.
#[inline(always)]
fn mptcp_receive(ctx: &FExitContext) {
    let result = argument(ctx, MPTCP_RECEIVE_RESULT.load()) as i32;
    let flags = argument(ctx, MPTCP_RECEIVE_FLAGS.load()) as i32;
    super::sockets::received(ctx.socket(0), result, flags);
}

/// tcp_splice_read(socket, position, pipe, length, flags) returns.
#[inline(always)]
fn splice_read(ctx: &FExitContext) {
    let result = ctx.arg::<i64>(5);
    if result <= 0 {
        return;
    }
    if let Some(socket) = kernel::sock_of(ctx.arg(0)) {
        super::syscalls::spliced(socket, result as u32);
    }
}

/// tcp_sendmsg(sk, msg, size) returns.
#[inline(always)]
fn send(ctx: &FExitContext) {
    super::sockets::sent(ctx.socket(0), ctx.arg(3));
}

/// tcp_sendpage(sk, page, offset, size, flags) returns: sendfile and splice into a socket, up to 6.4.
#[inline(always)]
fn send_page(ctx: &FExitContext) {
    super::sockets::sent(ctx.socket(0), ctx.arg(5));
}

/// mptcp_sendmsg(sk, msg, size) returns.
#[inline(always)]
fn mptcp_send(ctx: &FExitContext) {
    super::sockets::sent(ctx.socket(0), ctx.arg(3));
}
