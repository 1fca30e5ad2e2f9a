//! Real types: the running kernel's, and what was cut out of one.

use std::path::Path;
use std::process::ExitCode;

use listentop_btf::{BtfError, KernelBtf, Pointee, VMLINUX, Value};
use test_harness::Test;

const TESTS: &[Test] = &[
    Test { name: "the_running_kernel_is_read", run: the_running_kernel_is_read },
    Test { name: "a_part_answers_as_the_whole", run: a_part_answers_as_the_whole },
];

fn main() -> ExitCode {
    test_harness::run(&[TESTS], || {
        (!Path::new(VMLINUX).exists())
            .then(|| format!("there is no {VMLINUX}: it needs a kernel with CONFIG_DEBUG_INFO_BTF"))
    })
}

fn running() -> KernelBtf {
    KernelBtf::from_kernel().expect("the kernel's own BTF")
}

/// Facts that hold on every kernel that listentop runs on.
fn the_running_kernel_is_read() {
    let btf = running();
    let receive = btf.function("tcp_recvmsg").expect("every kernel has it");
    assert_eq!(receive.position("sk"), Some(0));
    assert!(receive.position("flags").is_some_and(|flags| (3..=5).contains(&flags)), "{receive:?}");
    assert_eq!(receive.returns, Value::Integer { bytes: 4, signed: true });
    let accept = btf.function("inet_csk_accept").expect("every kernel has it");
    let sock = Value::Pointer(Pointee::Structure("sock".to_owned()));
    assert_eq!((&accept.returns, &accept.parameters[0].value), (&sock, &sock));
    assert_eq!(btf.member("sock", "__sk_common.skc_state").expect("there").width, 8);
    assert_eq!(btf.member("sock_common", "skc_reuseport").expect("there").width, 1);
    assert!(matches!(btf.member("sock", "sk_socket.file"), Err(BtfError::ThroughPointer { .. })));
    assert_eq!(btf.enumerator("BPF_MAP_TYPE_HASH").expect("there"), 1);
    assert!(btf.size("tcp_sock").expect("there") > btf.size("sock").expect("there"));
    assert_eq!(btf.tracepoint_arguments("inet_sock_set_state").expect("there"), 3);
}

/// What is cut out answers as the whole does.
fn a_part_answers_as_the_whole() {
    let whole = running();
    let part = whole.reduced(&["sock", "tcp_sock", "tcp_recvmsg", "btf_trace_kfree_skb", "SOCK_DEAD"]).expect("valid");
    assert!(part.len() < 64 << 10, "{} bytes", part.len());
    let part = KernelBtf::parse(part).expect("valid");
    for (structure, path) in [
        ("sock", "__sk_common.skc_state"),
        ("sock", "sk_drops.counter"),
        ("sock_common", "skc_reuseport"),
        ("tcp_sock", "inet_conn.icsk_accept_queue.qlen.counter"),
        ("tcp_sock", "rcv_nxt"),
    ] {
        let expected = whole.member(structure, path).expect("it has it");
        assert_eq!(part.member(structure, path).expect("the part too"), expected, "{structure}.{path}");
    }
    assert_eq!(part.size("tcp_sock").expect("there"), whole.size("tcp_sock").expect("there"));
    assert_eq!(part.enumerator("SOCK_DEAD").expect("there"), whole.enumerator("SOCK_DEAD").expect("there"));
    assert_eq!(part.function("tcp_recvmsg").expect("there"), whole.function("tcp_recvmsg").expect("there"));
    assert_eq!(part.tracepoint("kfree_skb").expect("there"), whole.tracepoint("kfree_skb").expect("there"));
    assert!(matches!(part.size("task_struct"), Err(BtfError::Missing(_))));
}
