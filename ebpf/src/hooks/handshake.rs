//! Functions of the handshake: fentry and fexit programs that see each request, each refused attempt and each cookie.
//!
//! What the functions called from one another tell about one packet is gathered in a per-CPU record: they run in
//! softirq, with bottom halves off, one packet at a time.

use aya_ebpf::{
    EbpfContext as _, Global,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use crate::{
    config,
    context::argument,
    events::handshake::{self, Depths},
    kernel::{self, ADDED, COOKIE, FLOOD_DROP, NOTHING, Request, Sock, UNSURE},
    maps::{ATTEMPTS, LISTENERS},
};
use listentop_abi::listener::ListenerRef;

/// Position of what `inet_csk_reqsk_queue_hash_add` returns; none on kernels where it returns nothing.
#[unsafe(no_mangle)]
static REQUEST_RESULT: Global<u32> = Global::new(u32::MAX);
/// Position of what `tcp_syn_flood_action` returns.
#[unsafe(no_mangle)]
static FLOOD_RESULT: Global<u32> = Global::new(u32::MAX);
/// Position of what `tcp_v4_syn_recv_sock` and `tcp_v6_syn_recv_sock` return: 6 arguments, or 7.
#[unsafe(no_mangle)]
static CHILD_V4_RESULT: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static CHILD_V6_RESULT: Global<u32> = Global::new(u32::MAX);
/// Position of what `tcp_get_cookie_sock` returns: 4 arguments, or 5.
#[unsafe(no_mangle)]
static COOKIE_RESULT: Global<u32> = Global::new(u32::MAX);
/// Position of what `tcp_check_req` returns: 5 arguments, or 6.
#[unsafe(no_mangle)]
static CHECK_RESULT: Global<u32> = Global::new(u32::MAX);

#[inline(always)]
fn known(sock: Sock) -> Option<ListenerRef> {
    LISTENERS.get_ptr(&sock.key()).map(|listener| unsafe { *listener })
}

#[inline(always)]
fn depths(sock: Sock) -> Option<Depths> {
    Some(Depths { accept: sock.accept_depth(), backlog: sock.backlog(), syn: sock.tcp()?.qlen() })
}

/// tcp_conn_request(ops, af_ops, sk, skb): a SYN for a listener.
#[fentry(function = "tcp_conn_request")]
pub(crate) fn syn_begins(ctx: FEntryContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let Some(attempt) = ATTEMPTS.get_ptr_mut(0) else { return 0 };
    let sock = Sock::new(ctx.arg(2));
    unsafe {
        (*attempt).inside = 1;
        (*attempt).outcome = NOTHING;
        (*attempt).flood = UNSURE;
        (*attempt).accept = sock.accept_depth();
        (*attempt).syn = sock.tcp().map_or(0, kernel::TcpSock::qlen);
    }
    0
}

/// tcp_conn_request returns: what became of the SYN.
#[fexit(function = "tcp_conn_request")]
pub(crate) fn syn_ends(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let Some(attempt) = ATTEMPTS.get_ptr_mut(0) else { return 0 };
    let (began, outcome, flood) = unsafe {
        let began = (*attempt).inside != 0;
        (*attempt).inside = 0;
        (began, (*attempt).outcome, (*attempt).flood)
    };
    // A request was made, or there is a child already. Or its beginning was not seen, as the probes were attached in
    // between.
    if !began || (outcome != NOTHING && outcome != COOKIE) {
        return 0;
    }
    let sock = Sock::new(ctx.arg(2));
    let Some(listener) = known(sock) else { return 0 };
    if outcome == COOKIE {
        handshake::cookie_sent(listener);
        return 0;
    }
    let Some(after) = depths(sock) else { return 0 };
    // Another CPU may have changed a queue since the kernel looked at it, so both looks count.
    let (accept, syn) = unsafe { ((*attempt).accept.max(after.accept), (*attempt).syn.max(after.syn)) };
    let most = Depths { accept, syn, ..after };
    unsafe { handshake::syn_refused(listener, most, flood, sock, ctx.arg(3)) };
    0
}

/// inet_csk_reqsk_queue_hash_add(sk, req, …) returns: a request is in the SYN queue, unless it says that it was there
/// already.
#[fexit(function = "inet_csk_reqsk_queue_hash_add")]
pub(crate) fn request(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    if let Some(attempt) = ATTEMPTS.get_ptr_mut(0) {
        // Also of one that was there already: nothing was refused.
        unsafe { (*attempt).outcome = ADDED };
    }
    let position = REQUEST_RESULT.load();
    if position != u32::MAX && argument(ctx.as_ptr(), position) as u8 == 0 {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    let Some(listener) = known(sock) else { return 0 };
    if let Some(tcp) = sock.tcp() {
        handshake::requested(listener, sock.accept_depth(), tcp.qlen());
    }
    0
}

/// inet_csk_reqsk_queue_drop(sk, req) returns whether it took the request out of the SYN queue: it timed out, or was
/// reset.
#[fexit(function = "inet_csk_reqsk_queue_drop")]
pub(crate) fn request_drop(ctx: FExitContext) -> i32 {
    if config::empty() || ctx.arg::<u64>(2) as u8 == 0 {
        return 0;
    }
    if let Some(listener) = known(Sock::new(ctx.arg(0))) {
        handshake::request_given_up(listener);
    }
    0
}

/// tcp_syn_flood_action(sk, …) returns, the SYN queue being full, whether a cookie is to be sent. Compilers may have
/// merged it into its caller; then depths tell.
#[fexit(function = "tcp_syn_flood_action")]
pub(crate) fn flood(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let refused = argument(ctx.as_ptr(), FLOOD_RESULT.load()) as u8 == 0;
    if let Some(attempt) = ATTEMPTS.get_ptr_mut(0) {
        unsafe { (*attempt).flood = if refused { FLOOD_DROP } else { kernel::FLOOD_COOKIE } };
    }
    0
}

/// cookie_v4_init_sequence(skb, mss): the SYN at hand is answered with a cookie.
#[fentry(function = "cookie_v4_init_sequence")]
pub(crate) fn cookie_v4(_: FEntryContext) -> i32 {
    cookie();
    0
}

/// The same for IPv6.
#[fentry(function = "cookie_v6_init_sequence")]
pub(crate) fn cookie_v6(_: FEntryContext) -> i32 {
    cookie();
    0
}

#[inline(always)]
fn cookie() {
    if !config::empty()
        && let Some(attempt) = ATTEMPTS.get_ptr_mut(0)
    {
        unsafe { (*attempt).outcome = COOKIE };
    }
}

/// tcp_get_cookie_sock(sk, skb, req, …): a cookie that came back was valid.
#[fentry(function = "tcp_get_cookie_sock")]
pub(crate) fn cookie_back(ctx: FEntryContext) -> i32 {
    if config::empty() {
        return 0;
    }
    if let Some(listener) = known(Sock::new(ctx.arg(0))) {
        handshake::cookie_validated(listener);
    }
    0
}

/// tcp_v4_syn_recv_sock(sk, skb, req, …) returns the child that a final ACK makes, or null.
#[fexit(function = "tcp_v4_syn_recv_sock")]
pub(crate) fn child_v4(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    if argument(ctx.as_ptr(), CHILD_V4_RESULT.load()) != 0 {
        child_made();
        return 0;
    }
    child_refused(Sock::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2));
    0
}

/// The same for IPv6. For a client with an IPv4 address it calls the other, which has counted it.
#[fexit(function = "tcp_v6_syn_recv_sock")]
pub(crate) fn child_v6(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    if argument(ctx.as_ptr(), CHILD_V6_RESULT.load()) != 0 {
        child_made();
        return 0;
    }
    let skb: *const u8 = ctx.arg(1);
    if unsafe { kernel::is_ipv4(skb) } {
        return 0;
    }
    child_refused(Sock::new(ctx.arg(0)), skb, ctx.arg(2));
    0
}

#[inline(always)]
fn child_made() {
    if let Some(attempt) = ATTEMPTS.get_ptr_mut(0) {
        unsafe { (*attempt).child = kernel::MADE };
    }
}

#[inline(always)]
fn child_refused(sock: Sock, skb: *const u8, request: u64) {
    let mut inside = false;
    if let Some(attempt) = ATTEMPTS.get_ptr_mut(0) {
        unsafe {
            (*attempt).child = kernel::REFUSED;
            inside = (*attempt).inside != 0;
        }
    }
    let Some(listener) = known(sock) else { return };
    let Some(depths) = depths(sock) else { return };
    unsafe {
        if inside {
            // TCP Fast Open: the SYN goes on as an ordinary one, though the kernel has counted a drop.
            handshake::ignored(listener);
        } else {
            handshake::ack_refused(listener, depths, Request(request).is_cookie(), skb);
        }
    }
}

/// tcp_check_req(sk, skb, req, …) returns null for what is no final ACK that completes: refused (counted above), or
/// ignored, which `sk_drops` counts all the same. Or there was a child, but another CPU's came first: then that gets
/// the packet, and nothing is counted.
#[fexit(function = "tcp_check_req")]
pub(crate) fn check(ctx: FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let Some(attempt) = ATTEMPTS.get_ptr_mut(0) else { return 0 };
    let child = unsafe {
        let child = (*attempt).child;
        (*attempt).child = kernel::NO_CHILD;
        child
    };
    if child != kernel::NO_CHILD || argument(ctx.as_ptr(), CHECK_RESULT.load()) != 0 {
        return 0;
    }
    // With TCP Fast Open the socket is the child.
    if let Some(listener) = known(Sock::new(ctx.arg(0))) {
        handshake::ignored(listener);
    }
    0
}

/// The same where `tcp_v4_syn_recv_sock` has more arguments than the kernel can trace (7, before 6.6): that a final ACK
/// was refused is told by the packet and by the depth of the queue.
#[fexit(function = "tcp_check_req")]
pub(crate) fn check_by_packet(ctx: FExitContext) -> i32 {
    if config::empty() || argument(ctx.as_ptr(), CHECK_RESULT.load()) != 0 {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    let Some(listener) = known(sock) else { return 0 };
    // Another CPU completed the handshake first, and the child gets the packet.
    if kernel::byte_at(ctx.arg(4)) != Some(0) {
        return 0;
    }
    let Some(depths) = depths(sock) else { return 0 };
    let skb: *const u8 = ctx.arg(1);
    unsafe {
        if depths.accept_queue_full() && kernel::would_complete(sock, skb, Request(ctx.arg(2))) {
            handshake::ack_refused(listener, depths, false, skb);
        } else {
            handshake::ignored(listener);
        }
    }
    0
}

/// tcp_get_cookie_sock(sk, skb, req, …) returns the child of a valid cookie, or null: for the same kernels.
#[fexit(function = "tcp_get_cookie_sock")]
pub(crate) fn cookie_child(ctx: FExitContext) -> i32 {
    if config::empty() || argument(ctx.as_ptr(), COOKIE_RESULT.load()) != 0 {
        return 0;
    }
    let sock = Sock::new(ctx.arg(0));
    if let Some(listener) = known(sock)
        && let Some(depths) = depths(sock)
    {
        unsafe { handshake::ack_refused(listener, depths, true, ctx.arg(1)) };
    }
    0
}
