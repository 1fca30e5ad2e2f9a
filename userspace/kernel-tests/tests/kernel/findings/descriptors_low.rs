//! A program that accepts, and has few descriptors left.

use std::{fs::File, os::fd::AsFd as _};

use listentop_model::{coverage::Measure, model::Severity};
use nix::sys::resource::{Resource, setrlimit};
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    process::{close_inherited, close_inherited_but, fork, wait_for_ever},
    sockets::{accept, connect, listen, receive, send_all},
    wait_until,
};

use super::{figure, find, first, ids, until_found};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Owners, Measure::Descriptors];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::descriptors_low_and_then_freed", needs: NEEDS, run: then_freed },
    Test { name: "findings::descriptors_low_in_one_of_the_workers", needs: NEEDS, run: one_worker },
    Test { name: "findings::descriptors_low_not_with_half_of_them", needs: NEEDS, run: half },
];

const ID: &str = "descriptors_low";
const LIMIT: u64 = 100;

/// Opens files until so many descriptors are open, under [`LIMIT`].
fn open_files(count: u64) -> Vec<File> {
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, LIMIT).expect("a lower limit");
    let null = || File::open("/dev/null").expect("a descriptor is left");
    let mut files = Vec::new();
    while open_descriptors("self") < count {
        files.push(null());
    }
    files
}

/// Without the one that reads the directory.
fn open_descriptors(process: &str) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it lives").count() as u64;
    entries - u64::from(process == "self")
}

/// Since 6.2 the kernel counts the descriptor that an accept takes, and before that it does not.
fn is_about(shown: f64, count: u64) -> bool {
    shown >= count as f64 && shown <= (count + 1) as f64
}

fn then_freed(lab: &Lab) {
    const OPEN: u64 = 92;
    let mut watch = Watch::start(lab);
    let child = fork(|| {
        close_inherited();
        let files = open_files(OPEN - 1);
        let listener = listen(PORT, 16);
        // Its first client tells it what to do.
        let first = accept(&listener).expect("a connection");
        receive(&first, 1);
        drop(files);
        receive(&first, 1);
        let _second = accept(&listener);
        wait_for_ever();
    });
    watch.sample_until("it listens", |watch| !watch.listeners(PORT).is_empty());
    until_found(&mut watch, PORT, ID);
    let seen = watch.listener(PORT);
    let found = first(seen);
    assert_eq!(ids(seen), [ID], "{:#?}", seen.findings);
    assert_eq!((found.severity, found.until_unix_ms), (Severity::Warning, None));
    let (open, left) = (figure(found, "open"), figure(found, "left"));
    assert!(is_about(open, OPEN), "{found:#?}");
    assert_eq!([left], [LIMIT as f64 - open]);
    assert_eq!(figure(found, "soft_limit"), LIMIT as f64);
    let begin = format!("Process {} has 9", child.pid());
    assert!(found.summary.starts_with(&begin) && found.summary.contains(" of 100 file "), "{}", found.summary);
    assert!(found.advice.contains(&format!("prlimit --pid {} ", child.pid())), "{}", found.advice);

    // A listener at which somebody waits is looked at again soon.
    let first = connect(PORT);
    send_all(&first, b"f");
    wait_until("they are closed", || open_descriptors(&child.pid().to_string()) < OPEN / 2);
    let waiting = connect(PORT);
    watch.sample_until("it has passed", |watch| {
        find(watch.listener(PORT), ID).is_some_and(|found| found.until_unix_ms.is_some())
    });
    let found = find(watch.listener(PORT), ID).expect("it is remembered");
    assert!(found.summary.starts_with(&format!("Process {} had 9", child.pid())), "{}", found.summary);
    send_all(&first, b"g");
    drop(waiting);
}

/// One process of two is near its limit: it is named, not the other.
fn one_worker(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let worker = |open: u64| {
        fork(|| {
            close_inherited_but(listener.as_fd());
            let _files = open_files(open);
            let mut kept = Vec::new();
            loop {
                kept.push(accept(&listener));
            }
        })
    };
    let (calm, near) = (worker(20), worker(93));
    wait_until("all are open", || open_descriptors(&near.pid().to_string()) >= 93);
    drop(listener);
    until_found(&mut watch, PORT, ID);
    let seen = watch.listener(PORT);
    assert_eq!(ids(seen), [ID], "{:#?}", seen.findings);
    assert!(is_about(figure(first(seen), "open"), 93), "{:#?}", seen.findings);
    assert!(first(seen).summary.starts_with(&format!("Process {} has ", near.pid())), "{}", first(seen).summary);
    drop(calm);
}

/// Half of its descriptors are open; and nine tenths of them in a program that does not accept here.
fn half(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let bystander = fork(|| {
        close_inherited();
        let _files = open_files(95);
        wait_for_ever();
    });
    let child = fork(|| {
        close_inherited();
        let _files = open_files(50);
        let _first = accept(&listen(PORT, 16));
        wait_for_ever();
    });
    watch.sample_until("its descriptors are counted", |watch| {
        watch.listeners(PORT).first().and_then(|seen| seen.descriptors).is_some_and(|it| it.pid == child.pid())
    });
    let seen = watch.listener(PORT);
    let open = seen.descriptors.expect("they are counted").open;
    assert!(is_about(open as f64, 51), "{open}");
    assert!(ids(seen).is_empty(), "{:#?}", seen.findings);
    drop(bystander);
}
