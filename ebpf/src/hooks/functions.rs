//! Functions of the accept queue, of reads and of writes: fentry and fexit programs, for kernels that lack a tracepoint
//! or where the function tells more.
//!
//! Which argument is where differs between kernels of one version even, so positions come from the running kernel's
//! BTF.

use aya_ebpf::{
    EbpfContext as _, Global,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use listentop_abi::connection::Connection;

use crate::{
    config, connections,
    context::argument,
    events::{accepted, enqueued},
    kernel::{self, LISTEN, RawSock, Request, Sock},
    maps::{ATTEMPTS, LISTENERS},
    stats,
};

/// Position of what `inet_csk_listen_start` returns: (sk, backlog) up to 5.16, (sk) since.
#[unsafe(no_mangle)]
static LISTEN_RESULT: Global<u32> = Global::new(u32::MAX);
/// Position of what `inet_csk_accept` returns: (sk, flags, err, kern) up to 6.9, (sk, arg) since.
#[unsafe(no_mangle)]
static ACCEPT_RESULT: Global<u32> = Global::new(u32::MAX);
/// Positions in `tcp_recvmsg`: (sk, msg, len, nonblock, flags, addr_len) in 5.10, later without nonblock, then without
/// addr_len.
#[unsafe(no_mangle)]
static RECEIVE_FLAGS: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static RECEIVE_RESULT: Global<u32> = Global::new(u32::MAX);
/// The same in `mptcp_recvmsg`.
#[unsafe(no_mangle)]
static MPTCP_RECEIVE_FLAGS: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static MPTCP_RECEIVE_RESULT: Global<u32> = Global::new(u32::MAX);

/// inet_csk_listen_start(sk), with a backlog too up to 5.16, returns 0: it listens. Called for listeners only, unlike
/// `inet_sock_set_state`, which fires eight times in the life of a connection.
#[fexit(function = "inet_csk_listen_start")]
pub(crate) fn listen_starts(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    if argument(ctx.as_ptr(), LISTEN_RESULT.load()) as i32 == 0 && sock.is_tcp() {
        super::sockets::opens(&ctx, sock);
    }
    0
}

/// inet_csk_listen_stop(sk): what waits on its queues is thrown away next, or moves to another shard.
#[fentry(function = "inet_csk_listen_stop")]
pub(crate) fn listen_stops(ctx: FEntryContext) -> i32 {
    if config::empty() {
        return 0;
    }
    super::sockets::closes(&ctx, Sock::new(ctx.arg(0)));
    0
}

/// inet_csk_complete_hashdance(sk, child, req, own_req) puts a child on the accept queue, if it is the first one of its
/// request. The record is made before, because another CPU may accept the child before this one returns.
#[fentry(function = "inet_csk_complete_hashdance")]
pub(crate) fn complete_begins(ctx: FEntryContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let Some(attempt) = ATTEMPTS.get_ptr_mut(0) else { return 0 };
    unsafe { (*attempt).queueing = 0 };
    if ctx.arg::<u64>(3) as u8 == 0 {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    let Some(listener) = super::sockets::listener(sock) else { return 0 };
    let Some(tcp) = sock.tcp() else { return 0 };
    unsafe {
        (*attempt).queueing = 1;
        (*attempt).listener = listener;
    }
    let now = stats::now();
    let handshake_ns = Request(ctx.arg(2)).since_synack_ns(now);
    let child = RawSock::of(ctx.arg(1));
    enqueued::queued(listener, child, child.receive_span(), now, handshake_ns, sock.accept_depth() + 1, tcp.qlen());
    0
}

/// It returns null if the listener was closed meanwhile; the child has been destroyed.
#[fexit(function = "inet_csk_complete_hashdance")]
pub(crate) fn complete_ends(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let Some(attempt) = ATTEMPTS.get_ptr_mut(0) else { return 0 };
    let (queueing, listener) = unsafe { ((*attempt).queueing, (*attempt).listener) };
    unsafe { (*attempt).queueing = 0 };
    if queueing != 0 && ctx.arg::<u64>(4) == 0 {
        enqueued::not_queued(listener);
    }
    0
}

/// inet_csk_reqsk_queue_add(sk, req, child), where a compiler has not merged it into its caller: the child of a valid
/// cookie, or of data in a SYN (TCP Fast Open), is about to be put on the accept queue.
#[fentry(function = "inet_csk_reqsk_queue_add")]
pub(crate) fn queue_add(ctx: FEntryContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let Some(attempt) = ATTEMPTS.get_ptr_mut(0) else { return 0 };
    if unsafe { (*attempt).queueing } != 0 {
        // Called by inet_csk_complete_hashdance, and counted.
        return 0;
    }
    unsafe {
        if (*attempt).inside != 0 {
            (*attempt).outcome = kernel::ENQUEUED;
        }
    }
    let sock = Sock::new(ctx.arg(0));
    let Some(listener) = super::sockets::listener(sock) else { return 0 };
    let Some(tcp) = sock.tcp() else { return 0 };
    let child = RawSock::of(ctx.arg(2));
    // One that moves from another shard has just been counted there; one that was accepted is another's record.
    let counted =
        |connection: *mut Connection| unsafe { (*connection).listener == listener && (*connection).accepted_ns == 0 };
    if !connections::find(child.0).is_some_and(counted) {
        enqueued::queued(listener, child, child.receive_span(), stats::now(), 0, sock.accept_depth() + 1, tcp.qlen());
    }
    0
}

/// reuseport_migrate_sock(sk, migrating, skb) returns the shard that a closing one leaves to: a request that a packet
/// came for, or, without a packet, a connection on its accept queue, which its caller moves to the other's next.
#[fexit(function = "reuseport_migrate_sock")]
pub(crate) fn migrate(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let (child, skb, shard): (u64, u64, u64) = (ctx.arg(1), ctx.arg(2), ctx.arg(3));
    let (child, sock) = (RawSock::of(child), RawSock::of(shard));
    if shard == 0 || skb != 0 {
        return 0;
    }
    let Some(connection) = connections::find(child.0) else { return 0 };
    let Some(listener) = LISTENERS.get_ptr(&sock.0) else { return 0 };
    enqueued::moved(unsafe { *listener }, connection, sock.accept_depth() + 1, sock.qlen());
    0
}

/// inet_csk_accept returns the connection that it took off the queue, in the thread that called accept, whichever way
/// it did. That it returns none says nothing: io_uring tries before it waits.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept(ctx: FExitContext) -> i32 {
    if !config::empty() {
        let _ = dequeued(&ctx);
    }
    0
}

/// The same where the calls cannot be seen to end. From a listener that does not block an accept ends in vain for one
/// reason only; io_uring, however, may wait even there, after it has looked.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn accept_by_listener(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    if !dequeued(&ctx)
        && kernel::opened_nonblocking(sock)
        && let Some(listener) = LISTENERS.get_ptr(&sock.key())
    {
        accepted::failed(unsafe { *listener }, accepted::EAGAIN);
    }
    0
}

/// Counts the connection that an accept took off the queue; false if there was none.
#[inline(always)]
fn dequeued(ctx: &FExitContext) -> bool {
    let child = argument(ctx.as_ptr(), ACCEPT_RESULT.load());
    if child == 0 {
        return false;
    }
    let child = RawSock::of(child);
    if !accepted::accepted(child)
        && let Some(listener) = LISTENERS.get_ptr(&Sock::new(ctx.arg(0)).key())
    {
        accepted::accepted_unknown(unsafe { *listener }, Some(child));
    }
    true
}

/// sock_def_readable(sk), which every socket calls through `sk_data_ready` unless something in the kernel reads it.
#[fentry(function = "sock_def_readable")]
pub(crate) fn readable(ctx: FEntryContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    if sock.state() != LISTEN {
        super::sockets::readable(sock);
    }
    0
}

/// tcp_recvmsg returns.
#[fexit(function = "tcp_recvmsg")]
pub(crate) fn receive(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let result = argument(ctx.as_ptr(), RECEIVE_RESULT.load()) as i32;
    let flags = argument(ctx.as_ptr(), RECEIVE_FLAGS.load()) as i32;
    super::sockets::received(Sock::new(ctx.arg(0)), result, flags);
    0
}

/// mptcp_recvmsg returns.
#[fexit(function = "mptcp_recvmsg")]
pub(crate) fn mptcp_receive(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let result = argument(ctx.as_ptr(), MPTCP_RECEIVE_RESULT.load()) as i32;
    let flags = argument(ctx.as_ptr(), MPTCP_RECEIVE_FLAGS.load()) as i32;
    super::sockets::received(Sock::new(ctx.arg(0)), result, flags);
    0
}

/// tcp_splice_read(socket, position, pipe, length, flags) returns.
#[fexit(function = "tcp_splice_read")]
pub(crate) fn splice_read(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let result = ctx.arg::<i64>(5);
    if result <= 0 {
        return 0;
    }
    if let Some(socket) = kernel::sock_of(ctx.arg(0)) {
        super::syscalls::spliced(socket, result as u32);
    }
    0
}

/// tcp_sendmsg(sk, msg, size) returns.
#[fexit(function = "tcp_sendmsg")]
pub(crate) fn send(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    super::sockets::sent(Sock::new(ctx.arg(0)), ctx.arg(3));
    0
}

/// tcp_sendpage(sk, page, offset, size, flags) returns: sendfile and splice into a socket, up to 6.4.
#[fexit(function = "tcp_sendpage")]
pub(crate) fn send_page(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    super::sockets::sent(Sock::new(ctx.arg(0)), ctx.arg(5));
    0
}

/// mptcp_sendmsg(sk, msg, size) returns.
#[fexit(function = "mptcp_sendmsg")]
pub(crate) fn mptcp_send(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    super::sockets::sent(Sock::new(ctx.arg(0)), ctx.arg(3));
    0
}
