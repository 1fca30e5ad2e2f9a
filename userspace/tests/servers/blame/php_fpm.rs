//! php-fpm: both of its processes wait for a backend that sleeps.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use test_support::{
    Lab, Test,
    lab::{PORT, loopback},
};

use super::{BUSY, NEARLY_ALL, NEEDS, while_busy};
use crate::support::{
    exchange::{Client, fastcgi, fastcgi_to},
    server::{Folder, Server, User, installed},
    side_by_side,
};

pub(crate) const TESTS: &[Test] =
    &[Test { name: "blame::php_fpm::sleeping_backend", needs: NEEDS, run: sleeping_backend }];

const PROCESSES: usize = 2;
/// The port of the backend.
const BACKEND: u16 = PORT + 2;

fn start(folder: &Folder) -> Server {
    let program = installed("/usr/sbin", "php-fpm*", "php-fpm");
    folder.write("index.php", "<?php echo 'ok';");
    folder.write(
        "stock.php",
        &format!("<?php $backend = stream_socket_client('tcp://127.0.0.1:{BACKEND}'); echo fgets($backend);"),
    );
    let at = folder.path("");
    let text = format!(
        "[global]\nerror_log = {at}errors\ndaemonize = no\n[pool]\nuser = nobody\ngroup = nogroup\nchroot = {at}\n\
         listen = 127.0.0.1:{PORT}\nlisten.backlog = 511\npm = static\npm.max_children = {PROCESSES}\n"
    );
    let configuration = folder.write("fpm.conf", &text);
    let server = Server::start(folder, User::Root, &program, &["-n", "-F", "-y", &configuration]);
    server.listens(PORT, 1);
    server.has_workers(PROCESSES);
    server
}

/// Answers each client after a while. It ends with the test's process.
fn backend() {
    let listener = TcpListener::bind(loopback(BACKEND)).expect("the port is free");
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            thread::spawn(move || {
                thread::sleep(BUSY);
                let _ = client.write_all(b"17 teapots\n");
                // PHP closes first.
                let _ = client.read(&mut [0]);
            });
        }
    });
}

fn sleeping_backend(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let _server = start(&folder);
    backend();
    let stock = || {
        let answer = Client::connect(PORT).and_then(|mut client| fastcgi_to(&mut client, "/stock.php"));
        assert!(answer.expect("it is answered").contains("17 teapots"));
    };
    let blame = while_busy(lab, fastcgi, || {
        thread::scope(|scope| (0..PROCESSES).for_each(|_| drop(scope.spawn(stock))));
    });
    blame.state_is("asleep", NEARLY_ALL);
    blame.is_guilty("asleep", &["_php_stream"]);
    blame.stacks_have("asleep", &["poll", "_php_stream", "execute_ex", "php_execute_script"], NEARLY_ALL);
}
