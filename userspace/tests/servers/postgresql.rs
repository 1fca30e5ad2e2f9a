//! PostgreSQL: a process for each connection.

use std::{
    io::{Read as _, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, command::NOBODY, lab::PORT, skip, wait_until};

use crate::support::{
    exchange::postgresql,
    load::Load,
    report::Watching,
    server::{Folder, Server, User, installed},
    side_by_side,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];

pub(crate) const TESTS: &[Test] =
    &[Test { name: "postgresql::three_hundred_connections_in_turn", needs: NEEDS, run: in_turn }];

/// The folder with the programs of the newest version.
fn programs() -> PathBuf {
    let programs = installed("/usr/lib/postgresql", "*", "postgresql").join("bin");
    if !programs.join("postgres").exists() {
        skip("no server in /usr/lib/postgresql: install the package postgresql");
    }
    programs
}

/// Makes a database cluster, whose owner is an unprivileged user: PostgreSQL refuses to run as root.
fn initialize(programs: &Path, folder: &Folder) -> String {
    let data = folder.path("data");
    let mut command = Command::new(programs.join("initdb"));
    command.args(["--pgdata", &data, "--auth=trust", "--username=nobody", "--no-sync", "--no-instructions"]);
    command.args(["--locale=C", "--encoding=UTF8"]).uid(NOBODY).gid(NOBODY).current_dir(folder.path(""));
    let output = command.output().expect("initdb runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    data
}

/// How many sessions of the database `postgres` have ended, by PostgreSQL's own count.
fn sessions(folder: &Folder) -> u64 {
    const START: &[u8] = b"\0\x03\0\0user\0nobody\0database\0template1\0\0";
    const QUERY: &[u8] = b"SELECT 'sessions=' || sessions FROM pg_stat_database WHERE datname = 'postgres'\0";
    let mut stream = UnixStream::connect(folder.path(&format!(".s.PGSQL.{PORT}"))).expect("it listens");
    let length = |content: &[u8]| (content.len() as u32 + 4).to_be_bytes();
    let messages = [&length(START)[..], START, b"Q", &length(QUERY), QUERY, b"X\0\0\0\x04"].concat();
    stream.write_all(&messages).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (_, rest) = text.split_once("sessions=").expect("a row");
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Starts it with a new database cluster, for so many sessions at a time.
pub(crate) fn start(folder: &Folder, sessions: u32) -> Server {
    let programs = programs();
    let data = initialize(&programs, folder);
    let settings = [
        format!("port={PORT}"),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={}", folder.path("")),
        "fsync=off".to_owned(),
        "autovacuum=off".to_owned(),
        format!("max_connections={sessions}"),
    ];
    let mut arguments = vec!["-D", &data];
    arguments.extend(settings.iter().flat_map(|setting| ["-c", setting]));
    let server = Server::start(folder, User::Nobody, &programs.join("postgres"), &arguments);
    server.listens(PORT, 1);
    wait_until("it takes sessions", || server.output().contains("ready to accept connections"));
    server
}

fn in_turn(lab: &Lab) {
    let _machine = side_by_side();
    let folder = Folder::new();
    let server = start(&folder, 20);
    let before = sessions(&folder);
    let watching = Watching::start(lab);
    let tally = Load { port: PORT, connections: 300, at_once: 2, requests: 1, exchange: postgresql }.run();
    let report = watching.report();
    wait_until("it counts each session", || sessions(&folder) - before == tally.connections);
    report.counts(PORT, &tally);
    report.is_healthy(PORT, &tally);
    report.has_pattern(PORT, &["process_per_connection"]);
    let acceptors = report.with_role(PORT, "acceptor");
    assert_eq!((acceptors.len(), &acceptors[0]["pid"]), (1, &server.pid().into()));
    assert_eq!(acceptors[0]["roles"], serde_json::json!(["acceptor"]), "its children read and write");
}
