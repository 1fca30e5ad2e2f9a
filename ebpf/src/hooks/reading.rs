//! Hooks of the blame of readers: what makes unread bytes of connections more or fewer. Like those of `blame` they are
//! programs of their own.

use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, FExitContext, TracePointContext};
use listentop_abi::{
    blame::ThreadId,
    connection::{Connection, PLACES},
    listener::ListenerRef,
};

use super::{
    functions::{RECEIVE_FLAGS, RECEIVE_RESULT},
    iterators::walk,
    sockets::{MSG_ERRQUEUE, MSG_PEEK},
};
use crate::{
    blame::reads,
    connections,
    context::{Arguments as _, argument, programs, syscall_result},
    kernel::{self, LISTEN, LiveSocket, MaybeGone},
    maps::{SPILLED, THREADS},
    record,
    values::{Lookup as _, MapValue, field},
};

programs! {
    btf_tracepoint("sk_data_ready") blame_arrived(BtfTracePointContext);
    fentry("sock_def_readable") blame_arrived_by_function(FEntryContext);
    btf_tracepoint("sock_recv_length") blame_read(BtfTracePointContext);
    fexit("tcp_recvmsg") blame_read_by_function(FExitContext);
    tracepoint blame_exit_splice(TracePointContext);
    fexit("tcp_splice_read") blame_spliced(FExitContext);
    btf_tracepoint("tcp_destroy_sock") blame_destroyed(BtfTracePointContext);
}

/// sk_data_ready(sk) on a connection: payload came.
#[inline(always)]
fn blame_arrived(ctx: &BtfTracePointContext) {
    arrived(ctx.socket(0));
}

/// sock_def_readable(sk), where that tracepoint does not exist.
#[inline(always)]
fn blame_arrived_by_function(ctx: &FEntryContext) {
    arrived(ctx.socket(0));
}

#[inline(always)]
fn arrived(sock: LiveSocket) {
    if sock.state() == LISTEN {
        return;
    }
    if let Some(connection) = connections::find_for_arrival(sock.key())
        && field!(connection.identity_kept).get() == sock.identity()
        && let Some(tcp) = sock.tcp()
    {
        reads::seen(connection, sock.key(), reads::nobody, || tcp.has_unread());
    }
}

/// sock_recv_length(sk, ret, flags): a receive call returned.
#[inline(always)]
fn blame_read(ctx: &BtfTracePointContext) {
    received(ctx.socket(0), ctx.arg(1), ctx.arg(2));
}

/// tcp_recvmsg returns, where that tracepoint does not exist.
#[inline(always)]
fn blame_read_by_function(ctx: &FExitContext) {
    let result = argument(ctx, RECEIVE_RESULT.load()) as i32;
    let flags = argument(ctx, RECEIVE_FLAGS.load()) as i32;
    received(ctx.socket(0), result, flags);
}

#[inline(always)]
fn received(sock: LiveSocket, result: i32, flags: i32) {
    if result <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    if let Some(connection) = record::find(sock.key(), || Some(sock.identity()))
        && let Some(tcp) = sock.tcp()
    {
        reads::used(connection, sock.key(), || tcp.has_unread());
    }
}

/// splice returns: its first argument is the descriptor that it read.
#[inline(always)]
fn blame_exit_splice(ctx: &TracePointContext) {
    if syscall_result(ctx) > 0
        && let Some(socket) = kernel::current_argument().and_then(|fd| kernel::current_socket(fd as u32))
    {
        used(socket);
    }
}

/// tcp_splice_read(socket, position, pipe, length, flags) returns.
#[inline(always)]
fn blame_spliced(ctx: &FExitContext) {
    if ctx.arg::<i64>(5) > 0
        && let Some(socket) = kernel::sock_of(ctx.arg(0))
    {
        used(socket);
    }
}

/// The current thread read from this socket, or accepted it, if it is a connection.
#[inline(always)]
pub(super) fn used(socket: MaybeGone) {
    if let Some(connection) = record::of(socket) {
        reads::used(connection, socket.0, || socket.has_unread());
    }
}

/// The current thread accepted this socket, if it is a connection that is not known yet.
#[inline(always)]
pub(super) fn perhaps_accepted(socket: MaybeGone) {
    if let Some(connection) = record::of(socket) {
        reads::accepted(connection, socket.0, || socket.has_unread());
    }
}

/// tcp_destroy_sock(sk).
#[inline(always)]
fn blame_destroyed(ctx: &BtfTracePointContext) {
    reads::ended(ctx.socket(0).key());
}

walk! {
    /// Walks over the sets of connections in use, for those that were accepted before the watch began: some at a time.
    blame_take_over, blame_take_over_one: u32 => take_over_sets
}

#[inline(always)]
fn take_over_sets<const ONE: bool>(place: u32) {
    connections::each_used(place, |set| {
        for place in 0..PLACES {
            if let Some((key, connection)) = connections::at(set, place) {
                take_over(MaybeGone(key), connection);
            }
        }
    });
}

walk! {
    /// The same for [`SPILLED`].
    blame_take_over_spilled, blame_take_over_spilled_one: u64 => take_over_spilled
}

#[inline(always)]
fn take_over_spilled<const ONE: bool>(key: u64) {
    if let Some(connection) = SPILLED.value(&key) {
        take_over(MaybeGone(key), connection);
    }
}

#[inline(always)]
fn take_over(socket: MaybeGone, connection: MapValue<Connection>) {
    if field!(connection.live).get() != 0 && socket.identity() == Some(field!(connection.identity).get()) {
        // Whether it has unread bytes, the next walk over them sees: the verifier follows every turn of this loop.
        reads::found(connection, socket.0, || reader(connection));
    }
}

/// The thread that read from a connection last, as far as the other probes know.
#[inline(always)]
fn reader(connection: MapValue<Connection>) -> ThreadId {
    let remembered = field!(connection.reader).get();
    let Some(thread) = (if remembered == 0 { None } else { THREADS.value(remembered - 1) }) else {
        return reads::nobody();
    };
    let listener: ListenerRef = field!(connection.listener).get();
    if field!(thread.key.slot).get() != listener.slot || field!(thread.generation).get() != listener.generation {
        return reads::nobody();
    }
    ThreadId { start_ns: field!(thread.key.start_ns).get(), tid: u64::from(field!(thread.key.tid).get()) }
}

walk! {
    /// Walks over the connections whose readers are watched: looks at each again, in case a change of it was not seen.
    blame_look_again, blame_look_again_one: u64 => look_again
}

#[inline(always)]
fn look_again<const ONE: bool>(key: u64) {
    let socket = MaybeGone(key);
    reads::look_again(
        key,
        |identity| {
            if socket.identity() == Some(identity) { Some(socket.has_unread()) } else { None }
        },
    );
}
