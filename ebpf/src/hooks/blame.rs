//! Hooks of queue-wait blame: what changes the depth of accept queues, what acceptors do, and which code they run. They
//! are programs of their own: where nobody is to be blamed none is attached, and no other does more.

use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, FExitContext, PerfEventContext, TracePointContext};
use core::ffi::c_void;
use listentop_abi::{connection::Connection, listener::ListenerRef};

use super::{
    functions::ACCEPT_RESULT, iterators::walk, reading, sockets::listener_behind, uring::result as uring_result,
};
use crate::{
    blame, config,
    context::{Arguments as _, argument, programs, syscall_result},
    kernel::{self, LISTEN, LiveTask, MaybeGone},
    maps::listener_at,
    record,
    values::{MapValue, field},
};

programs! {
    btf_tracepoint("sk_data_ready") blame_queued(BtfTracePointContext);
    fentry("sock_def_readable") blame_queued_by_function(FEntryContext);
    fexit("inet_csk_accept") blame_accepted(FExitContext);
    tracepoint blame_exit_accept(TracePointContext);
    btf_tracepoint("io_uring_complete") blame_uring(BtfTracePointContext);
    btf_tracepoint("sched_switch") blame_switch(BtfTracePointContext);
    btf_tracepoint("sched_wakeup") blame_wakeup(BtfTracePointContext);
    perf_event blame_sample(PerfEventContext);
}

/// sk_data_ready(sk) on a listener: a connection was enqueued.
#[inline(always)]
fn blame_queued(ctx: &BtfTracePointContext) {
    let sock = ctx.socket(0);
    if sock.state() == LISTEN
        && let Some(listener) = listener_at(sock.key())
    {
        blame::depth_changed(listener);
    }
}

/// sock_def_readable(sk), where that tracepoint does not exist.
#[inline(always)]
fn blame_queued_by_function(ctx: &FEntryContext) {
    let sock = ctx.socket(0);
    if sock.state() == LISTEN
        && let Some(listener) = listener_at(sock.key())
    {
        blame::depth_changed(listener);
    }
}

/// inet_csk_accept(sk, …) returns, with a connection or without.
#[inline(always)]
fn blame_accepted(ctx: &FExitContext) {
    if config::blames_readers() {
        let child = argument(ctx, ACCEPT_RESULT.load());
        reading::used(MaybeGone::of(child as *const u8));
    } else if let Some(listener) = listener_at(ctx.socket(0).key()) {
        accepts(listener);
    }
}

/// accept and accept4 return.
#[inline(always)]
fn blame_exit_accept(ctx: &TracePointContext) {
    let ret = syscall_result(ctx);
    if config::blames_readers() {
        used(ret);
        return;
    }
    let connection = if ret < 0 { None } else { accepted(ret as u32) };
    // A failed one's listener follows from its arguments, which programs can read since 5.15.
    let listener = connection.or_else(|| listener_behind(kernel::current_socket(kernel::current_argument()? as u32)?));
    if let Some(listener) = listener {
        accepts(listener);
    }
}

/// The listener through which a connection of the current process came.
#[inline(always)]
fn accepted(fd: u32) -> Option<ListenerRef> {
    let socket = kernel::current_socket(fd)?;
    let of = |connection: MapValue<Connection>| field!(connection.listener).get();
    if let Some(connection) = record::of(socket) {
        return Some(of(connection));
    }
    if !socket.is_mptcp() {
        return None;
    }
    record::of(socket.first_subflow()).map(of)
}

/// An accept returned this descriptor, or failed.
#[inline(always)]
fn used(descriptor: i64) {
    if descriptor >= 0
        && let Some(socket) = kernel::current_socket(descriptor as u32)
    {
        reading::used(socket);
    }
}

/// io_uring_complete(ctx, req, …), in the thread in whose context the request completes.
#[inline(always)]
fn blame_uring(ctx: &BtfTracePointContext) {
    let request: u64 = ctx.arg(1);
    if config::blames_readers() {
        let result = i64::from(uring_result(ctx));
        match kernel::opcode(request) {
            // One of a multishot accept's, or of something else.
            None if result >= 0 => {
                if let Some(socket) = kernel::current_socket(result as u32) {
                    reading::perhaps_accepted(socket);
                }
            }
            // Into a fixed file none returns a descriptor: a read shows it.
            Some(opcode) if kernel::is_accept(opcode) && !kernel::accepts_into_fixed_file(request) => used(result),
            _ => {}
        }
        return;
    }
    if kernel::opcode(request).is_some_and(kernel::is_accept)
        && let Some(listener) = kernel::request_socket(request).and_then(listener_behind)
    {
        accepts(listener);
    }
}

#[inline(always)]
fn accepts(listener: ListenerRef) {
    if blame::watched(listener).is_none() {
        return;
    }
    blame::settle(listener);
    blame::accepts(listener);
}

/// sched_switch(preempt, prev, next), with the state of `prev` since 5.18. `prev` is the current thread still.
#[inline(always)]
fn blame_switch(ctx: &BtfTracePointContext) {
    blame::leaves(ctx, ctx.word(0) as u8 != 0, ctx.task(1));
    blame::enters(ctx.task(2));
}

/// sched_wakeup(p).
#[inline(always)]
fn blame_wakeup(ctx: &BtfTracePointContext) {
    blame::wakes(ctx.task(0));
}

/// The clock of a CPU (PERF_COUNT_SW_CPU_CLOCK).
#[inline(always)]
fn blame_sample(ctx: &PerfEventContext) {
    blame::sampled(ctx, aya_ebpf::helpers::bpf_get_current_pid_tgid() as u32);
}

walk! {
    /// Walks the listeners: reads each one's depth anew, in case a change of it was not seen.
    blame_refresh, blame_refresh_one: u64 => look_at_queue
}

#[inline(always)]
fn look_at_queue<const ONE: bool>(key: u64) {
    if let Some(listener) = listener_at(key) {
        blame::settle(listener);
    }
}

/// Context of iter/task.
#[repr(C)]
pub(crate) struct VisitedTask {
    meta: *const c_void,
    task: *const u8,
}

/// Makes those that user space knows acceptors, with what they do at that moment.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub(crate) extern "C" fn blame_visit(ctx: &VisitedTask) -> i32 {
    if !ctx.task.is_null() {
        // SAFETY: the task in the iterator's context, which the iterator holds while the program runs.
        blame::visit(unsafe { LiveTask::new(ctx.task) });
    }
    0
}
