//! Sessions that a shard holds, and proxies.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use support::{Server, load};

#[test]
fn a_session_is_lost_on_another_shard_and_not_in_a_shared_store() {
    let lost = |options: &str| {
        let server = Server::start(&format!("sessions {options}"));
        // One visit after the other: on a busy machine a user's next one would begin before the last has ended.
        let printed = load("sessions", &server, "--users 10 --closed 1 --connections 300 --requests 2");
        assert_eq!((printed.summary.completed, printed.summary.responses), (300, 600), "{printed:?}");
        assert_eq!(server.end().report.total.counts.requests, 600);
        printed.lost_sessions
    };
    assert_eq!(lost("--store shared"), 0);
    assert_eq!(lost("--shards 1"), 0);
    // A hash chooses the shard: three of four visits come to another one than the last. Five standard deviations of
    // 290.
    let lost = lost("--shards 4");
    assert!((180..=255).contains(&lost), "{lost}");
}

/// A server of the demo server's protocol, 64 bytes each way, that takes some time for each request. Each connection
/// has a thread.
fn upstream(delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |mut client: TcpStream| {
        while client.read_exact(&mut [0; 64]).is_ok() {
            std::thread::sleep(delay);
            client.write_all(&[0; 64]).unwrap();
        }
    };
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || serve(client.unwrap()));
        }
    });
    address
}

fn requests(server: &Server, clients: usize) {
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let address = server.address;
            std::thread::spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                for _ in 0..3 {
                    client.write_all(&[1; 64]).unwrap();
                    client.read_exact(&mut [0; 64]).unwrap();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn a_proxy_of_bytes_makes_a_connection_for_each_client() {
    let server = Server::start(&format!("proxy --level l4 --upstream {}", upstream(Duration::from_millis(5))));
    requests(&server, 10);
    let counters = server.end();
    assert_eq!((counters.report.total.counts.accepts, counters.more.upstream_connects), (10, 10));
    assert_eq!(counters.report.total.counts.read_bytes, 10 * 3 * 64);
}

#[test]
fn a_proxy_of_requests_shares_few_connections() {
    let server = Server::start(&format!("proxy --level l7 --pool 2 --upstream {}", upstream(Duration::from_millis(5))));
    requests(&server, 10);
    let counters = server.end();
    let total = counters.report.total.clone();
    assert_eq!((total.counts.accepts, total.counts.requests, counters.more.upstream_connects), (10, 30, 2));
    assert!(counters.more.peak_waiting >= 6, "{counters:?}");
}

#[test]
fn clients_of_a_proxy_without_a_server_are_closed() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for level in ["l4", "l7"] {
        let server = Server::start(&format!("proxy --level {level} --upstream {nobody}"));
        let mut client = TcpStream::connect(server.address).unwrap();
        client.write_all(&[1; 64]).unwrap();
        assert!(matches!(client.read(&mut [0; 64]), Ok(0) | Err(_)), "{level}");
        let more = server.end().more;
        assert_eq!((more.upstream_failures, more.broken), (1, 1), "{level}");
    }
}
