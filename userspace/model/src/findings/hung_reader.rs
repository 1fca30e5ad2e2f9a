//! Requests wait unread on accepted connections, and nobody reads.

use std::cmp::Reverse;

use super::{FindingInput, FindingKind, Found, HUNG_US, agree, duration, grouped, ms, plural, stall};
use crate::{
    catalogue::thresholds,
    connections::Connection,
    model::{ListenerModel, Severity, ThreadModel, ThreadState},
};

thresholds! {
    /// Where the age of unread bytes is not known: more than a few requests in flight would leave, and less than the
    /// receive buffer of one connection.
    QUEUED_BYTES: u64 = 64 << 10, Bytes;
    /// The oldest byte may have come this long before the last read, in the same round of the event loop.
    SAME_ROUND_US: u64 = 1_000_000, Micros;
    /// While others read: a thread that runs is stuck if it ran, or waited for a CPU, for so much of the time since its
    /// last read. One that runs just now may have waited for events until then.
    RUNS: f64 = 0.5, Share;
    /// Readers that hang while others read are critical if they are so many of all, or made so many of the reads.
    MOST: f64 = 0.5, Share;
}

/// So many unread bytes of unknown age are worth a word.
pub(crate) const MANY_UNREAD: u64 = QUEUED_BYTES;

/// Where a thread sleeps that waits for whatever comes next. The kernel wakes it for new bytes; bytes that it leaves
/// are left on purpose.
pub(super) const WAITS_FOR_EVENTS: &[&str] =
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
    // After a signal the system call is another one (restart_syscall).
    "do_poll",
    "do_sys_poll",
    "poll_schedule_timeout",
    "do_select",
];
/// Where a thread of a pool sleeps that has nothing to do.
pub(super) const WAITS_FOR_WORK: &[&str] =
    &["futex", "futex_wait", "futex_wait_queue", "futex_wait_queue_me", "futex_do_wait"];

pub(super) const KIND: FindingKind = FindingKind {
    id: "hung_reader",
    meaning: "Clients that are connected have sent requests, and the program, or one of several threads or processes that read, has \
              stopped reading: it hangs, also if no new client shows that by waiting to be accepted.",
    when: "The oldest unread byte of an accepted connection has waited longer than {HUNG_US}, and the listener read nothing since \
           (but for {SAME_ROUND_US} around its arrival) nor in the recent span. Where ages are not known: {QUEUED_BYTES} wait unread. \
           Threads that sleep in epoll or io_uring leave bytes on purpose: beside one of them only a thread that is elsewhere, and \
           not on a futex, counts. While others read: a thread that read before has read nothing for {HUNG_US}, nor since that byte \
           came (but for {SAME_ROUND_US}), and does not wait for input: it is stopped, in an uninterruptible sleep, asleep \
           elsewhere than in epoll, io_uring, poll, select, accept, a read or a futex, or it runs, and did for {RUNS} of the time \
           since.",
    severity: "critical if nothing is read and a thread is known to do something else or nothing, or if such threads are {MOST} of \
               the readers or made {MOST} of the reads; else warning",
    follows_from: &["accept_errors", "cpu_starved_acceptor", "dead_shard", "hung_acceptor", "busy_acceptor"],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    if l.closed {
        return None;
    }
    match l.rate.reads {
        Some(0.0) => nobody_reads(input),
        Some(_) => some_do_not_read(input),
        None => None,
    }
}

/// Nothing is read from the listener's connections.
fn nobody_reads(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
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
    evidence.extend(l.now.accepted_unread_bytes.map(|n| ("accepted_unread_bytes", n as f64)));
    // What came on connections that wait to be accepted is nobody's to read yet.
    let accepted = l.now.accepted_unread_bytes.or_else(|| (l.now.accept_depth == 0).then_some(queued));
    let bytes = plural(accepted.unwrap_or(queued), "byte");
    let open = match (accepted, l.now.open) {
        (Some(_), None) => " on accepted connections".to_owned(),
        (Some(_), Some(n)) => format!(" on accepted connections ({} {} open)", grouped(n), agree(n, "is", "are")),
        (None, _) => " on accepted connections and on those that wait to be accepted".to_owned(),
    };
    let waited_for = duration(waited);
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
            format!(
                "Nothing was read: {bytes} waited unread{}, the oldest for {waited_for}.{}",
                open.replace(" are open", " were open").replace(" is open", " was open").replace("that wait ", "that waited "),
                state.replace(" is ", " was ")
            ),
            format!(
                "What {who} did at that time its log shows, or a tracer that runs when it happens again. Usual causes are a blocking \
                 call, a lock or one long request on an event loop. Backlog, receive buffers and acceptors change nothing."
            ),
        ),
    )
}

/// Others read, but some do not, and do not wait for anything to read.
fn some_do_not_read(input: &FindingInput<'_>) -> Option<Found> {
    let (l, now_us) = (input.listener, input.now_us());
    let waited = l.now.oldest_unread_us.filter(|us| *us > HUNG_US)?;
    let readers: Vec<&ThreadModel> =
        l.threads.iter().filter(|t| !t.ended && t.summed.is_none() && t.reads > 0).collect();
    let left = left_by(l, waited);
    let is_stuck = |t: &ThreadModel| {
        let quiet = input.activity.reader_without_read_us(t, now_us).unwrap_or(0);
        let was_last = left.iter().any(|(_, tid)| *tid == Some(t.tid));
        quiet > HUNG_US
            && waited <= quiet.saturating_add(SAME_ROUND_US)
            && (left.is_empty() || left.iter().any(|(pid, _)| *pid == t.pid))
            && is_elsewhere(t, was_last, || input.activity.running_since_read(t, now_us))
    };
    let mut stuck: Vec<&ThreadModel> = readers.iter().copied().filter(|t| is_stuck(t)).collect();
    // The one on which most depend.
    stuck.sort_by_key(|t| (!left.iter().any(|(_, tid)| *tid == Some(t.tid)), Reverse(t.reads)));
    let first = stuck.first()?;
    let (n, of) = (stuck.len(), readers.len());
    let reads = |threads: &[&ThreadModel]| threads.iter().map(|t| t.reads).sum::<u64>() as f64;
    let share = (reads(&stuck) / reads(&readers).max(1.0)).max(n as f64 / of as f64);
    let quiet = input.activity.reader_without_read_us(first, now_us).unwrap_or(0);
    let (name, oldest) = (stall::name(first), duration(waited));
    let who = format!("{n} of {}", plural(of as u64, "reader"));
    let state = stall::whereabouts(first).map_or(String::new(), |place| format!(" {name} is {place}."));
    let mut evidence = vec![
        ("stuck_readers", n as f64),
        ("readers", of as f64),
        ("share", share),
        ("without_read_ms", ms(quiet)),
        ("oldest_unread_ms", ms(waited)),
    ];
    evidence.extend(l.now.open.map(|n| ("open_connections", n as f64)));
    let change = "Usual causes are a blocking call, a lock or one long request on an event loop. Its clients wait for it alone: the \
                  other readers cannot take them over, and backlog, receive buffers and acceptors change nothing.";
    Some(
        Found::new(
            &KIND,
            if share >= MOST { Severity::Critical } else { Severity::Warning },
            format!(
                "{who} {} nothing, while the others read: the oldest unread byte has waited for {oldest}.{state}",
                agree(n as u64, "reads", "read")
            ),
            evidence,
            format!("Find out what {name} does instead of reading. {} {change}", stall::look(first)),
        )
        .lasting(waited)
        .remembered(
            waited as f64,
            format!(
                "{who} read nothing, while the others did: the oldest unread byte waited for {oldest}.{}",
                state.replace(" is ", " was ")
            ),
            format!(
                "What {name} did at that time its log shows, or a tracer that runs when it happens again. {change}"
            ),
        ),
    )
}

/// The threads that read last from the connections whose bytes have waited too long: process, thread. Empty if that is
/// not known of each of them.
fn left_by(l: &ListenerModel, waited_us: u64) -> Vec<(u32, Option<u32>)> {
    let Some(unread) = l.connections.as_ref().map(|lists| &lists.unread).filter(|list| list.cut() == 0) else {
        return Vec::new();
    };
    let since = |connection: &Connection| connection.since_ns;
    let Some(oldest) = unread.connections.iter().filter_map(since).min() else { return Vec::new() };
    let too_long = oldest.saturating_add(waited_us.saturating_sub(HUNG_US).saturating_mul(1_000));
    let old = unread.connections.iter().filter(|c| since(c).is_none_or(|since| since <= too_long));
    let readers = old.map(|c| c.reader.as_ref().map(|reader| (reader.pid, reader.tid)));
    readers.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// Whether a thread does not wait for input. `was_last`: it read last from a connection whose bytes have waited long,
/// so if it waits for one thing, that is something else.
fn is_elsewhere(t: &ThreadModel, was_last: bool, running: impl Fn() -> Option<f64>) -> bool {
    let Some(state) = t.state.as_ref() else { return false };
    match state.letter {
        'T' | 't' | 'D' => true,
        'R' => running().is_some_and(|share| share >= RUNS),
        'S' => {
            let known = state.wchan.is_some() || state.syscall.is_some();
            let waits = sleeps_in(t, WAITS_FOR_EVENTS)
                || sleeps_in(t, WAITS_FOR_WORK)
                || !was_last && sleeps_in(t, WAITS_FOR_ONE);
            known && !waits
        }
        _ => false,
    }
}

pub(super) fn sleeps_in(thread: &ThreadModel, known: &[&str]) -> bool {
    is_asleep_in(thread.state.as_ref(), known)
}

/// One that is stopped is in no system call, though it will go on in one.
pub(super) fn is_asleep_in(state: Option<&ThreadState>, known: &[&str]) -> bool {
    let state = state.filter(|state| state.letter == 'S');
    let places = state.map(|state| [state.wchan.as_deref(), state.syscall.as_deref()]);
    // A compiler may have made a copy of a function: do_poll.constprop.0.
    let function = |place: &str| known.contains(&place.split('.').next().unwrap_or(place));
    places.into_iter().flatten().flatten().any(function)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, severities},
        *,
    };
    use crate::{
        connections::{Actor, ConnectionList, ConnectionLists},
        fixtures::{self, thread_state},
    };

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

    /// Bytes of connections that wait to be accepted are not said to be on accepted ones.
    #[test]
    fn the_bytes_are_those_of_accepted_connections() {
        let says = |accepted, depth, open| {
            let mut case = Case::with(|case| unread(case, (Some(2_000_000), 2)));
            let now = &mut case.listener.now;
            (now.queued_bytes, now.accepted_unread_bytes, now.accept_depth, now.open) =
                (Some(792), accepted, depth, open);
            let found = case.find(&KIND).unwrap();
            assert_eq!(found.evidence[1], ("queued_bytes", 792.0));
            found.summary.split(", the oldest").next().unwrap().to_owned()
        };
        let read = "Nothing is read: ";
        assert_eq!(
            says(Some(32), 8, Some(4)),
            format!("{read}32 bytes wait unread on accepted connections (4 are open)")
        );
        assert_eq!(says(Some(8), 8, Some(1)), format!("{read}8 bytes wait unread on accepted connections (1 is open)"));
        assert_eq!(says(None, 0, None), format!("{read}792 bytes wait unread on accepted connections"));
        let both = "792 bytes wait unread on accepted connections and on those that wait to be accepted";
        assert_eq!(says(None, 8, Some(4)), format!("{read}{both}"));
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

    /// Thread 1 and the threads with these reads and states; bytes wait for 9 s, and thread 1 read last so long ago.
    /// Others read on.
    fn some_hang(case: &mut Case, states: &[(u64, char, &str)], silent: &[u32]) {
        unread(case, (Some(9_000_000), 0));
        case.listener.rate.reads = Some(40.0);
        case.listener.threads[0].reads = 0;
        for (thread, (reads, letter, wchan)) in case.listener.threads.iter_mut().zip(states) {
            thread.reads = *reads;
            thread.state = Some(thread_state(*letter, wchan, wchan));
            (thread.on_cpu_us, thread.run_queue_us) = (Some(0), Some(0));
        }
        case.observe(9);
        for thread in case.listener.threads.iter_mut().filter(|t| t.reads > 0 && !silent.contains(&t.tid)) {
            thread.reads += 1;
        }
        case.observe(0);
    }

    #[test]
    fn one_reader_of_several_that_hangs_is_told_by_its_state() {
        let found = |letter, wchan| {
            let states = [(9, letter, wchan), (9, 'S', "ep_poll"), (9, 'S', "ep_poll"), (9, 'S', "ep_poll")];
            let case = Case::with(|case| some_hang(case, &states, &[1]));
            case.find(&KIND).map(|found| found.severity)
        };
        let stuck = [('T', "do_signal_stop"), ('t', "ptrace_stop"), ('D', "io_schedule"), ('S', "hrtimer_nanosleep")];
        assert_eq!(stuck.map(|(letter, wchan)| found(letter, wchan)), [WARNING; 4]);
        let waits = ["ep_poll", "io_cqring_wait", "futex_do_wait", "do_poll.constprop.0", "wait_woken", "accept4", ""];
        assert_eq!(waits.map(|wchan| found('S', wchan)), [NONE; 7]);
        assert_eq!(['R', 'Z'].map(|letter| found(letter, "")), [NONE; 2], "it runs just now, or has ended");
    }

    #[test]
    fn a_reader_that_runs_is_stuck_if_it_has_run_since() {
        let runs = |case: &mut Case, (on_cpu_us, queue_us): (u64, u64)| {
            let states = [(9, 'R', ""), (9, 'S', "ep_poll"), (9, 'S', "ep_poll"), (9, 'S', "ep_poll")];
            some_hang(case, &states, &[1]);
            let thread = &mut case.listener.threads[0];
            (thread.on_cpu_us, thread.run_queue_us) = (Some(on_cpu_us), Some(queue_us));
        };
        let cases = [(4_400_000, 0), (4_500_000, 0), (2_000_000, 2_500_000)];
        assert_eq!(severities(&KIND, runs, cases), [NONE, WARNING, WARNING]);
    }

    #[test]
    fn it_has_read_nothing_since_the_byte_came() {
        // Thread 1 is stopped; it read last so many seconds ago, and the oldest byte has waited for so long.
        let read = |case: &mut Case, (quiet, oldest_us): (u64, u64)| {
            let states = [(9, 'T', ""), (9, 'S', "ep_poll")];
            some_hang(case, &states, &[1]);
            case.listener.now.oldest_unread_us = Some(oldest_us);
            case.listener.threads[0].reads += 1;
            case.observe(quiet);
        };
        let cases = [(4, 5_000_000), (4, 5_000_001), (1, 1_500_000), (2, 1_500_000), (2, 1_000_000)];
        assert_eq!(severities(&KIND, read, cases), [CRITICAL, NONE, NONE, CRITICAL, NONE]);
    }

    #[test]
    fn readers_that_most_depend_on_are_critical() {
        let states = |reads: [u64; 4]| {
            let [a, b, c, d] = reads;
            let states = [(a, 'T', ""), (b, 'S', "ep_poll"), (c, 'S', "ep_poll"), (d, 'S', "ep_poll")];
            Case::with(|case| some_hang(case, &states, &[1])).find(&KIND).map(|found| found.severity)
        };
        assert_eq!(states([9, 9, 9, 9]), WARNING);
        assert_eq!(states([900, 9, 9, 9]), CRITICAL, "it made most of the reads");
        assert_eq!(states([9, 900, 0, 0]), CRITICAL, "it is one of two");
    }

    #[test]
    fn the_last_readers_of_the_connections_decide_where_they_are_known() {
        let stuck = |reader: Option<(u32, u32)>, total| {
            let states = [(9, 'S', "hrtimer_nanosleep"), (9, 'S', "wait_woken"), (9, 'S', "ep_poll")];
            let mut case = Case::with(|case| some_hang(case, &states, &[1, 2]));
            let listed = fixtures::connections().pop().unwrap().listeners[0].connections.clone().unwrap();
            let mut one = listed.unread.connections[0].clone();
            one.reader = reader.map(|(pid, tid)| Actor { pid, tid: Some(tid), comm: "srv".to_owned() });
            let unread = ConnectionList { connections: vec![one], total };
            case.listener.connections = Some(ConnectionLists { unread, ..Default::default() });
            case.find(&KIND).map(|found| found.summary.split(" reader").next().unwrap().to_owned())
        };
        assert_eq!(stuck(None, 1).as_deref(), Some("1 of 3"));
        assert_eq!(stuck(Some((1, 2)), 1).as_deref(), Some("2 of 3"), "what it waits for is not this client");
        assert_eq!(stuck(Some((77, 77)), 1), None, "another process left the bytes");
        assert_eq!(stuck(Some((77, 77)), 2).as_deref(), Some("1 of 3"), "not all are listed");
    }

    #[test]
    fn what_it_reports_of_one_of_several() {
        let states = [(900, 'T', "do_signal_stop"), (9, 'S', "ep_poll"), (9, 'S', "ep_poll"), (9, 'S', "ep_poll")];
        let found = Case::with(|case| some_hang(case, &states, &[1])).find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "1 of 4 readers reads nothing, while the others read: the oldest unread byte has waited for 9.0 s. srv (thread 1) is \
             stopped by a signal (state T) in do_signal_stop, system call do_signal_stop."
        );
        assert!(found.advice.contains("Let it go on: kill -CONT 1."), "{}", found.advice);
        assert_eq!(found.evidence[..2], [("stuck_readers", 1.0), ("readers", 4.0)]);
        assert_eq!(found.for_us, 9_000_000);
        let past = found.past.unwrap().summary;
        assert!(past.starts_with("1 of 4 readers read nothing, while the others did: the oldest unread byte waited for 9.0 s. srv (thread 1) was stopped"), "{past}");
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| unread(case, (Some(3_400_000), 3)));
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "Nothing is read: 300 bytes wait unread on accepted connections (50 are open), the oldest for 3.4 s."
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
        assert_eq!(
            past,
            "Nothing was read: 300 bytes waited unread on accepted connections (50 were open), the oldest for 3.4 s."
        );
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
