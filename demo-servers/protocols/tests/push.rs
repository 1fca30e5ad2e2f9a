//! News reach every subscriber, by every method, once and in order.

mod support;

use demo_protocols::summary::Printed;
use support::{Server, load};

fn follow(method: &str, options: &str) -> (Printed, demo_protocols::server::Printed) {
    let server = Server::start(&format!("push --method {method} --every-ms 50"));
    let options = format!("--method {method} --subscribers 10 --for 1.2 {options}");
    let printed = load("push", &server, &options);
    let failures = printed.summary.failures;
    assert_eq!(
        (failures.connect.total(), failures.response.total(), printed.missed),
        (0, 0, 0),
        "{method}: {printed:?}"
    );
    (printed, server.end())
}

#[test]
fn pushed_messages_come_at_once() {
    for method in ["long-poll", "events", "websocket", "pubsub"] {
        let (printed, counters) = follow(method, "--every-ms 50");
        // 10 subscribers, 20 messages per second, a little more than a second.
        assert!((150..=260).contains(&printed.messages), "{method}: {printed:?}");
        assert!(printed.delay_us.p50 < Some(20_000), "{method}: {printed:?}");
        // What was on its way at the end was not read.
        let beyond = counters.more.messages - printed.messages;
        assert!(beyond <= 10, "{method}: {beyond}");
    }
}

#[test]
fn polled_messages_wait_for_the_next_poll() {
    let (printed, counters) = follow("poll", "--poll-every-ms 200");
    assert!(printed.messages >= 100, "{printed:?}");
    let (median, longest) = (printed.delay_us.p50.unwrap(), printed.delay_us.max.unwrap());
    assert!((50_000..150_000).contains(&median) && longest < 400_000, "{printed:?}");
    let requests = counters.report.total.counts.requests;
    assert!((40..=70).contains(&requests), "10 subscribers ask 5 times a second: {counters:?}");
}

#[test]
fn a_server_that_goes_is_noticed() {
    for method in ["long-poll", "events", "websocket", "pubsub"] {
        let mut server = Server::start(&format!("push --method {method} --every-ms 50 --for 0.5"));
        let printed = load("push", &server, &format!("--method {method} --subscribers 3 --every-ms 50 --for 10"));
        assert!(printed.summary.failures.response.total() >= 3, "{method}: {printed:?}");
        assert!(printed.summary.seconds < 5.0);
        assert!(server.report_at_end().more.messages > 0);
    }
}
