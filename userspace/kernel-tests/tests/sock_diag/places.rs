//! Network namespaces.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::Socket;
use test_support::{
    Lab,
    drops::half_open,
    lab::PORT,
    skip, sleep_ms,
    sockets::{attempt, connect, cookie, kernel_drops, listen, listen_on},
    wait_until,
};

use crate::{Run, Test, Watch};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "places::same_port_in_two_namespaces", run: Run::InLab(two_namespaces) },
    Test { name: "places::one_that_comes_and_goes", run: Run::InLab(comes_and_goes) },
    Test { name: "places::first_listener_later", run: Run::InLab(first_listener_later) },
    Test { name: "places::one_address_on_two_devices", run: Run::InLab(two_devices) },
];

fn two_namespaces(here: &Lab) {
    let listener = listen(PORT, 5);
    let client = connect(PORT);
    Lab::beside(|there| {
        let other = listen(PORT, 0);
        let clients = [connect(PORT), attempt(PORT), attempt(PORT)];
        let mut watch = Watch::start();
        let of = |watch: &Watch, socket: &Socket| {
            let seen = watch.by_id(cookie(socket));
            (seen.netns, seen.now.accept_depth, seen.now.backlog)
        };
        assert_eq!(of(&watch, &listener), (here.netns, 1, 5));
        assert_eq!(of(&watch, &other), (there.netns, 1, 0));
        // Each namespace's counters explain its own listener's drops.
        let more = attempt(PORT);
        watch.sample();
        assert_eq!(watch.by_id(cookie(&other)).drops.total, Some(1));
        assert_eq!(watch.by_id(cookie(&other)).drops.accept_queue_full_on_syn, Some(1));
        assert_eq!(watch.by_id(cookie(&listener)).drops.total, Some(0));
        for namespace in watch.model().namespaces.iter().filter(|n| [here.netns, there.netns].contains(&n.id.inode)) {
            assert_eq!(namespace.unexplained_drops, Some(0), "{namespace:?}");
        }
        drop((clients, more));
    });
    drop((listener, client));
}

/// A namespace that begins later is found. One that ends is released.
fn comes_and_goes(_: &Lab) {
    let mut watch = Watch::start();
    let id = Lab::beside(|there| {
        let listener = listen(PORT, 5);
        let client = connect(PORT);
        let id = cookie(&listener);
        watch.sample_until("the new namespace is found", |watch| watch.find(id).is_some());
        let seen = watch.by_id(id);
        assert_eq!((seen.netns, seen.now.accept_depth), (there.netns, 1));
        // It is unknown when the listener opened.
        assert!(!seen.opened_in_interval);
        drop((listener, client));
        id
    });
    watch.sample_until("the namespace is gone", |watch| watch.by_id(id).closed);
}

/// A namespace that has refused before, and has no listener at the start: what it counts from then on is exact.
fn first_listener_later(lab: &Lab) {
    let refuse = |listener: &Socket, attempts: usize| {
        let before = kernel_drops(listener);
        let attempts: Vec<Socket> = (0..attempts).map(|_| attempt(PORT)).collect();
        wait_until("attempts are refused", || kernel_drops(listener) > before);
        attempts
    };
    let early = listen(PORT, 4);
    drop((refuse(&early, 30), early));
    let mut watch = Watch::start();
    for turn in 0..2 {
        let before = lab.counters();
        let listener = listen(PORT, 4);
        let attempts = refuse(&listener, 40);
        for _ in 0..3 {
            sleep_ms(50);
            watch.sample();
        }
        let refused = lab.counters().since(&before, "ListenDrops");
        assert!(refused >= 30, "the test's own load: {refused}");
        let drops = watch.by_id(cookie(&listener)).drops;
        assert_eq!((drops.total, drops.unexplained), (Some(refused), Some(0)), "turn {turn}: {drops:?}");
        assert_eq!(drops.accept_queue_full_on_syn, Some(refused));
        drop((attempts, listener));
        // The namespace holds no listener for a while.
        watch.sample();
        watch.sample();
    }
}

/// Depths, SYN queues and groups are those of the listener on the device.
fn two_devices(lab: &Lab) {
    if let Err(error) = lab.add_device("one0") {
        skip(format!("no second device: {error}"));
    }
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let on_device = |device: &str| {
        listen_on(any, 16, |socket| {
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
            socket.bind_device(Some(device.as_bytes())).expect("SO_BINDTODEVICE");
        })
    };
    let (other, on_lo) = (on_device("one0"), on_device("lo"));
    let requests = half_open(&on_lo, PORT);
    let client = connect(PORT);
    let watch = Watch::start();
    let (seen, other) = (watch.by_id(cookie(&on_lo)), watch.by_id(cookie(&other)));
    assert_eq!((seen.device.as_deref(), other.device.as_deref()), (Some("lo"), Some("one0")));
    assert_eq!((seen.now.syn_depth, other.now.syn_depth), (Some(requests.len() as u32), Some(0)));
    let group = watch.model().groups.iter().find(|group| group.id.namespace.inode == lab.netns);
    assert_eq!(group, None, "they are no shards of one group");
    drop(client);
}
