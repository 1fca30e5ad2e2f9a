//! Every program of queue-wait blame passes the kernel's verifier: those that are used, and those that take their place
//! where a kernel lacks a tracepoint or refuses a function.

use listentop::source::{
    Source as _,
    live::{Level, LiveSource, Options, events::EVENTS},
};
use test_support::{Lab, Test, environment};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame_programs::of_accepts", needs: &[], run: of_accepts },
    Test { name: "blame_programs::of_reads", needs: &[], run: of_reads },
];

/// Those that need a kernel which allows probes on functions.
pub(crate) const OTHERS: &[Test] = &[
    Test { name: "blame_programs::others_of_accepts", needs: &[], run: others_of_accepts },
    Test { name: "blame_programs::others_of_reads", needs: &[], run: others_of_reads },
];

/// The hooks and iterators that come first. Where they are refused, others show the same.
const FIRST: [&str; 5] = [
    "tp_btf/sk_data_ready",
    "tp_btf/sock_recv_length",
    "fexit/inet_csk_accept",
    "fexit/tcp_splice_read",
    "iter/bpf_map_elem",
];

/// Attaches blame, beside no more other probes than a start takes, and checks that only this is missing.
fn assert_lacks(blame_reads: bool, refused: &[&str], missing: &[&str]) {
    let spare = EVENTS.iter().filter(|definition| !definition.essential && definition.level == Level::Queues);
    let spare = spare.flat_map(|definition| definition.methods).flat_map(|method| method.hooks);
    let refuse = spare.map(|hook| hook.target.to_string()).chain(refused.iter().map(ToString::to_string)).collect();
    let options = Options { level: Level::Queues, blame: true, blame_reads, refuse, ..Options::default() };
    let mut source = LiveSource::start(&options).expect("the probes can be attached");
    let watching = source.blame().expect("this kernel takes its programs");
    assert_eq!(watching.of_reads(), blame_reads);
    let lacks = watching.lacks();
    assert_eq!(lacks.iter().map(|lack| lack.without).collect::<Vec<_>>(), missing, "{lacks:?}");
    watching.finish().expect("it can be read");
}

fn of_accepts(_: &Lab) {
    assert_lacks(false, &[], &[]);
}

fn of_reads(_: &Lab) {
    assert_lacks(true, &[], &[]);
}

/// What is missing where no function shows accepts: before Linux 5.18 the tracepoint of io_uring's completions does not
/// say which request is complete.
fn without_functions() -> &'static [&'static str] {
    if environment::older_than(5, 18) { &["accepts through io_uring are not seen"] } else { &[] }
}

fn others_of_accepts(_: &Lab) {
    assert_lacks(false, &FIRST, without_functions());
}

fn others_of_reads(_: &Lab) {
    assert_lacks(true, &FIRST, without_functions());
}
