//! Network namespaces.

use socket2::Socket;
use test_support::{
    Lab,
    lab::PORT,
    sockets::{attempt, connect, cookie, listen},
};

use crate::{Run, Test, Watch};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "places::same_port_in_two_namespaces", run: Run::InLab(two_namespaces) },
    Test { name: "places::one_that_comes_and_goes", run: Run::InLab(comes_and_goes) },
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
