//! A kernel that refuses a hook, or does not have it: what hangs on it is unavailable, with the reason, and nothing
//! else changes.

use listentop::source::{
    Source as _,
    live::{Kind, LiveSource, Options, StartError},
};
use listentop_model::coverage::{Coverage, Measure, Status};

use crate::{
    command_line::held,
    support::{
        Lab, Test, Watch,
        environment::older_than,
        lab::PORT,
        skip,
        sockets::{accept, connect, listen, receive, send_all},
    },
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "refused::tracepoints_one_by_one", needs: &[], run: tracepoints },
    Test { name: "refused::several_at_once", needs: &[], run: several },
    Test { name: "refused::what_nothing_can_do_without", needs: &[], run: essential },
];

/// What needs a kernel that takes probes on functions. Not every machine that tests may say so has one: for `cargo
/// xtask kernels`, which knows what each kernel is to take.
pub(crate) const OF_FUNCTIONS: &[Test] = &[
    Test { name: "refused::functions_one_by_one", needs: &[], run: functions },
    Test { name: "refused::functions_fall_back_to_tracepoints", needs: &[], run: fall_back },
    Test { name: "refused::functions_do_without_dear_tracepoints", needs: &[], run: none_dear },
];

use Measure::{
    AcceptWait, Accepts, CookiesSent, DropCause, DropClients, Drops, FirstByte, FirstRead, OpenConnections,
    QueuedBytes, Reads, Residency, SynQueueDepth, SynRequests, SynackRetransmits, WouldBlock, Writes,
};

const READING: &[Measure] = &[Reads, Residency, FirstRead, FirstByte, QueuedBytes];
const ACCEPTING: &[Measure] = &[Accepts, AcceptWait, WouldBlock, OpenConnections, FirstByte, FirstRead];
const REFUSING: &[Measure] = &[Drops, DropCause, DropClients];

/// Hooks and what is unavailable without them, where only tracepoints are used.
const TRACEPOINTS: &[(&str, &[Measure])] = &[
    ("tp_btf/sock_recv_length", READING),
    ("tp_btf/sock_send_length", &[Writes]),
    ("tp_btf/kfree_skb", REFUSING),
    ("tp_btf/tcp_retransmit_synack", &[SynackRetransmits]),
    ("tracepoint/syscalls/sys_exit_accept4", ACCEPTING),
    ("tracepoint/syscalls/sys_exit_accept", ACCEPTING),
    // Kernels without io_uring have no accepts by it, those without splice no such reads.
    ("tp_btf/io_uring_complete", &[]),
    ("tracepoint/syscalls/sys_exit_splice", &[]),
];

/// The same, where only functions are used.
const FUNCTIONS: &[(&str, &[Measure])] = &[
    ("fexit/tcp_recvmsg", READING),
    ("fexit/tcp_sendmsg", &[Writes]),
    ("fexit/tcp_check_req", REFUSING),
    ("fexit/tcp_conn_request", &[SynRequests, CookiesSent]),
    ("fexit/inet_csk_reqsk_queue_hash_add", &[SynRequests, CookiesSent]),
    ("fexit/inet_csk_accept", ACCEPTING),
    ("fentry/sock_def_readable", &[Residency, FirstByte, QueuedBytes]),
    ("fexit/tcp_splice_read", &[]),
    // The packet tells nearly as much.
    ("fexit/tcp_v4_syn_recv_sock", &[]),
    ("fexit/tcp_v6_syn_recv_sock", &[]),
    // A tracepoint that costs more tells the same.
    ("fentry/inet_csk_listen_stop", &[]),
    ("fexit/__x64_sys_accept4", &[]),
    // Without it io_uring's accepts in vain are not seen.
    ("tp_btf/io_uring_complete", &[]),
];

fn options(kind: Option<Kind>, refuse: &[&str]) -> Options {
    Options { kind, refuse: refuse.iter().map(|hook| (*hook).to_owned()).collect(), ..Options::default() }
}

/// Coverage where nothing is refused that the kernel does not refuse itself; skips the test where these probes do not
/// run.
fn whole(kind: Kind) -> Vec<Coverage> {
    match LiveSource::start(&options(Some(kind), &[])) {
        Ok(mut source) => source.sample().expect("a sample").coverage,
        Err(error) => skip(error.to_string()),
    }
}

fn find(coverage: &[Coverage], measure: Measure) -> &Coverage {
    coverage.iter().find(|entry| entry.measure == measure).expect("every measure has its coverage")
}

/// Without functions that see SYNs these are sampled: read now and then, inferred, or bounds.
const LESS_WELL: &[Measure] = &[SynQueueDepth, DropCause, DropClients];

/// Without one of these a refused final ACK is told by the packet and the depth of the queue; not before 5.17, where
/// programs may not look behind an argument of `tcp_check_req` that tells whether another one was first.
const ACKS_TOLD_WELL: &[&str] = &["fexit/tcp_v4_syn_recv_sock", "fexit/tcp_v6_syn_recv_sock"];

/// Each of `lost` is unavailable and says which hook is missing; no other measure is worse off than before, but for
/// those that requests tell better, and for those that tell of final ACKs.
fn assert_lost(whole: &[Coverage], now: &[Coverage], hook: &str, lost: &[Measure]) {
    for measure in Measure::ALL {
        let (before, after) = (find(whole, *measure), find(now, *measure));
        let name = measure.name();
        if lost.contains(measure) {
            assert_eq!(after.status, Status::Unavailable, "{name} without {hook}");
            // Where it was unavailable already, another reason came first.
            if before.status != Status::Unavailable {
                assert!(after.reason.contains(hook), "{name} without {hook}: {}", after.reason);
            }
        } else if (lost.contains(&SynRequests) && LESS_WELL.contains(measure))
            || (ACKS_TOLD_WELL.contains(&hook) && [Drops, DropCause].contains(measure))
        {
            let close = after.status == before.status || after.status == Status::Sampled;
            assert!(close, "{name} without {hook}: {}", after.reason);
        } else {
            assert_eq!(after.status, before.status, "{name} without {hook}: {}", after.reason);
        }
    }
}

/// A connection, a request and an answer: counted by what is left, and unknown, not 0, where the hook is missing.
fn assert_counts(watch: &mut Watch, hook: &str) {
    let listener = listen(PORT, 16);
    let client = connect(PORT);
    let server = accept(&listener).expect("a connection");
    send_all(&client, b"hello");
    assert_eq!(receive(&server, 10), 5);
    send_all(&server, b"ok");
    watch.sample();
    let coverage = watch.model().coverage.clone();
    let measured = |measure| find(&coverage, measure).status != Status::Unavailable;
    let seen = &watch.listener(PORT).total;
    let expected = |measure, n| measured(measure).then_some(n);
    assert_eq!(seen.enqueued, Some(1), "without {hook}");
    assert_eq!(seen.accepts, expected(Accepts, 1), "without {hook}");
    assert_eq!((seen.reads, seen.read_bytes), (expected(Reads, 1), expected(Reads, 5)), "without {hook}");
    assert_eq!((seen.writes, seen.write_bytes), (expected(Writes, 1), expected(Writes, 2)), "without {hook}");
}

fn one_by_one(lab: &Lab, kind: Kind, hooks: &[(&str, &[Measure])]) {
    let whole = whole(kind);
    for (hook, lost) in hooks {
        let lost = if ACKS_TOLD_WELL.contains(hook) && older_than(5, 17) { REFUSING } else { lost };
        let mut watch = Watch::with(lab, &options(Some(kind), &[hook]));
        assert_lost(&whole, &watch.model().coverage, hook, lost);
        assert_counts(&mut watch, hook);
    }
}

fn tracepoints(lab: &Lab) {
    one_by_one(lab, Kind::Tracepoint, TRACEPOINTS);
}

fn functions(lab: &Lab) {
    one_by_one(lab, Kind::Fentry, FUNCTIONS);
}

/// Where both run, a function that is refused costs only what no tracepoint tells.
fn fall_back(lab: &Lab) {
    whole(Kind::Fentry);
    let whole = whole(Kind::Tracepoint);
    let functions = FUNCTIONS.iter().map(|(hook, _)| *hook).chain(["fexit/inet_csk_complete_hashdance"]);
    let refuse: Vec<&str> = functions.collect();
    let mut watch = Watch::with(lab, &options(None, &refuse));
    for measure in Measure::ALL {
        let (tracepoints, now) = (find(&whole, *measure), find(&watch.model().coverage, *measure));
        assert!(
            now.status != Status::Unavailable || tracepoints.status == Status::Unavailable,
            "{}: {}",
            measure.name(),
            now.reason
        );
    }
    assert_counts(&mut watch, "functions");
}

/// A system call's tracepoint slows every call of every process, the one of socket states runs eight times for each
/// connection.
fn none_dear(_: &Lab) {
    whole(Kind::Fentry);
    let mut trials = Vec::new();
    drop(LiveSource::try_start(&options(Some(Kind::Fentry), &[]), &mut trials).expect("they ran just now"));
    let dear = |target: &str| target.starts_with("tracepoint/syscalls/") || target == "tp_btf/inet_sock_set_state";
    let refused: Vec<_> = trials.iter().filter(|trial| trial.outcome.is_err()).collect();
    for trial in trials.iter().filter(|trial| trial.outcome.is_ok()) {
        assert!(!dear(&trial.target), "{} is in use, because of {refused:?}", trial.target);
    }
}

/// Losses add up.
fn several(lab: &Lab) {
    let whole = whole(Kind::Tracepoint);
    let refuse = ["tp_btf/sock_send_length", "tp_btf/kfree_skb", "tp_btf/tcp_retransmit_synack"];
    let mut watch = Watch::with(lab, &options(Some(Kind::Tracepoint), &refuse));
    for measure in Measure::ALL {
        let lost = *measure == Writes || *measure == SynackRetransmits || REFUSING.contains(measure);
        let (before, after) = (find(&whole, *measure), find(&watch.model().coverage, *measure));
        let expected = if lost { Status::Unavailable } else { before.status };
        assert_eq!(after.status, expected, "{}: {}", measure.name(), after.reason);
    }
    assert_counts(&mut watch, "three hooks");
}

/// An error that names the hook, and nothing is left of what was attached before it.
fn essential(_: &Lab) {
    whole(Kind::Tracepoint);
    let ours = || ["prog_id:", "link_id:", "map_id:"].map(|kind| held(std::process::id(), kind));
    let before = ours();
    for hook in ["tp_btf/tcp_destroy_sock", "tp_btf/inet_sock_set_state", "tp_btf/sk_data_ready"] {
        let error = LiveSource::start(&options(Some(Kind::Tracepoint), &[hook])).expect_err(hook);
        assert!(matches!(&error, StartError::Refused(_)) && error.to_string().contains(hook), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert_eq!(ours(), before, "left behind without {hook}");
    }
}
