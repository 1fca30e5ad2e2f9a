//! The log of the probes (`--log-probes`): what it says, what it does not, and that nothing waits for its reader.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
    time::{Duration, Instant},
};

use listentop_model::coverage::Measure;
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use socket2::Socket;

use crate::support::{
    Lab, Test,
    command::listentop,
    lab::PORT,
    sleep_ms,
    sockets::{connect, listen, wait_queued},
};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "probe_log::listeners_and_losses",
        needs: &[Measure::Enqueued, Measure::Accepts],
        run: log_of_the_probes,
    },
    Test { name: "probe_log::nobody_reads_it", needs: &[], run: unread_log },
];

/// With `--log-probes` the probes log on stderr which listeners open and close, and losses. Without it they log
/// nothing.
fn log_of_the_probes(lab: &Lab) {
    for (option, logs) in [("--log-probes --max-connections 16", true), ("", false)] {
        let arguments = format!("report --for 700ms --format json --netns {} {option}", lab.netns);
        let mut child =
            listentop(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("listentop starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map(|line| line.expect("text"));
        // Other programs on this machine may have logged lines before.
        let mut log: Vec<String> = lines.by_ref().take_while(|line| line != "measuring").collect();
        let listener = listen(PORT, 128);
        let clients: Vec<Socket> = (0..100).map(|_| connect(PORT)).collect();
        wait_queued(&listener, 100);
        drop((listener, clients));
        log.extend(lines);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{log:?}");
        for line in ["probe: listening: ", "probe: listens no more: ", "probe: lost: "] {
            assert_eq!(log.iter().any(|logged| logged.starts_with(line)), logs, "{line}: {log:?}");
        }
        let remarks =
            log.extract_if(.., |line| line.starts_with("listentop: losses are counted for the whole machine"));
        assert_eq!(remarks.count(), usize::from(logs), "a filter does not hide losses");
        assert!(log.iter().all(|line| line.starts_with("probe: ")), "{log:?}");
        assert!(!log.iter().any(|line| has_kernel_address(line)), "{log:?}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
        // Listeners have the same names there as in the report.
        let id = &report["listeners"][0]["id"];
        assert_eq!(log.contains(&format!("probe: listening: {id}")), logs, "{id}: {log:?}");
        let aborted = &report["listeners"][0]["accept_queue"]["aborted"];
        // Connections that fit no table are only counted.
        assert!(aborted.as_u64().is_some_and(|n| if logs { (1..100).contains(&n) } else { n == 100 }), "{aborted}");
    }
}

/// Whether a text holds an address of the kernel's, whose upper half of the address space begins with a bit that is
/// set.
fn has_kernel_address(text: &str) -> bool {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == 16).any(|word| u64::from_str_radix(word, 16).is_ok_and(|n| n >> 63 == 1))
}

/// A log into a pipe that nobody reads neither holds the report up nor its end. What is lost of it is counted.
fn unread_log(lab: &Lab) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    // A page: full after some 40 lines.
    let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a smaller pipe");
    let arguments = format!("report --for 1h --format json --log-probes --netns {}", lab.netns);
    let mut command = listentop(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::from(writer)).spawn().expect("listentop starts");
    drop(command);
    let mut first = [0; 10];
    // Other programs on this machine may have logged lines before.
    let mut log = Vec::new();
    while !log.ends_with(b"measuring\n") {
        reader.read_exact(&mut first[..1]).expect("it starts");
        log.push(first[0]);
    }
    // Many times as much as it holds.
    for _ in 0..3_000 {
        drop(listen(PORT, 4));
    }
    let listener = listen(PORT, 4);
    sleep_ms(1_500);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");
    let began = Instant::now();
    let mut json = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut json).expect("text");
    let status = child.wait().expect("our child");
    assert!(began.elapsed() < Duration::from_secs(8), "its end waits for a reader: {:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    let report: Value = serde_json::from_str(&json).expect("a whole report");
    assert!(report["listeners"].as_array().is_some_and(|listeners| !listeners.is_empty()), "{report:#}");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("text");
    assert!(rest.len() > size as usize / 2, "the pipe was not full: {}", rest.len());
    assert!(!rest.lines().any(has_kernel_address));
    drop(listener);
}
