//! Raising the level of measuring with few rights: it brings what a start at that level brings, and where it brings
//! nothing, the screen says what would help.

use nix::{
    errno::Errno,
    mount::{MsFlags, mount, umount},
};

use crate::{
    Test,
    screen::Screen,
    support::{Measuring, Program, coverage, enter_namespaces, sleep_ms},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "levels::raised_with_system_calls_in_sight", run: in_sight },
    Test { name: "levels::raised_without_tracefs", run: without_tracefs },
];

/// What probes take, and reading tracefs. Mounting it takes CAP_SYS_ADMIN.
const RIGHTS: &[&str] = &["bpf", "perfmon", "dac_read_search"];
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The screen's line after the level was raised.
const RAISED: &str = "measured from now on: accepts";

/// Whether accepts are seen from the start on, with these rights, and if not, why.
fn at_a_start(program: &Program) -> (bool, String) {
    let measuring = Measuring::spawn(program.with(RIGHTS, "report --for 1h --format json --measure accepts"));
    sleep_ms(300);
    let report = measuring.report();
    let (status, reason) = coverage(&report, "accepts");
    (status != "unavailable", reason.to_owned())
}

/// Starts without accepts, asks for them, and returns which of two answers is on the screen.
fn raised<'a>(program: &Program, answers: &[&'a str]) -> &'a str {
    let mut screen = Screen::of(program.with(RIGHTS, "top --measure queues --blame-on never"));
    screen.until("quit");
    screen.press(b'U');
    screen.until_one(answers)
}

fn unmount() {
    for place in TRACEFS.into_iter().chain(["/sys/kernel/debug"]) {
        // What is not mounted, or not there, need not be unmounted.
        match umount(place) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => panic!("{place} cannot be unmounted here: {error}"),
        }
    }
}

/// By functions where the kernel takes them, else by the tracepoints of system calls, whose ids tracefs has.
fn in_sight() {
    enter_namespaces();
    unmount();
    mount(Some("tracefs"), TRACEFS[0], Some("tracefs"), MsFlags::empty(), None::<&str>).expect("a tracefs");
    let program = Program::copy("levels");
    assert_eq!(at_a_start(&program), (true, String::new()));
    assert_eq!(raised(&program, &[RAISED, "refuse", "Not here", "shows no more"]), RAISED);
}

/// Without it: as at a start. Where that brings nothing, the line has what would help, and not what a policy refuses.
fn without_tracefs() {
    const REMEDY: &str = "tracefs is not mounted (EPERM: Operation not permitted): mount it (mount -t tracefs";
    enter_namespaces();
    unmount();
    let program = Program::copy("levels-without");
    let (is_seen, reason) = at_a_start(&program);
    let expected = if is_seen { RAISED } else { REMEDY };
    assert!(is_seen || reason.contains(REMEDY), "{reason}");
    assert_eq!(raised(&program, &[RAISED, REMEDY]), expected);
}
