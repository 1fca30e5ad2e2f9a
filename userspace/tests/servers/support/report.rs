//! What `listentop report` prints as JSON, and what must be true of it.

use std::{fs, thread, time::Duration};

use serde_json::Value;
use test_support::{Lab, command::Measuring, sleep_ms, watch};

use super::load::Tally;

/// A client of a healthy server that waits longer than this for one answer in a hundred shows that the machine is too
/// busy to tell a healthy server from a slow one.
const BUSY: Duration = Duration::from_millis(20);
/// Likewise if tasks wait for a CPU during this share of the time, in percent.
const PRESSURE: f64 = 20.0;

/// A running report on the test's network namespace.
pub(crate) struct Watching(Measuring);

impl Watching {
    /// Measures from now on.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self(Measuring::start(&format!("report --for 10m --format json --netns {}", lab.netns)))
    }

    /// Ends it; what it measured.
    pub(crate) fn report(self) -> Report {
        // A second sample finds causes for what the first could not explain.
        sleep_ms(550);
        self.report_now()
    }

    /// Ends it while something is still going on.
    pub(crate) fn report_now(self) -> Report {
        Report(self.0.report())
    }
}

/// The report.
pub(crate) struct Report(Value);

impl Drop for Report {
    fn drop(&mut self) {
        if thread::panicking() {
            watch::note_hidden(self.hidden());
            println!("listeners: {:#}", self.0["listeners"]);
        }
    }
}

impl Report {
    /// How many events the kernel hid from the probes: a count may be too low by as many.
    fn hidden(&self) -> u64 {
        number(&self.0, "own_cost.missed_runs") + number(&self.0, "own_cost.lost.unseen")
    }

    /// The listeners on a port, closed ones included.
    pub(crate) fn listeners(&self, port: u16) -> Vec<&Value> {
        let listeners = self.0["listeners"].as_array().expect("a list");
        listeners.iter().filter(|listener| listener["port"] == port).collect()
    }

    /// The only listener on a port.
    pub(crate) fn listener(&self, port: u16) -> &Value {
        let found = self.listeners(port);
        assert_eq!(found.len(), 1, "listeners on port {port}");
        found[0]
    }

    /// The group of shards on a port, if there is one.
    pub(crate) fn group(&self, port: u16) -> Option<&Value> {
        self.0["groups"].as_array().expect("a list").iter().find(|group| group["port"] == port)
    }

    /// A count of all listeners on a port together. `path` has dots between the names.
    pub(crate) fn sum(&self, port: u16, path: &str) -> u64 {
        self.listeners(port).into_iter().map(|listener| number(listener, path)).sum()
    }

    /// The threads that worked for the listeners on a port.
    pub(crate) fn threads(&self, port: u16) -> Vec<&Value> {
        self.listeners(port).into_iter().flat_map(|l| l["threads"].as_array().expect("a list")).collect()
    }

    /// The threads on a port that have this role.
    pub(crate) fn with_role(&self, port: u16, role: &str) -> Vec<&Value> {
        let mut threads = self.threads(port);
        threads.retain(|thread| thread["roles"].as_array().expect("a list").iter().any(|r| r == role));
        threads
    }

    /// Process and thread of those who probably should accept from the only listener on a port.
    pub(crate) fn likely_acceptors(&self, port: u16) -> Vec<(u32, u32)> {
        let likely = self.listener(port)["likely_acceptors"].as_array().expect("a list");
        likely.iter().map(|one| (number(one, "pid") as u32, number(one, "tid") as u32)).collect()
    }

    /// How many connections a process accepted from the listeners on a port.
    pub(crate) fn accepts_of(&self, port: u16, pid: u32) -> u64 {
        self.threads(port).into_iter().filter(|t| t["pid"] == pid).map(|thread| number(thread, "accepts")).sum()
    }

    /// Checks the pattern of the listeners on a port, and of their group: one of these.
    pub(crate) fn has_pattern(&self, port: u16, expected: &[&str]) {
        for judged in self.listeners(port).into_iter().chain(self.group(port)) {
            let name = judged["pattern"]["name"].as_str().expect("a name");
            assert!(expected.contains(&name), "pattern {name}, not {expected:?}: {:#}", judged["pattern"]);
        }
    }

    /// Checks every count of the listeners on a port against those of a load, which was everything that happened there.
    pub(crate) fn counts(&self, port: u16, load: &Tally) {
        for (path, truth) in [
            ("accepts.total", load.connections),
            ("accept_queue.enqueued", load.connections),
            ("accept_queue.wait_us.count", load.connections),
            ("accept_queue.depth", 0),
            ("accept_queue.aborted", 0),
            ("accepts.failed", 0),
            ("connections.open", 0),
            ("reads.bytes", load.sent),
            ("reads.queued_bytes", 0),
            ("writes.bytes", load.received),
            ("drops.total", 0),
        ] {
            assert_eq!(self.sum(port, path), truth, "{path}, by the clients of the load");
        }
        assert!(self.sum(port, "reads.count") >= load.requests, "each request takes a read");
        self.threads_add_up(port);
        // No table was full. (What else was lost is of the whole machine: it matters if it makes a count wrong.)
        for table in ["listeners", "connections", "threads"] {
            assert_eq!(number(&self.0, &format!("own_cost.lost.{table}")), 0, "{table} that found no room");
        }
    }

    /// Checks that the threads of a listener did all of its work.
    pub(crate) fn threads_add_up(&self, port: u16) {
        for listener in self.listeners(port) {
            let threads = listener["threads"].as_array().expect("a list");
            for (of_thread, of_listener) in [
                ("accepts", "accepts.total"),
                ("would_block", "accepts.would_block"),
                ("reads", "reads.count"),
                ("read_bytes", "reads.bytes"),
                ("writes", "writes.count"),
                ("write_bytes", "writes.bytes"),
            ] {
                let sum: u64 = threads.iter().map(|thread| number(thread, of_thread)).sum();
                assert_eq!(sum, number(listener, of_listener), "the threads' {of_thread}");
            }
        }
    }

    /// Checks that nothing is said to be wrong with the listeners on a port.
    pub(crate) fn is_healthy(&self, port: u16, load: &Tally) {
        let found: Vec<&Value> = self.findings(port);
        if found.is_empty() {
            return;
        }
        let p99 = load.p99();
        let busy = if p99 > BUSY { format!("{OWN_LOAD}: p99 {p99:?}. ") } else { under_pressure() };
        panic!("{busy}A healthy server, with {found:#?}");
    }

    /// What is said to be wrong with the listeners on a port.
    fn findings(&self, port: u16) -> Vec<&Value> {
        let judged = self.listeners(port).into_iter().chain(self.group(port));
        judged.flat_map(|judged| judged["findings"].as_array().expect("a list")).collect()
    }

    /// Checks what is said to be wrong with the only listener on a port.
    pub(crate) fn has_fault(&self, port: u16, fault: &Fault) -> &Value {
        fault.check(self.listener(port))
    }
}

/// What is wrong with a listener, in truth.
pub(crate) struct Fault {
    /// The finding that names the root cause.
    pub(crate) root: &'static str,
    /// The severities that fit.
    pub(crate) severity: &'static [&'static str],
    /// What may stand under it, because it follows from it.
    pub(crate) follows: &'static [&'static str],
}

impl Fault {
    /// Checks the findings of a listener or a group; the root finding.
    pub(crate) fn check<'a>(&self, judged: &'a Value) -> &'a Value {
        let found = judged["findings"].as_array().expect("a list");
        if let Some(wrong) = self.contradiction(found) {
            panic!("{}{wrong}, in {found:#?}", under_pressure());
        }
        &found[0]
    }

    /// What is wrong with these findings, if anything is.
    fn contradiction(&self, found: &[Value]) -> Option<String> {
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let root = found.first().filter(|finding| finding["id"] == self.root && finding["follows_from"].is_null());
        let Some(root) = root else { return Some(format!("{} does not come first", self.root)) };
        let severity = text(root, "severity");
        if !self.severity.contains(&severity.as_str()) {
            return Some(format!("{} is {severity}, not {:?}", self.root, self.severity));
        }
        found[1..].iter().find_map(|finding| {
            let (id, cause) = (text(finding, "id"), text(finding, "follows_from"));
            if !self.follows.contains(&id.as_str()) {
                return Some(format!("{id} does not follow from {}", self.root));
            }
            cause.is_empty().then(|| format!("{id} stands beside {}, not under it", self.root))
        })
    }
}

/// Begins the message of a failure that may be the machine's: the test is repeated.
const OWN_LOAD: &str = "the test's own load did not come about";

/// The beginning of such a message if other programs keep the CPUs busy; else nothing.
pub(crate) fn under_pressure() -> String {
    let share = cpu_pressure();
    if share > PRESSURE { format!("{OWN_LOAD}: tasks wait for a CPU {share} % of the time. ") } else { String::new() }
}

/// The number at a path with dots between the names.
pub(crate) fn number(value: &Value, path: &str) -> u64 {
    let found = path.split('.').fold(value, |value, name| &value[name]);
    found.as_u64().unwrap_or_else(|| panic!("{path} is {found}"))
}

/// The share of the last ten seconds during which a task of this machine waited for a CPU, in percent; 0 if the kernel
/// does not say.
fn cpu_pressure() -> f64 {
    let text = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let share = text.split_whitespace().find_map(|word| word.strip_prefix("avg10="));
    share.and_then(|share| share.parse().ok()).unwrap_or(0.0)
}
