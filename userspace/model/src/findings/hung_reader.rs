//! Requests wait unread on accepted connections, and nobody reads.

use super::{FindingInput, FindingKind, Found, HUNG_US, duration, ms, plural, stall};
use crate::{
    catalogue::thresholds,
    model::{Severity, ThreadModel},
};

thresholds! {
    /// Where the age of unread bytes is not known: more than a few requests in flight would leave, and less than the
    /// receive buffer of one connection.
    QUEUED_BYTES: u64 = 64 << 10, Bytes;
    /// The oldest byte may have come this long before the last read, in the same round of the event loop.
    SAME_ROUND_US: u64 = 1_000_000, Micros;
}

/// Where a thread sleeps that waits for whatever comes next. The kernel wakes it for new bytes; bytes that it leaves
/// are left on purpose.
const WAITS_FOR_EVENTS: &[&str] =
    &["ep_poll", "do_epoll_wait", "epoll_wait", "epoll_pwait", "epoll_pwait2", "io_cqring_wait", "io_uring_enter"];
/// Where a thread sleeps that waits for one thing: a connection, the bytes of one client. It is stuck for all others,
/// but of several threads it is less likely the one that others wait for.
const WAITS_FOR_ONE: &[&str] = &[
    "accept",
    "accept4",
    "inet_csk_accept",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "sk_wait_data",
    "wait_woken",
    "poll",
    "ppoll",
    "select",
    "pselect6",
];
/// Where a thread of a pool sleeps that has nothing to do.
const WAITS_FOR_WORK: &[&str] = &["futex", "futex_wait", "futex_wait_queue", "futex_wait_queue_me"];

pub(super) const KIND: FindingKind = FindingKind {
    id: "hung_reader",
    meaning: "Clients that are connected have sent requests, and the program has stopped reading: it hangs, also if no new client \
              shows that by waiting to be accepted.",
    when: "The oldest unread byte of an accepted connection has waited longer than {HUNG_US}, and the listener read nothing since \
           (but for {SAME_ROUND_US} around its arrival) nor in the recent span. Where ages are not known: {QUEUED_BYTES} wait unread. \
           Threads that sleep in epoll or io_uring leave bytes on purpose: beside one of them only a thread that is elsewhere, and \
           not on a futex, counts.",
    severity: "critical if a thread is known to do something else or nothing, else warning",
    follows_from: &["accept_errors", "cpu_starved_acceptor", "dead_shard", "hung_acceptor", "busy_acceptor"],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    if l.closed || l.rate.reads != Some(0.0) {
        return None;
    }
    let queued = l.now.queued_bytes.unwrap_or(0);
    let quiet = input.activity.without_read_us(input.now_us());
    let waited = match l.now.oldest_unread_us {
        Some(us) if us > HUNG_US && us <= quiet.saturating_add(SAME_ROUND_US) => us,
        None if queued >= QUEUED_BYTES && quiet > HUNG_US => quiet,
        _ => return None,
    };
    let readers = || l.threads.iter().filter(|t| !t.ended && t.summed.is_none() && t.reads + t.accepts > 0);
    let known: Vec<&ThreadModel> = readers().filter(|t| t.state.is_some()).collect();
    let awake = known.iter().any(|t| sleeps_in(t, WAITS_FOR_EVENTS));
    // A pool's thread sleeps on a futex until the event loop has work for it.
    let idle = |t: &ThreadModel| sleeps_in(t, WAITS_FOR_EVENTS) || awake && sleeps_in(t, WAITS_FOR_WORK);
    let elsewhere = |t: &&ThreadModel| !idle(t);
    let stuck = known.iter().copied().filter(elsewhere).min_by_key(|t| sleeps_in(t, WAITS_FOR_ONE));
    if awake && stuck.is_none() {
        return None;
    }
    let thread = stuck.or_else(|| readers().next());
    let state =
        stuck.and_then(|t| Some(format!(" {} is {}.", stall::name(t), stall::whereabouts(t)?))).unwrap_or_default();
    let who = thread.map_or_else(|| "the threads that read".to_owned(), stall::name);
    let look = thread.map_or_else(|| stall::look_at_owner(l), stall::look);
    let mut evidence = vec![("without_read_ms", ms(quiet)), ("queued_bytes", queued as f64)];
    evidence.extend(l.now.oldest_unread_us.map(|us| ("oldest_unread_ms", ms(us))));
    evidence.extend(l.now.open.map(|n| ("open_connections", n as f64)));
    let open = l.now.open.map_or(String::new(), |n| format!(" on {}", plural(n, "open connection")));
    let (bytes, waited_for) = (plural(queued, "byte"), duration(waited));
    Some(
        Found::new(
            &KIND,
            if stuck.is_some() { Severity::Critical } else { Severity::Warning },
            format!("Nothing is read: {bytes} wait unread{open}, the oldest for {waited_for}.{state}"),
            evidence,
            format!(
                "Find out what {who} does instead of reading. {look} Usual causes are a blocking call, a lock or one long request on \
                 an event loop. Backlog, receive buffers and acceptors change nothing."
            ),
        )
        .lasting(waited)
        .remembered(
            waited as f64,
            format!("Nothing was read: {bytes} waited unread{open}, the oldest for {waited_for}.{}", state.replace(" is ", " was ")),
            format!(
                "What {who} did at that time its log shows, or a tracer that runs when it happens again. Usual causes are a blocking \
                 call, a lock or one long request on an event loop. Backlog, receive buffers and acceptors change nothing."
            ),
        ),
    )
}

/// One that is stopped is in no system call, though it will go on in one.
fn sleeps_in(thread: &ThreadModel, known: &[&str]) -> bool {
    let state = thread.state.as_ref().filter(|state| state.letter == 'S');
    let places = state.map(|state| [state.wchan.as_deref(), state.syscall.as_deref()]);
    places.into_iter().flatten().flatten().any(|place| known.contains(&place))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, severities},
        *,
    };
    use crate::fixtures::thread_state;

    /// Bytes wait unread for so long; the last read was so many seconds ago.
    fn unread(case: &mut Case, (oldest_us, read_seconds_ago): (Option<u64>, u64)) {
        let l = &mut case.listener;
        l.now.queued_bytes = Some(300);
        l.now.oldest_unread_us = oldest_us;
        l.now.open = Some(50);
        l.rate.reads = Some(0.0);
        l.total.reads = Some(7);
        l.threads[0].reads = 7;
        case.observe(read_seconds_ago);
        case.observe(0);
    }

    #[test]
    fn a_second_is_too_long() {
        let cases = [(Some(1_000_000), 2), (Some(1_000_001), 2), (Some(0), 2), (None, 2)];
        assert_eq!(severities(&KIND, unread, cases), [NONE, WARNING, NONE, NONE]);
    }

    #[test]
    fn bytes_that_are_left_while_others_are_read_are_left_on_purpose() {
        let cases = [(Some(4_000_000), 3), (Some(4_000_001), 3), (Some(9_000_000), 0)];
        assert_eq!(severities(&KIND, unread, cases), [WARNING, NONE, NONE]);
        let mut case = Case::with(|case| unread(case, (Some(2_000_000), 2)));
        assert!(case.find(&KIND).is_some());
        case.listener.rate.reads = Some(0.5);
        assert_eq!(case.find(&KIND), None);
        case.listener.rate.reads = None;
        assert_eq!(case.find(&KIND), None);
        case.listener.rate.reads = Some(0.0);
        case.listener.closed = true;
        assert_eq!(case.find(&KIND), None);
    }

    #[test]
    fn where_ages_are_not_known_the_bytes_tell() {
        let bytes = |case: &mut Case, bytes| {
            unread(case, (None, 2));
            case.listener.now.queued_bytes = bytes;
        };
        let found = severities(&KIND, bytes, [Some(65_535), Some(65_536), None]);
        assert_eq!(found, [NONE, WARNING, NONE]);
    }

    #[test]
    fn a_thread_that_waits_for_events_leaves_them_on_purpose() {
        let state = |case: &mut Case, states: &[(&str, &str)]| {
            unread(case, (Some(2_000_000), 2));
            for (thread, (wchan, syscall)) in case.listener.threads.iter_mut().zip(states) {
                thread.reads = 1;
                thread.state = Some(thread_state('S', wchan, syscall));
            }
        };
        let found = severities(
            &KIND,
            state,
            [
                &[("ep_poll", "epoll_wait")][..],
                &[("hrtimer_nanosleep", "clock_nanosleep")],
                &[("ep_poll", "epoll_wait"), ("futex_wait_queue", "futex")],
                &[("ep_poll", "epoll_wait"), ("hrtimer_nanosleep", "clock_nanosleep")],
                &[("futex_wait_queue", "futex")],
                &[],
            ],
        );
        assert_eq!(found, [NONE, CRITICAL, NONE, CRITICAL, CRITICAL, WARNING]);
    }

    #[test]
    fn a_stopped_thread_waits_for_nothing() {
        let mut case = Case::with(|case| unread(case, (Some(2_000_000), 2)));
        case.listener.threads[0].state = Some(thread_state('T', "do_signal_stop", "epoll_wait"));
        let found = case.find(&KIND).unwrap();
        assert_eq!(Some(found.severity), CRITICAL);
        assert!(found.summary.contains("srv (thread 1) is stopped by a signal"), "{}", found.summary);
    }

    #[test]
    fn of_several_threads_the_one_that_waits_for_no_client_is_named() {
        let mut case = Case::with(|case| unread(case, (Some(2_000_000), 2)));
        let states = [("wait_woken", "recvfrom"), ("hrtimer_nanosleep", "clock_nanosleep"), ("", "read")];
        for (thread, (wchan, syscall)) in case.listener.threads.iter_mut().zip(states) {
            thread.reads = 1;
            thread.state = Some(thread_state('S', wchan, syscall));
        }
        assert!(case.find(&KIND).unwrap().summary.contains("srv (thread 2) is asleep (state S) in hrtimer_nanosleep"));
        case.listener.threads[1].ended = true;
        assert!(case.find(&KIND).unwrap().summary.contains("srv (thread 1) is asleep (state S) in wait_woken"));
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| unread(case, (Some(3_400_000), 3)));
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "Nothing is read: 300 bytes wait unread on 50 open connections, the oldest for 3.4 s."
        );
        let figures = [
            ("without_read_ms", 3_000.0),
            ("queued_bytes", 300.0),
            ("oldest_unread_ms", 3_400.0),
            ("open_connections", 50.0),
        ];
        assert_eq!(found.evidence, figures);
        assert!(
            found.advice.contains("what srv (thread 1) does instead of reading. Look: strace -p 1,"),
            "{}",
            found.advice
        );
        let past = found.past.unwrap().summary;
        assert_eq!(past, "Nothing was read: 300 bytes waited unread on 50 open connections, the oldest for 3.4 s.");
        case.listener.threads[0].state = Some(thread_state('T', "do_signal_stop", ""));
        let found = case.find(&KIND).unwrap();
        assert!(
            found.summary.ends_with("srv (thread 1) is stopped by a signal (state T) in do_signal_stop."),
            "{}",
            found.summary
        );
        assert!(found.advice.contains("Let it go on: kill -CONT 1."), "{}", found.advice);
    }
}
