//! What /proc tells of the processes behind a listener: who holds it, who waits for it, what set its limit, and what
//! its acceptor does.

use std::os::fd::{AsFd, AsRawFd as _};

use listentop_model::{
    coverage::Measure,
    model::{LimitSetBy, WaitKind, Waiter},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        select::{FdSet, select},
    },
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    process::{self, Forked, fork},
    sleep_ms,
    sockets::{accept, attempt, connect, listen, receive, send_all},
    wait_until,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Owners, Measure::Waiters];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "owners::table_of_a_thread", needs: NEEDS, run: table_of_a_thread },
    Test { name: "owners::first_thread_has_ended", needs: NEEDS, run: first_thread_has_ended },
    Test { name: "owners::name_that_is_no_utf8", needs: NEEDS, run: name_that_is_no_utf8 },
    Test { name: "owners::each_way_to_wait", needs: NEEDS, run: each_way_to_wait },
    Test { name: "owners::nobody_waits", needs: NEEDS, run: nobody_waits },
    Test { name: "owners::state_while_something_waits", needs: NEEDS, run: state_while_something_waits },
    Test { name: "owners::descriptors", needs: NEEDS, run: descriptors },
    Test { name: "owners::what_set_the_limit", needs: NEEDS, run: what_set_the_limit },
    Test { name: "owners::backlog_for_a_burst", needs: NEEDS, run: backlog_for_a_burst },
];

fn owner(watch: &Watch) -> Option<(u32, usize)> {
    let seen = watch.listeners(PORT).into_iter().next()?;
    Some((seen.process.as_ref()?.pid, seen.holders.len()))
}

/// A child that listens at [`PORT`] and then does something with the socket.
fn server(backlog: i32, work: impl FnOnce(Socket)) -> Forked {
    process::server(PORT, backlog, work)
}

fn serve(listener: &Socket) {
    while let Ok(connection) = accept_blocking(listener) {
        receive(&connection, 5);
    }
}

fn accept_blocking(listener: &Socket) -> std::io::Result<Socket> {
    listener.accept().map(|(connection, _)| connection)
}

fn table_of_a_thread(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = fork(|| {
        process::close_inherited();
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_FILES).expect("it needs no right");
            serve(&listen(PORT, 16));
        });
        let _ = thread.join();
    });
    watch.sample_until("its process owns it", |watch| owner(watch) == Some((child.pid(), 1)));
    watch.sample_until("its thread waits", |watch| {
        let waiters = watch.listener(PORT).waiters.as_deref().unwrap_or_default();
        matches!(waiters, [one] if one.pid == child.pid() && one.tid != child.pid() && one.how == WaitKind::Accept)
    });
}

fn first_thread_has_ended(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = fork(|| {
        process::close_inherited();
        std::thread::spawn(|| serve(&listen(PORT, 16)));
        // SAFETY: ends this thread only; the other one goes on.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    watch.sample_until("its process owns it", |watch| owner(watch) == Some((child.pid(), 1)));
    send_all(&connect(PORT), b"hello");
    watch.sample_until("its thread has accepted", |watch| watch.listener(PORT).total.accepts == Some(1));
    assert!(watch.listener(PORT).threads.iter().all(|thread| thread.pid == child.pid() && !thread.ended));
}

fn name_that_is_no_utf8(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = server(16, |listener| {
        // SAFETY: a NUL-terminated name that outlives the call.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"sv\xff".as_ptr()) };
        serve(&listener);
    });
    watch.sample_until("its process owns it, by its name", |watch| {
        let process = watch.listeners(PORT).first().and_then(|seen| seen.process.clone());
        process.is_some_and(|process| process.pid == child.pid() && process.comm == "sv\u{fffd}")
    });
}

/// A way to wait, whether EPOLLEXCLUSIVE and EPOLLET are set, and what waits.
type Way = (WaitKind, Option<bool>, Box<dyn Fn(Socket)>);

/// One child at a time, so that nothing but the way to wait differs.
fn each_way_to_wait(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET | EpollFlags::EPOLLEXCLUSIVE;
    let by_epoll = |flags: EpollFlags| {
        move |listener: Socket| {
            let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
            // Another descriptor of the socket, at another number.
            let copy = listener.try_clone().expect("a descriptor");
            epoll.add(&copy, EpollEvent::new(flags, 1)).expect("it is new");
            drop(listener);
            let _ = epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE);
            drop(copy);
        }
    };
    let epoll_of = |polled: &dyn AsFd, flags: EpollFlags| {
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
        epoll.add(polled.as_fd(), EpollEvent::new(flags, 1)).expect("it is new");
        epoll
    };
    let ways: [Way; 8] = [
        (WaitKind::Accept, None, Box::new(|listener| serve(&listener))),
        (WaitKind::Epoll, Some(true), Box::new(by_epoll(flags))),
        (WaitKind::Epoll, Some(false), Box::new(by_epoll(EpollFlags::EPOLLIN))),
        (
            WaitKind::Poll,
            None,
            Box::new(|listener: Socket| {
                let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }),
        ),
        (
            WaitKind::Epoll,
            Some(true),
            Box::new(move |listener: Socket| {
                let inner = epoll_of(&listener, flags);
                let middle = epoll_of(&inner.0, EpollFlags::EPOLLIN);
                let outer = epoll_of(&middle.0, EpollFlags::EPOLLIN);
                let _ = outer.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE);
            }),
        ),
        (
            WaitKind::Epoll,
            Some(false),
            // The inner one has moved, and another epoll has its old descriptor.
            Box::new(move |listener: Socket| {
                let mut inner = epoll_of(&listener, EpollFlags::EPOLLIN);
                let outer = epoll_of(&inner.0, EpollFlags::EPOLLIN);
                let moved = inner.0.try_clone().expect("a descriptor");
                let other = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
                nix::unistd::dup2(&other.0, &mut inner.0).expect("a descriptor");
                let _ = outer.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE);
                drop(moved);
            }),
        ),
        (
            WaitKind::Poll,
            None,
            Box::new(move |listener: Socket| {
                let inner = epoll_of(&listener, EpollFlags::EPOLLIN);
                let _ = poll(&mut [PollFd::new(inner.0.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }),
        ),
        (
            WaitKind::Select,
            None,
            Box::new(|listener: Socket| {
                let mut readable = FdSet::new();
                readable.insert(listener.as_fd());
                let _ = select(listener.as_raw_fd() + 1, &mut readable, None, None, None);
            }),
        ),
    ];
    for (how, flagged, wait) in ways {
        let mut child = server(16, wait);
        let expected = |waiter: &Waiter| {
            (waiter.pid, waiter.tid, waiter.how) == (child.pid(), child.pid(), how)
                && (waiter.exclusive, waiter.edge, waiter.waits) == (flagged, flagged, true)
        };
        watch.sample_until(&format!("its process waits by {how}"), |watch| {
            let open = watch.listeners(PORT).into_iter().find(|seen| !seen.closed);
            let waiters = open.and_then(|seen| seen.waiters.as_deref()).unwrap_or_default();
            matches!(waiters, [one] if expected(one))
        });
        child.kill();
        watch.sample();
    }
}

fn nobody_waits(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = server(16, |_listener| process::wait_for_ever());
    watch.sample_until("its process is known", |watch| owner(watch) == Some((child.pid(), 1)));
    let client = connect(PORT);
    watch.sample_until("nobody waits", |watch| watch.listener(PORT).waiters.as_deref() == Some(&[]));
    assert_eq!(watch.listener(PORT).now.accept_depth, 1);
    drop(client);
}

fn state_while_something_waits(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = server(16, |listener| {
        let connection = accept(&listener).expect("a connection");
        receive(&connection, 5);
        std::thread::sleep(std::time::Duration::from_secs(1_000));
    });
    watch.sample_until("its process is known", |watch| owner(watch) == Some((child.pid(), 1)));
    let first = connect(PORT);
    send_all(&first, b"hello");
    watch.sample_until("it has accepted", |watch| watch.listener(PORT).total.accepts == Some(1));
    assert_eq!(watch.listener(PORT).threads[0].state, None, "nothing waits for it");
    let second = connect(PORT);
    watch.sample_until("its state is read", |watch| {
        let threads = &watch.listener(PORT).threads;
        let state = threads.iter().find(|thread| thread.pid == child.pid()).and_then(|thread| thread.state.as_ref());
        state.is_some_and(|state| {
            state.letter == 'S' && state.syscall.as_deref().is_none_or(|call| call.ends_with("nanosleep"))
        })
    });
    drop((first, second));
}

fn descriptors(lab: &Lab) {
    const LIMIT: u64 = 200;
    let child = server(16, |listener| {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, LIMIT, LIMIT)
            .expect("a lower limit");
        let copies: Vec<Socket> = (0..90).map(|_| listener.try_clone().expect("a descriptor")).collect();
        let _ = accept_blocking(&listener);
        drop(copies);
    });
    // accept(2) takes a descriptor before it waits. Since 6.2 the kernel counts it, though it is not listed yet.
    let open = || std::fs::read_dir(format!("/proc/{}/fd", child.pid())).expect("it lives").count() as u64;
    // A calm listener is looked at every ten seconds only.
    wait_until("all are open", || open() >= 91);
    let mut watch = Watch::start(lab);
    watch.sample_until("its descriptors are counted", |watch| {
        let seen = watch.listeners(PORT).into_iter().next().and_then(|seen| seen.descriptors);
        seen.is_some_and(|it| {
            (it.pid, it.soft_limit) == (child.pid(), LIMIT) && (open()..=open() + 1).contains(&it.open)
        })
    });
}

fn somaxconn() -> u32 {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .expect("every kernel has it")
        .trim()
        .parse()
        .expect("a number")
}

/// The lab's namespace is the test's own, so its somaxconn may be changed.
fn what_set_the_limit(lab: &Lab) {
    let before = listen(PORT + 1, 77);
    let mut watch = Watch::fresh(lab);
    let set = |value: u32| std::fs::write("/proc/sys/net/core/somaxconn", value.to_string()).expect("our namespace");
    let limit = somaxconn();
    let small = listen(PORT, 50);
    let cut = listen(PORT + 2, limit as i32 + 1_000);
    let equal = listen(PORT + 3, limit as i32);
    watch.sample();
    let shown = |watch: &Watch, port| {
        let seen = watch.listener(port);
        (seen.now.backlog, seen.limit_set_by, seen.backlog_wanted)
    };
    // Before 5.15 no program may read the registers of a call.
    let sees = watch.listener(PORT).backlog_wanted.is_some();
    let wanted = |backlog| sees.then_some(backlog);
    assert_eq!(watch.listener(PORT).somaxconn, Some(limit));
    assert_eq!(shown(&watch, PORT), (50, Some(LimitSetBy::Program), wanted(50)));
    let by = if sees { LimitSetBy::Somaxconn } else { LimitSetBy::Either };
    assert_eq!(shown(&watch, PORT + 2), (limit, Some(by), wanted(limit + 1_000)));
    assert_eq!(shown(&watch, PORT + 3), (limit, Some(LimitSetBy::Either), wanted(limit)));
    assert_eq!(shown(&watch, PORT + 1), (77, Some(LimitSetBy::Program), None), "listen was before the start");
    set(77);
    watch.sample();
    assert_eq!(watch.listener(PORT).somaxconn, Some(77), "of its namespace, now");
    assert_eq!(shown(&watch, PORT + 1).1, Some(LimitSetBy::Either));
    assert_eq!(shown(&watch, PORT + 2).1, Some(by), "what counts is somaxconn when it called listen");
    // Another listen(2) on the same socket is not seen.
    small.listen(60).expect("it listens already");
    set(limit);
    watch.sample();
    assert_eq!(shown(&watch, PORT), (60, Some(LimitSetBy::Program), None));
    drop((before, small, cut, equal));
}

fn backlog_for_a_burst(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 3);
    watch.sample();
    // Four are admitted. The others' SYNs are refused; they are sent again only after a second.
    let clients: Vec<_> = (0..9).map(|_| attempt(PORT)).collect();
    sleep_ms(100);
    watch.sample();
    drop((0..4).map(|_| accept(&listener)).collect::<Vec<_>>());
    watch.sample();
    watch.sample();
    let seen = watch.listener(PORT);
    let refused = seen.drops.total.expect("known");
    assert!((4..=5).contains(&refused), "{refused}");
    assert_eq!(seen.backlog_needed, Some(3 + refused as u32), "4 waited, and a backlog of n admits n + 1");
    drop(clients);
}
