//! Listeners, processes and threads that begin, end and change.

use std::{
    collections::BTreeSet,
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::Command,
    thread,
};

use listentop::source::live::Options;
use listentop_model::{coverage::Measure, model::ListenerModel};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::options,
    lab::PORT,
    process::{self, Gate, fork, receive_descriptor, send_descriptor, wait_for_ever},
    sleep_ms,
    sockets::{accept, connect, cookie, listen, receive, send_all, wait_queued},
    tid,
    watch::{count, thread as record},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::Owners];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "lifecycle::close_while_connections_are_queued", needs: NEEDS, run: close_while_queued },
    Test { name: "lifecycle::client_gives_up_while_queued", needs: NEEDS, run: client_gives_up },
    Test { name: "lifecycle::closed_and_opened_again", needs: NEEDS, run: closed_and_opened_again },
    Test { name: "lifecycle::stops_and_listens_again", needs: NEEDS, run: listens_again },
    Test { name: "lifecycle::connections_outlive_their_listener", needs: NEEDS, run: connections_outlive },
    Test { name: "lifecycle::another_backlog", needs: NEEDS, run: another_backlog },
    Test { name: "lifecycle::inherited_by_a_child", needs: NEEDS, run: inherited },
    Test { name: "lifecycle::passed_to_another_process", needs: NEEDS, run: passed },
    Test { name: "lifecycle::shared_by_many_processes", needs: NEEDS, run: shared },
    Test { name: "lifecycle::another_name_after_exec", needs: NEEDS, run: exec },
    Test { name: "lifecycle::exec_of_a_known_owner", needs: NEEDS, run: exec_of_a_known_owner },
    Test { name: "lifecycle::an_id_used_again", needs: NEEDS, run: id_used_again },
    Test { name: "lifecycle::a_thousand_short_lived_threads", needs: NEEDS, run: short_lived_threads },
];

fn close_while_queued(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let id = cookie(&listener);
    let clients: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    let accepted = accept(&listener);
    wait_queued(&listener, 4);
    watch.sample();
    assert_eq!((watch.by_id(id).now.accept_depth, watch.by_id(id).total.aborted), (4, Some(0)));
    drop(listener);
    watch.sample();
    let seen = watch.by_id(id);
    assert!(seen.closed);
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(5), Some(1)));
    assert_eq!(seen.total.aborted, Some(4), "four were thrown away");
    assert_eq!(count(watch.by_id(id).distributions.accept_wait.as_ref()), 1);
    drop((clients, accepted));
}

/// The kernel keeps a reset connection on the queue until it is accepted. It counts as accepted, but not as open.
fn client_gives_up(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let client = connect(PORT);
    wait_queued(&listener, 1);
    drop(client);
    sleep_ms(20);
    watch.sample();
    assert_eq!(watch.listener(PORT).now.accept_depth, 1);
    drop(accept(&listener));
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(1), Some(1)));
    assert_eq!((seen.now.accept_depth, seen.now.open, seen.now.queued_bytes), (0, Some(0), Some(0)));
    assert_eq!(seen.total.aborted, Some(0), "it was accepted");
}

fn closed_and_opened_again(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let first = listen(PORT, 16);
    let first_id = cookie(&first);
    let client = connect(PORT);
    drop(accept(&first));
    watch.sample();
    drop((first, client));
    let second = listen(PORT, 8);
    let clients = [connect(PORT), connect(PORT)];
    drop(accept(&second));
    wait_queued(&second, 1);
    watch.sample();
    assert_eq!(watch.listeners(PORT).len(), 2);
    let (old, new) = (watch.by_id(first_id), watch.by_id(cookie(&second)));
    assert!(old.closed && !new.closed);
    assert!(new.opened_in_interval);
    assert_eq!((old.total.enqueued, old.total.accepts), (Some(1), Some(1)));
    assert_eq!((new.total.enqueued, new.total.accepts, new.now.accept_depth), (Some(2), Some(1), 1));
    drop(clients);

    // The kernel frees a closed socket after a grace period. After it, the next socket is likely to get its address.
    for _ in 0..20 {
        let opened = [(); 2].map(|()| {
            sleep_ms(30);
            let listener = listen(PORT + 2, 1);
            drop(connect(PORT + 2));
            cookie(&listener)
        });
        watch.sample();
        for id in opened {
            assert_eq!(watch.by_id(id).total.enqueued, Some(1), "of its own");
        }
    }

    // Many more listeners than slots: it works only because slots are returned. Some are not in any sample while open.
    for round in 0..1500 {
        let listener = listen(PORT + 1, 1);
        if round % 100 == 0 {
            let client = connect(PORT + 1);
            watch.sample();
            let seen = watch.by_id(cookie(&listener));
            assert_eq!((seen.total.enqueued, seen.now.accept_depth, seen.closed), (Some(1), 1, false));
            drop(client);
        }
    }
    watch.sample();
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
    assert!(watch.listeners(PORT + 1).iter().all(|listener| listener.closed));
}

/// A socket that shutdown(2) stops from listening and that listens again is the same listener: its counters go on. The
/// kernel discards the connections that waited.
fn listens_again(lab: &Lab) {
    // So few slots that they are reused, and the new one may be before the old one.
    const PLACES: u32 = 256;
    let mut watch = Watch::with(lab, &Options { max_listeners: Some(PLACES), ..options() });
    let listener = listen(PORT, 16);
    let id = cookie(&listener);
    let mut clients = vec![connect(PORT), connect(PORT)];
    let mut servers = vec![accept(&listener)];
    wait_queued(&listener, 1);
    watch.sample();
    assert_eq!(watch.listener(PORT).now.accept_depth, 1);
    let stop = || listener.shutdown(std::net::Shutdown::Both).expect("it listens");
    let begin = || listener.listen(16).expect("it is bound");
    stop();
    watch.sample();
    let seen = watch.listener(PORT);
    assert!(seen.closed);
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.total.aborted), (Some(2), Some(1), Some(1)));
    begin();
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.id, seen.closed, seen.opened_in_interval), (id, false, true));

    // All of it between two samples.
    for round in 1..=u64::from(PLACES) + 8 {
        clients.push(connect(PORT));
        wait_queued(&listener, 1);
        stop();
        begin();
        clients.push(connect(PORT));
        servers.push(accept(&listener));
        watch.sample();
        let seen = watch.listener(PORT);
        assert_eq!((seen.id, seen.closed, seen.now.accept_depth), (id, false, 0), "round {round}");
        let counts = (seen.total.enqueued, seen.total.accepts, seen.total.aborted);
        assert_eq!(counts, (Some(2 + 2 * round), Some(1 + round), Some(1 + round)), "round {round}");
        clients.clear();
        servers.clear();
    }
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
}

/// Connections go on when their listener has closed. Its slot is reused only when they are gone.
fn connections_outlive(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let client = connect(PORT);
    let server = accept(&listener).expect("a connection");
    drop(listener);
    watch.sample();
    watch.sample();
    let next = listen(PORT + 1, 16);
    send_all(&client, b"hello");
    assert_eq!(receive(&server, 10), 5);
    watch.sample();
    let seen = watch.by_id(cookie(&next));
    assert_eq!((seen.total.reads, seen.now.open), (Some(0), Some(0)), "these belong to the old listener");
}

fn another_backlog(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    watch.sample();
    assert_eq!((watch.listener(PORT).now.backlog, watch.listener(PORT).now.limit), (16, 17));
    listener.listen(3).expect("it goes on listening");
    watch.sample();
    assert_eq!((watch.listener(PORT).now.backlog, watch.listener(PORT).now.limit), (3, 4));
    assert_eq!(watch.listener(PORT).id, cookie(&listener));
    // listen(2) clamps to net.core.somaxconn.
    lab.sysctl("core/somaxconn", "7");
    listener.listen(100).expect("it goes on listening");
    watch.sample();
    assert_eq!(watch.listener(PORT).now.backlog, 7);
}

fn owner(watch: &Watch) -> Option<u32> {
    watch.listener(PORT).process.as_ref().map(|process| process.pid)
}

/// A child that inherits a listener owns it once its parent has ended.
fn inherited(lab: &Lab) {
    // This process becomes the parent of the child's child.
    nix::sys::prctl::set_child_subreaper(true).expect("every Linux has it");
    let mut watch = Watch::start(lab);
    let pids = Gate::new();
    let mut parent = fork(|| {
        let listener = listen(PORT, 16);
        let _child = fork(|| {
            process::outlive_parent();
            pids.send(u64::from(std::process::id()));
            wait_for_ever();
        });
        let _listener = listener;
        wait_for_ever();
    });
    let mut child = process::Forked::adopted(pids.receive() as u32);
    watch.sample_until("both hold it", |watch| watch.listeners(PORT).iter().any(|l| l.holders.len() == 2));
    assert_eq!(owner(&watch), Some(parent.pid()), "of two, the one that started first");
    parent.kill();
    watch.sample_until("the child owns it", |watch| owner(watch) == Some(child.pid()));
    assert_eq!((watch.listener(PORT).closed, &watch.listener(PORT).holders[..]), (false, &[child.pid()][..]));
    child.kill();
    watch.sample();
    assert!(watch.listener(PORT).closed);
}

/// A listener that is sent to another process belongs to it once the sender has closed it.
fn passed(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let listener = listen(PORT, 16);
    watch.sample_until("its owner is known", |watch| owner(watch) == Some(std::process::id()));
    let mut other = fork(|| {
        // Descriptors inherited from the test would make this process a holder of the listener too soon.
        process::close_inherited_but(theirs.as_fd());
        let listener = Socket::from(receive_descriptor(theirs.as_fd()));
        let connection = accept(&listener).expect("a connection");
        receive(&connection, 10);
        wait_for_ever();
    });
    send_descriptor(ours.as_fd(), listener.as_fd());
    drop(listener);
    send_all(&connect(PORT), b"hello");
    watch.sample_until("the receiver owns it", |watch| owner(watch) == Some(other.pid()));
    let seen = watch.listener(PORT);
    assert!(!seen.closed);
    assert_eq!(seen.holders, [other.pid()]);
    let acceptor = record(seen, other.pid()).expect("the receiver accepted");
    assert_eq!((acceptor.pid, acceptor.accepts, acceptor.reads), (other.pid(), 1, 1));
    other.kill();
    watch.sample();
    assert!(watch.listener(PORT).closed);
}

/// Prefork: each accept counts for the process that made it.
fn shared(lab: &Lab) {
    const PROCESSES: usize = 6;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let gates: Vec<(Gate, Gate)> = (0..PROCESSES).map(|_| (Gate::new(), Gate::new())).collect();
    let workers: Vec<_> = gates
        .iter()
        .map(|(go, done)| {
            fork(|| {
                loop {
                    go.pass();
                    let connection = accept(&listener).expect("a connection");
                    receive(&connection, 10);
                    done.open(1);
                }
            })
        })
        .collect();
    // Worker n takes n + 1 connections.
    for (n, (go, done)) in gates.iter().enumerate() {
        for _ in 0..=n {
            let client = connect(PORT);
            send_all(&client, b"hello");
            go.open(1);
            done.pass();
        }
    }
    watch.sample_until("all hold it", |watch| watch.listener(PORT).holders.len() == PROCESSES + 1);
    let seen = watch.listener(PORT);
    assert_eq!(owner(&watch), Some(std::process::id()), "the one that started first");
    let mut others = seen.holders[1..].to_vec();
    others.sort_unstable();
    let mut own: Vec<u32> = workers.iter().map(process::Forked::pid).collect();
    own.sort_unstable();
    assert_eq!(others, own);
    let total = (PROCESSES * (PROCESSES + 1) / 2) as u64;
    assert_eq!((seen.total.accepts, seen.total.reads), (Some(total), Some(total)));
    assert_eq!(seen.threads.len(), PROCESSES);
    for (n, worker) in workers.iter().enumerate() {
        let thread = record(seen, worker.pid()).expect("each worked");
        let n = n as u64 + 1;
        assert_eq!((thread.pid, thread.accepts, thread.reads, thread.read_bytes), (worker.pid(), n, n, 5 * n));
    }
}

/// exec(2) keeps process and thread ids and changes the name.
fn exec(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let ready = Gate::new();
    let mut worker = fork(|| {
        let connection = accept(&listener).expect("a connection");
        receive(&connection, 10);
        // The listener stays open across exec.
        std::mem::forget(nix::unistd::dup(&listener).expect("a descriptor"));
        ready.open(1);
        let failure = std::os::unix::process::CommandExt::exec(Command::new("sleep").arg("1000"));
        panic!("sleep: {failure}");
    });
    send_all(&connect(PORT), b"hello");
    ready.pass();
    drop(listener);
    watch.sample_until("the thread's new name", |watch| {
        record(watch.listener(PORT), worker.pid()).is_some_and(|thread| thread.comm == "sleep")
    });
    watch.sample_until("the owner's new name", |watch| {
        watch
            .listener(PORT)
            .process
            .as_ref()
            .is_some_and(|process| process.pid == worker.pid() && process.comm == "sleep")
    });
    let thread = record(watch.listener(PORT), worker.pid()).expect("it was there before");
    assert_eq!((thread.accepts, thread.reads), (1, 1), "the same thread");
    worker.kill();
}

/// A known owner changes its name, first by prctl(2), then by exec(2).
fn exec_of_a_known_owner(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (rename, exec) = (Gate::new(), Gate::new());
    let mut worker = fork(|| {
        nix::sys::prctl::set_name(c"before").expect("every Linux has it");
        rename.pass();
        nix::sys::prctl::set_name(c"between").expect("every Linux has it");
        exec.pass();
        // The listener stays open across exec.
        std::mem::forget(nix::unistd::dup(&listener).expect("a descriptor"));
        let failure = std::os::unix::process::CommandExt::exec(Command::new("sleep").arg("1000"));
        panic!("sleep: {failure}");
    });
    drop(listener);
    let named = |watch: &Watch, comm| {
        let process = watch.listener(PORT).process.as_ref();
        process.is_some_and(|process| process.pid == worker.pid() && process.comm == comm)
    };
    watch.sample_until("the owner's first name", |watch| named(watch, "before"));
    rename.open(1);
    watch.sample_until("the name that it gave itself", |watch| named(watch, "between"));
    exec.open(1);
    watch.sample_until("the name that exec gave it", |watch| named(watch, "sleep"));
    assert!(!watch.listener(PORT).closed);
    worker.kill();
}

/// A process with the id of an earlier one is a different process, both in the probes' records and as owner.
fn id_used_again(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let (go, done, again) = (Gate::new(), Gate::new(), Gate::new());
    let clients: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    let work = |name: &std::ffi::CStr, connections: usize| {
        nix::sys::prctl::set_name(name).expect("every Linux has it");
        // The probes cache the last accepting thread of each CPU.
        process::stay_on_one_cpu();
        go.pass();
        (0..connections).for_each(|_| drop(accept(&listener)));
        done.open(1);
        wait_for_ever();
    };
    let mut first = fork(|| work(c"first", 2));
    let parent = fork(|| {
        let pid = again.receive() as u32;
        process::fork_as(pid, || work(c"second", 3));
        process::close_inherited();
        wait_for_ever();
    });
    drop(listener);
    let owned_by = |watch: &Watch, pid: u32, comm| {
        let process = watch.listener(PORT).process.as_ref();
        process.is_some_and(|process| process.pid == pid && process.comm == comm)
    };
    let pid = first.pid();
    watch.sample_until("the first owns it", |watch| owned_by(watch, pid, "first"));
    go.open(1);
    done.pass();
    watch.sample();
    // No sample is taken from here until the second process has worked.
    first.kill();
    again.send(pid.into());
    go.open(1);
    done.pass();
    watch.sample();
    let seen = watch.listener(PORT);
    let of_both = |seen: &ListenerModel| {
        let both = seen.threads.iter().filter(|thread| thread.tid == pid);
        let mut both: Vec<_> = both.map(|thread| (thread.start_ns, thread.comm.clone(), thread.accepts)).collect();
        both.sort();
        both.into_iter().map(|(_, comm, accepts)| (comm, accepts)).collect::<Vec<_>>()
    };
    let expected = [("first".to_owned(), 2), ("second".to_owned(), 3)];
    assert_eq!((of_both(seen), seen.total.accepts), (expected.to_vec(), Some(5)));
    watch.sample_until("the second owns it", |watch| owned_by(watch, pid, "second"));
    watch.sample_until("the first has ended", |watch| {
        watch.listener(PORT).threads.iter().any(|thread| thread.comm == "first" && thread.ended)
    });
    let seen = watch.listener(PORT);
    assert_eq!((of_both(seen), seen.holders.len()), (expected.to_vec(), 1));
    drop((parent, clients));
}

/// Each thread accepts once, reads once and ends. The sums stay exact when records of ended threads are merged.
fn short_lived_threads(lab: &Lab) {
    const THREADS: u64 = 1000;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    watch.during(|| {
        for _ in 0..THREADS {
            let client = connect(PORT);
            send_all(&client, b"hello");
            thread::scope(|scope| {
                let work = || receive(&accept(&listener).expect("a connection"), 10);
                thread::Builder::new().name("brief".to_owned()).spawn_scoped(scope, work).expect("a thread");
            });
        }
    });
    // Long enough for listentop to detect ended threads and merge them.
    for _ in 0..6 {
        sleep_ms(300);
        watch.sample();
    }
    let seen = watch.listener(PORT);
    assert_eq!(
        (seen.total.accepts, seen.total.reads, seen.total.read_bytes),
        (Some(THREADS), Some(THREADS), Some(5000))
    );
    assert_eq!(seen.threads.iter().map(|thread| thread.accepts).sum::<u64>(), THREADS);
    assert_eq!(seen.threads.iter().map(|thread| thread.first_reads).sum::<u64>(), THREADS);
    assert!(seen.threads.iter().all(|thread| thread.ended && thread.tid != tid()), "{:?}", seen.threads.first());
    // Most had ended before listentop could read their names in /proc: the names come from the probes.
    let names: BTreeSet<&str> = seen.threads.iter().map(|thread| thread.comm.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["(ended)", "brief"]));
}
