//! `stress` in a network namespace of its own, whose counters are nobody else's. Needs root.

mod common;

use common::{Server, counter, is_root, run, stress};
use demo_servers::lab::namespace::Namespace;
use nix::sched::{CloneFlags, setns};

#[test]
fn syn_retries_equal_the_kernels() {
    if !is_root("syn_retries_equal_the_kernels") {
        return;
    }
    let namespace = Namespace::create(&[]).unwrap();
    let run = std::thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        // The queue takes two connections and then none until the clients have given up.
        let server = Server::start("--pattern single_thread --backlog 1 --stall 0:60000");
        let options = "--rate 20 --connections 12 --connect-timeout-ms 1700 --timeout-ms 1700";
        let summary = stress(&server, options);
        (summary, counter("TCPSynRetrans"), counter("ListenOverflows"))
    });
    let (summary, retransmitted, overflows) = run.join().unwrap();
    assert_eq!((summary.established, summary.failures.connect.timeout), (2, 10), "{summary:?}");
    // Within 1.7 s, a SYN is sent again once.
    assert_eq!((summary.syn_retries.one, summary.syn_retries.two), (10, 0));
    assert_eq!(retransmitted, 10);
    assert_eq!(overflows, 20);
    assert_eq!((summary.slow_connects.s1, summary.slow_connects.s3), (10, 0));
}

#[test]
fn even_inside_a_namespace_strangers_are_refused() {
    if !is_root("even_inside_a_namespace_strangers_are_refused") {
        return;
    }
    let namespace = Namespace::create(&[]).unwrap();
    let run = std::thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        run("stress", "--quiet --target 192.0.2.1:80 --rate 1 --connections 1")
    });
    let (code, _, stderr) = run.join().unwrap();
    assert_eq!(code, Some(2));
    let reason = match std::fs::read_link("/proc/1/ns/net") {
        Ok(_) => "no address of this network namespace",
        // Root in a container may not be allowed to look at process 1.
        Err(_) => "the network namespace of process 1 cannot be read",
    };
    assert!(stderr.contains(reason), "{stderr}");
}
