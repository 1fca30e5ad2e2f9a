//! Redis: a command that goes through all keys, and one that sleeps.

use std::time::{Duration, Instant};

use test_support::{Lab, Test, lab::PORT};

use super::{BUSY, NEARLY_ALL, NEEDS, while_busy};
use crate::support::{
    alone,
    exchange::{Client, redis_ping},
    server::{Folder, Server, User, installed},
    side_by_side,
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame::redis::slow_command", needs: NEEDS, run: slow_command },
    Test { name: "blame::redis::sleeping_command", needs: NEEDS, run: sleeping_command },
];

fn start(folder: &Folder) -> Server {
    let program = installed("/usr/bin", "redis-server", "redis-server");
    let (port, at) = (PORT.to_string(), folder.path(""));
    let mut arguments = vec!["--port", &port, "--bind", "127.0.0.1", "--dir", &at, "--save", ""];
    arguments.extend(["--enable-debug-command", "yes"]);
    let server = Server::start(folder, User::Root, &program, &arguments);
    server.listens(PORT, 1);
    server
}

/// Has it carry out this command so often, one after the other without a look at anything else; how long that took.
fn ask(command: &str, times: usize) -> Duration {
    let begin = Instant::now();
    let mut client = Client::connect(PORT).expect("it connects");
    client.send(format!("{command}\r\n").repeat(times).as_bytes()).expect("it reads");
    let answer = client.receive(|answer| answer.split(|byte| *byte == b'\n').count() > times);
    let answer = String::from_utf8(answer.expect("it answers")).expect("text");
    assert!(!answer.contains("ERR"), "{answer}");
    begin.elapsed()
}

/// KEYS looks at each of 200,000 keys.
fn slow_command(lab: &Lab) {
    const KEYS: &str = "KEYS order:*:open";
    let _machine = alone();
    let folder = Folder::new();
    let _server = start(&folder);
    ask("DEBUG POPULATE 200000", 1);
    let once = ask(KEYS, 5) / 5;
    let times = (BUSY.as_secs_f64() / once.as_secs_f64()).ceil() as usize;
    let blame = while_busy(lab, redis_ping, || _ = ask(KEYS, times));
    blame.state_is("running", NEARLY_ALL);
    blame.is_guilty("running", &["keysCommand"]);
}

fn sleeping_command(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let _server = start(&folder);
    let command = format!("DEBUG SLEEP {}", BUSY.as_secs_f64());
    let blame = while_busy(lab, redis_ping, || _ = ask(&command, 1));
    blame.state_is("asleep", NEARLY_ALL);
    blame.is_guilty("asleep", &["debugCommand"]);
    blame.stacks_have("asleep", &["nanosleep", "debugCommand", "call", "processCommand", "aeMain", "main"], NEARLY_ALL);
}
