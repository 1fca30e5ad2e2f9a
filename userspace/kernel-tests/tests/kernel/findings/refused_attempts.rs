//! Attempts that are refused, and not by a full queue; and attempts of which nobody can say by what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use listentop_model::{coverage::Measure, model::Severity};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::{PORT, has_ipv6, loopback6},
    skip, sleep_ms,
    sockets::{
        accept, attempt, attempt_with_late_ack, connect, cookie, give_up_refused, handshakes_are_decided, kernel_drops,
        listen, listen_on, syn_from,
    },
};

use super::{figure, find, first, ids};

const NEEDS: &[Measure] = &[Measure::Drops, Measure::DropCause];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::refused_otherwise_no_way_back", needs: NEEDS, run: no_way_back },
    Test { name: "findings::refused_otherwise_no_way_back_by_ipv6", needs: NEEDS, run: no_way_back_by_ipv6 },
    Test { name: "findings::refused_otherwise_beside_a_full_queue", needs: NEEDS, run: beside_a_full_queue },
    Test { name: "findings::refused_otherwise_not_with_a_way_back", needs: NEEDS, run: with_a_way_back },
    Test { name: "findings::refused_unexplained_two_causes_at_once", needs: NEEDS, run: two_causes },
    Test { name: "findings::refused_unexplained_beside_a_queue_that_was_full", needs: NEEDS, run: two_full_queues },
    Test { name: "findings::refused_unexplained_not_one_after_the_other", needs: NEEDS, run: one_after_the_other },
];

const REFUSED: u64 = 30;
/// Of a network to which nothing in the namespace leads.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const FAR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

fn send_syns(from: IpAddr, to: u16) {
    (0..REFUSED as u16).for_each(|n| syn_from(from, 20_000 + n, to));
    handshakes_are_decided();
}

/// Two samples: the second finds causes for what the first could not explain.
fn settle(watch: &mut Watch) {
    for _ in 0..2 {
        sleep_ms(50);
        watch.sample();
    }
}

/// Checks that it is there, holds, and has these figures.
fn is_refused_otherwise(watch: &Watch, listener: &Socket) {
    let seen = watch.by_id(cookie(listener));
    let found = find(seen, "refused_otherwise").unwrap_or_else(|| panic!("{:?}: {:#?}", seen.drops, seen.findings));
    assert_eq!((found.severity, found.follows_from), (Severity::Critical, None));
    assert_eq!(found.until_unix_ms, None);
    assert_eq!(["refused", "recent"].map(|name| figure(found, name)), [REFUSED as f64; 2], "{found:#?}");
    let begin = format!("{REFUSED} attempts were refused, and neither ");
    assert!(found.summary.starts_with(&begin), "{}", found.summary);
    assert!(found.advice.contains("ip route get "), "{}", found.advice);
}

/// The host has no route to the clients: it cannot answer them.
fn no_way_back(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    watch.sample();
    send_syns(FAR, PORT);
    assert_eq!(kernel_drops(&listener), REFUSED, "the test's own load");
    settle(&mut watch);
    is_refused_otherwise(&watch, &listener);
    assert_eq!(ids(watch.listener(PORT)), ["refused_otherwise"], "{:#?}", watch.listener(PORT).findings);
}

fn no_way_back_by_ipv6(lab: &Lab) {
    if !has_ipv6() {
        skip("no IPv6");
    }
    let mut watch = Watch::start(lab);
    let listener = listen_on(loopback6(PORT), 16, |_| ());
    watch.sample();
    send_syns(FAR6, PORT);
    assert_eq!(kernel_drops(&listener), REFUSED, "the test's own load");
    settle(&mut watch);
    is_refused_otherwise(&watch, &listener);
    assert_eq!(ids(watch.listener(PORT)), ["refused_otherwise"], "{:#?}", watch.listener(PORT).findings);
}

/// First some are refused for want of a way back, then others by the full accept queue. Neither explains the other.
fn beside_a_full_queue(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 2);
    watch.sample();
    send_syns(FAR, PORT);
    let waiting = give_up_refused((0..REFUSED + 3).map(|_| attempt(PORT)).collect());
    settle(&mut watch);
    let seen = watch.listener(PORT);
    assert_eq!(waiting.len(), 3, "the test's own load");
    is_refused_otherwise(&watch, &listener);
    let overflow = find(seen, "accept_queue_overflow").unwrap_or_else(|| panic!("{:#?}", seen.findings));
    assert_ne!(overflow.follows_from, Some("refused_otherwise"));
    assert_eq!(seen.drops.accept_queue_full_on_syn, Some(REFUSED), "{:?}", seen.drops);
    assert!(find(seen, "refused_unexplained").is_none(), "{:#?}", seen.findings);
}

/// The same SYNs from where an answer can be sent to: no program there expects one, and resets it.
fn with_a_way_back(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listeners = [Some(listen(PORT, 16)), has_ipv6().then(|| listen_on(loopback6(PORT + 1), 16, |_| ()))];
    watch.sample();
    send_syns(Ipv4Addr::new(127, 0, 0, 9).into(), PORT);
    if listeners[1].is_some() {
        send_syns(Ipv6Addr::LOCALHOST.into(), PORT + 1);
    }
    settle(&mut watch);
    for listener in listeners.iter().flatten() {
        let seen = watch.by_id(cookie(listener));
        assert_eq!((seen.drops.total, seen.drops.other.unwrap_or(0)), (Some(0), 0), "{:?}", seen.drops);
        assert!(ids(seen).is_empty(), "{:#?}", seen.findings);
    }
}

/// Where each refused SYN is seen with its cause, nothing stays unexplained.
fn causes_are_seen(watch: &Watch) -> bool {
    watch.is_available(Measure::SynRequests)
}

/// Checks what is said of a listener whose attempts were refused for one cause: that, or that nobody can tell.
fn is_explained_or_not(watch: &Watch, listener: &Socket, cause: &str, can_tell: bool) {
    let seen = watch.by_id(cookie(listener));
    assert_eq!(seen.drops.total, Some(REFUSED), "{:?}", seen.drops);
    if can_tell {
        assert_eq!((first(seen).id, seen.drops.unexplained), (cause, Some(0)), "{:#?}", seen.findings);
        assert!(find(seen, "refused_unexplained").is_none(), "{:#?}", seen.findings);
        return;
    }
    let found = first(seen);
    assert_eq!((found.id, found.severity), ("refused_unexplained", Severity::Critical), "{:#?}", seen.findings);
    assert_eq!((found.follows_from, found.until_unix_ms), (None, None));
    assert_eq!(["unexplained", "refused"].map(|name| figure(found, name)), [REFUSED as f64; 2], "{found:#?}");
    let begin = format!("{REFUSED} attempts were refused without a known cause: 100% of all.");
    assert!(found.summary.starts_with(&begin), "{}", found.summary);
    assert!(find(seen, cause).is_none(), "nothing is guessed: {:#?}", seen.findings);
}

/// A listener whose SYN queue refuses (cookies are off), and one at which nobody can be answered.
struct TwoCauses {
    full: Socket,
    far: Socket,
}

impl TwoCauses {
    fn begin(lab: &Lab) -> Self {
        lab.sysctl("ipv4/tcp_syncookies", "0");
        Self { full: listen(PORT, 4), far: listen(PORT + 1, 4) }
    }

    /// Five find room.
    fn fill_the_syn_queue(&self) {
        let late: Vec<Socket> = (0..REFUSED + 5).map(|_| attempt_with_late_ack(PORT)).collect();
        handshakes_are_decided();
        assert_eq!(kernel_drops(&self.full), REFUSED, "the test's own load");
        drop(late);
    }

    fn come_from_far(&self) {
        send_syns(FAR, PORT + 1);
        assert_eq!(kernel_drops(&self.far), REFUSED, "the test's own load");
    }
}

/// Both at once: the kernel counts causes for the namespace, and drops for each socket.
fn two_causes(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let both = TwoCauses::begin(lab);
    watch.sample();
    both.fill_the_syn_queue();
    both.come_from_far();
    settle(&mut watch);
    let can_tell = causes_are_seen(&watch);
    is_explained_or_not(&watch, &both.full, "syn_queue_overflow", can_tell);
    is_explained_or_not(&watch, &both.far, "refused_otherwise", can_tell);
    assert_eq!(watch.namespace().unexplained_drops, Some(0), "all of them are some listener's");
}

/// The same one after the other, each with a cause.
fn one_after_the_other(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let both = TwoCauses::begin(lab);
    watch.sample();
    both.fill_the_syn_queue();
    settle(&mut watch);
    both.come_from_far();
    settle(&mut watch);
    is_explained_or_not(&watch, &both.full, "syn_queue_overflow", true);
    is_explained_or_not(&watch, &both.far, "refused_otherwise", true);
}

/// Both accept queues have been full. One of them refuses now; the other listener has room, and no way back.
fn two_full_queues(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let both = TwoCauses { full: listen(PORT, 2), far: listen(PORT + 1, 2) };
    let clients: Vec<Socket> = (0..3).map(|_| connect(PORT + 1)).collect();
    watch.sample();
    let accepted: Vec<_> = clients.iter().map(|_| accept(&both.far)).collect();
    let waiting = give_up_refused((0..REFUSED + 3).map(|_| attempt(PORT)).collect());
    both.come_from_far();
    settle(&mut watch);
    let can_tell = causes_are_seen(&watch);
    is_explained_or_not(&watch, &both.full, "accept_queue_overflow", can_tell);
    is_explained_or_not(&watch, &both.far, "refused_otherwise", can_tell);
    drop((accepted, waiting));
}
