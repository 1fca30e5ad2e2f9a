//! Functions of the handshake: fentry and fexit programs that see each request, each refused attempt and each cookie.
//!
//! Several functions each show a part of the outcome of one packet. A per-CPU record collects the parts: the functions
//! run in softirq, with bottom halves off, one packet at a time.

use aya_ebpf::{
    Global,
    programs::{FEntryContext, FExitContext},
};
use listentop_abi::listener::ListenerRef;

use crate::{
    context::{Arguments as _, argument, programs},
    events::handshake::{self, Depths},
    kernel::{self, ADDED, COOKIE, FLOOD_DROP, LiveSocket, LiveTcp, MaybeGone, NOTHING, Packet, Request, UNSURE},
    maps::{self, Attempt, listener_at},
    values::{MapValue, field},
};

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

programs! {
    fentry("tcp_conn_request") syn_begins(FEntryContext);
    fexit("tcp_conn_request") syn_ends(FExitContext);
    fexit("inet_csk_reqsk_queue_hash_add") request(FExitContext);
    fexit("inet_csk_reqsk_queue_drop") request_drop(FExitContext);
    fentry("reqsk_timer_handler") request_expires(FEntryContext);
    fexit("reqsk_timer_handler") request_expired(FExitContext);
    fexit("inet_reqsk_clone") request_copied(FExitContext);
    fexit("tcp_syn_flood_action") flood(FExitContext);
    fentry("cookie_v4_init_sequence") cookie_v4(FEntryContext);
    fentry("cookie_v6_init_sequence") cookie_v6(FEntryContext);
    fentry("tcp_get_cookie_sock") cookie_back(FEntryContext);
    fentry("tcp_check_req") check_begins(FEntryContext);
    fexit("tcp_v4_syn_recv_sock") child_v4(FExitContext);
    fexit("tcp_v6_syn_recv_sock") child_v6(FExitContext);
    fexit("tcp_check_req") check(FExitContext);
    fexit("tcp_check_req") check_by_packet(FExitContext);
    fexit("tcp_get_cookie_sock") cookie_child(FExitContext);
}

#[inline(always)]
fn known(sock: LiveSocket) -> Option<ListenerRef> {
    listener_at(sock.key())
}

#[inline(always)]
fn depths(sock: LiveSocket) -> Option<Depths> {
    Some(Depths { accept: sock.accept_depth(), backlog: sock.backlog(), syn: sock.tcp()?.qlen() })
}

/// The same behind a final ACK. Another CPU may have accepted a connection since the kernel looked at the queue, so the
/// depth before counts too.
#[inline(always)]
fn ack_depths(sock: LiveSocket) -> Option<Depths> {
    let after = depths(sock)?;
    let before = maps::attempt().map_or(0, |attempt| field!(attempt.ack_accept).get());
    Some(Depths { accept: after.accept.max(before), ..after })
}

/// tcp_conn_request(ops, af_ops, sk, skb): a SYN for a listener.
#[inline(always)]
fn syn_begins(ctx: &FEntryContext) {
    let Some(attempt) = maps::attempt() else { return };
    let sock = ctx.socket(2);
    field!(attempt.inside).set(1);
    packet_begins(attempt);
    field!(attempt.outcome).set(NOTHING);
    field!(attempt.flood).set(UNSURE);
    field!(attempt.accept).set(sock.accept_depth());
    field!(attempt.syn).set(sock.tcp().map_or(0, LiveTcp::qlen));
}

/// What an earlier packet has left behind is not this one's.
#[inline(always)]
fn packet_begins(attempt: MapValue<Attempt>) {
    field!(attempt.child).set(kernel::NO_CHILD);
    field!(attempt.queueing).set(0);
    field!(attempt.checking).set(0);
    field!(attempt.ack_accept).set(0);
}

/// tcp_conn_request returns: the outcome of the SYN.
#[inline(always)]
fn syn_ends(ctx: &FExitContext) {
    let Some(attempt) = maps::attempt() else { return };
    let began = field!(attempt.inside).get() != 0;
    field!(attempt.inside).set(0);
    let outcome = field!(attempt.outcome).get();
    // A request was made, or there is a child already. Or the probes were attached after it began.
    if !began || (outcome != NOTHING && outcome != COOKIE) {
        return;
    }
    let sock = ctx.socket(2);
    let Some(listener) = known(sock) else { return };
    if outcome == COOKIE {
        handshake::cookie_sent(listener);
        return;
    }
    let Some(after) = depths(sock) else { return };
    // Another CPU may have changed a queue since the kernel looked at it, so the depths before and after both count.
    let accept = field!(attempt.accept).get().max(after.accept);
    let syn = field!(attempt.syn).get().max(after.syn);
    let most = Depths { accept, syn, ..after };
    handshake::syn_refused(listener, most, field!(attempt.flood).get(), sock, ctx.packet(3));
}

/// inet_csk_reqsk_queue_hash_add(sk, req, …) returns: a request is in the SYN queue, unless the result says that it was
/// there already.
#[inline(always)]
fn request(ctx: &FExitContext) {
    let mut inside = true;
    if let Some(attempt) = maps::attempt() {
        inside = field!(attempt.inside).get() != 0;
        field!(attempt.requested).set(1);
        // A request that was there already counts too: nothing was refused.
        field!(attempt.outcome).set(ADDED);
    }
    let position = REQUEST_RESULT.load();
    if position != u32::MAX && argument(ctx, position) as u8 == 0 {
        return;
    }
    let sock = ctx.socket(0);
    let Some(listener) = known(sock) else { return };
    if let Some(tcp) = sock.tcp() {
        handshake::requested(listener, sock.accept_depth(), tcp.qlen());
    }
    if !inside {
        handshake::requested_without_syn(listener);
    }
}

/// inet_csk_reqsk_queue_drop(sk, req) returns whether it took the request out of the SYN queue: it was reset or, on
/// older kernels, timed out.
#[inline(always)]
fn request_drop(ctx: &FExitContext) {
    if let Some(attempt) = maps::attempt()
        && field!(attempt.expiring).get() == ctx.word(1)
    {
        // The end of its timer need not tell what became of it.
        field!(attempt.expiring).set(0);
    }
    if ctx.word(2) as u8 == 0 {
        return;
    }
    // Its own listener: the socket may be a shard that takes over from it.
    if let Some(listener) = listener_at(Request(ctx.word(1)).listener()) {
        handshake::request_given_up(listener);
    }
}

/// reqsk_timer_handler(timer): the SYN-ACK is sent again, or the request is given up. The function that takes it out of
/// the SYN queue may be a part of this one.
#[inline(always)]
fn request_expires(ctx: &FEntryContext) {
    let Some(attempt) = maps::attempt() else { return };
    let request = Request::of_timer(ctx.address(0));
    // One that has left the queue already has been completed meanwhile.
    let waiting = request.is_listed();
    field!(attempt.expiring).set(if waiting { request.0 } else { 0 });
    field!(attempt.expiring_of).set(request.listener());
    field!(attempt.expiries).set(request.expiries());
    field!(attempt.copy).set(0);
}

/// reqsk_timer_handler returns.
#[inline(always)]
fn request_expired(_: &FExitContext) {
    let Some(attempt) = maps::attempt() else { return };
    let request = Request(field!(attempt.expiring).get());
    let copy = Request(field!(attempt.copy).get());
    field!(attempt.expiring).set(0);
    field!(attempt.copy).set(0);
    if request.is_null() {
        return;
    }
    if !copy.is_null() {
        // Its listener has closed. The copy is listed if it goes on, and free again if it does not.
        let shard = MaybeGone(copy.listener());
        if copy.is_listed()
            && let Some(listener) = listener_at(shard.0)
        {
            handshake::request_migrated(listener, shard.accept_depth(), shard.qlen());
        }
        return;
    }
    // One that goes on waiting has expired once more. One that does not is free, and may be another request by now.
    let goes_on = request.expiries() == field!(attempt.expiries).get().wrapping_add(1);
    if !goes_on && let Some(listener) = listener_at(field!(attempt.expiring_of).get()) {
        handshake::request_given_up(listener);
    }
}

/// inet_reqsk_clone(req, sk) returns a copy of the request for the shard `sk`.
#[inline(always)]
fn request_copied(ctx: &FExitContext) {
    if let Some(attempt) = maps::attempt()
        && field!(attempt.expiring).get() == ctx.word(0)
    {
        field!(attempt.copy).set(ctx.word(2));
    }
}

/// tcp_syn_flood_action(sk, …), called when the SYN queue is full, returns whether to send a cookie. If a compiler has
/// merged it into its caller, the depths decide.
#[inline(always)]
fn flood(ctx: &FExitContext) {
    let refused = argument(ctx, FLOOD_RESULT.load()) as u8 == 0;
    if let Some(attempt) = maps::attempt() {
        field!(attempt.flood).set(if refused { FLOOD_DROP } else { kernel::FLOOD_COOKIE });
    }
}

/// cookie_v4_init_sequence(skb, mss): the SYN at hand is answered with a cookie.
#[inline(always)]
fn cookie_v4(_: &FEntryContext) {
    cookie();
}

/// The same for IPv6.
#[inline(always)]
fn cookie_v6(_: &FEntryContext) {
    cookie();
}

#[inline(always)]
fn cookie() {
    if let Some(attempt) = maps::attempt() {
        field!(attempt.outcome).set(COOKIE);
    }
}

/// tcp_get_cookie_sock(sk, skb, req, …): a cookie that came back was valid.
#[inline(always)]
fn cookie_back(ctx: &FEntryContext) {
    let sock = ctx.socket(0);
    if let Some(attempt) = maps::attempt() {
        packet_begins(attempt);
        field!(attempt.ack_accept).set(sock.accept_depth());
    }
    if let Some(listener) = known(sock) {
        handshake::cookie_validated(listener);
    }
}

/// tcp_check_req(sk, skb, req, …): a packet for a request, usually the final ACK.
#[inline(always)]
fn check_begins(ctx: &FEntryContext) {
    let Some(attempt) = maps::attempt() else { return };
    packet_begins(attempt);
    field!(attempt.checking).set(1);
    field!(attempt.ack_accept).set(ctx.socket(0).accept_depth());
}

/// tcp_check_req returns: what the packet left is no other packet's.
#[inline(always)]
fn check_ends() {
    if let Some(attempt) = maps::attempt() {
        packet_begins(attempt);
    }
}

/// tcp_v4_syn_recv_sock(sk, skb, req, …) returns the child that a final ACK makes, or null.
#[inline(always)]
fn child_v4(ctx: &FExitContext) {
    if argument(ctx, CHILD_V4_RESULT.load()) != 0 {
        child_made();
        return;
    }
    child_refused(ctx.socket(0), ctx.packet(1), Request(ctx.arg(2)));
}

/// The same for IPv6. For a client with an IPv4 address it calls the other, which has counted it.
#[inline(always)]
fn child_v6(ctx: &FExitContext) {
    if argument(ctx, CHILD_V6_RESULT.load()) != 0 {
        child_made();
        return;
    }
    let packet = ctx.packet(1);
    if packet.is_ipv4() {
        return;
    }
    child_refused(ctx.socket(0), packet, Request(ctx.arg(2)));
}

#[inline(always)]
fn child_made() {
    if let Some(attempt) = maps::attempt() {
        field!(attempt.child).set(kernel::MADE);
    }
}

#[inline(always)]
fn child_refused(sock: LiveSocket, packet: Packet, request: Request) {
    let mut inside = false;
    if let Some(attempt) = maps::attempt() {
        field!(attempt.child).set(kernel::REFUSED);
        inside = field!(attempt.inside).get() != 0;
    }
    let Some(listener) = known(sock) else { return };
    let Some(depths) = ack_depths(sock) else { return };
    if inside {
        // TCP Fast Open: the SYN goes on as an ordinary one, though the kernel has counted a drop.
        handshake::ignored(listener);
    } else {
        handshake::ack_refused(listener, depths, request.is_cookie(), packet);
    }
}

/// tcp_check_req(sk, skb, req, …) returns null for a packet that does not complete the handshake. Either it was
/// refused, which is counted above, or it was ignored, which `sk_drops` counts too. Or it made a child, but another CPU
/// made one first: then that child gets the packet, and nothing is counted.
#[inline(always)]
fn check(ctx: &FExitContext) {
    let Some(attempt) = maps::attempt() else { return };
    let child = field!(attempt.child).get();
    check_ends();
    if child != kernel::NO_CHILD || argument(ctx, CHECK_RESULT.load()) != 0 {
        return;
    }
    // With TCP Fast Open the socket is the child.
    if let Some(listener) = known(ctx.socket(0)) {
        handshake::ignored(listener);
    }
}

/// The same where `tcp_v4_syn_recv_sock` has more arguments than the kernel can trace (7, before 6.6): the packet and
/// the depth of the queue show whether a final ACK was refused.
#[inline(always)]
fn check_by_packet(ctx: &FExitContext) {
    let sock = ctx.socket(0);
    let depths = ack_depths(sock);
    check_ends();
    if argument(ctx, CHECK_RESULT.load()) != 0 {
        return;
    }
    let Some(listener) = known(sock) else { return };
    // Another CPU completed the handshake first, and the child gets the packet.
    if kernel::byte_at(ctx.arg(4)) != Some(0) {
        return;
    }
    let Some(depths) = depths else { return };
    let packet = ctx.packet(1);
    if depths.accept_queue_full() && packet.would_complete(sock, Request(ctx.arg(2))) {
        handshake::ack_refused(listener, depths, false, packet);
    } else {
        handshake::ignored(listener);
    }
}

/// tcp_get_cookie_sock(sk, skb, req, …) returns the child of a valid cookie, or null: for the same kernels.
#[inline(always)]
fn cookie_child(ctx: &FExitContext) {
    if argument(ctx, COOKIE_RESULT.load()) != 0 {
        return;
    }
    let sock = ctx.socket(0);
    if let Some(listener) = known(sock)
        && let Some(depths) = ack_depths(sock)
    {
        handshake::ack_refused(listener, depths, true, ctx.packet(1));
    }
}
