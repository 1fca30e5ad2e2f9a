//! Running labs, and checks that nothing of them is left.

use crate::{alive, eventually, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A lab without a dashboard, with this program as listentop.
pub fn headless(options: &str, listentop: &Path) -> Child {
    Command::new(program("lab"))
        .args(options.split_whitespace())
        .arg("--headless")
        .arg("--listentop")
        .arg(listentop)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A lab's processes and its namespace.
pub struct Running {
    lab: i32,
    pids: Vec<i32>,
    /// Such as `net:[4026532177]`.
    pub namespace: PathBuf,
}

impl Running {
    /// Waits until a lab's load runs.
    pub fn wait(lab: i32) -> Self {
        eventually("the load runs", || names(&descendants(lab)).iter().any(|name| name == "stress"));
        let pids = descendants(lab);
        let own = network_of(std::process::id() as i32).unwrap();
        let elsewhere = pids.iter().filter_map(|&pid| network_of(pid)).find(|namespace| *namespace != own);
        Self { lab, pids, namespace: elsewhere.expect("servers are in another namespace") }
    }

    /// The lab's own process.
    pub fn lab(&self) -> i32 {
        self.lab
    }

    /// The inode number of its namespace.
    pub fn inode(&self) -> &str {
        self.namespace.to_str().unwrap().trim_start_matches("net:[").trim_end_matches(']')
    }

    /// The process with this name, if there is one.
    pub fn find(&self, name: &str) -> Option<i32> {
        let now = descendants(self.lab);
        now.iter().copied().zip(names(&now)).find(|(_, other)| other == name).map(|(pid, _)| pid)
    }

    /// Opens the lab's namespace. It exists as long as the file is open.
    pub fn open_namespace(&self) -> File {
        let inside = self.pids.iter().find(|&&pid| network_of(pid).as_ref() == Some(&self.namespace));
        File::open(format!("/proc/{}/ns/net", inside.expect("a server runs"))).unwrap()
    }

    /// Sends a signal to the process with this name.
    pub fn signal(&self, name: &str, signal: Signal) {
        kill(Pid::from_raw(self.find(name).expect(name)), signal).unwrap();
    }

    /// What keeps its namespace alive.
    pub fn holders(&self) -> Vec<String> {
        holders_of(&self.namespace)
    }

    /// Checks that its processes are gone and that nothing holds its namespace.
    pub fn assert_nothing_left(&self) {
        eventually("no process is left", || !self.pids.iter().any(|&pid| alive(pid)));
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let holders = self.holders();
            if holders.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{} is still held by {holders:?}", self.namespace.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The descendants of a process.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        for task in entries(&format!("/proc/{}/task", found[next])) {
            let children = fs::read_to_string(task.join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
        }
        next += 1;
    }
    found.split_off(1)
}

/// The names of processes.
pub fn names(pids: &[i32]) -> Vec<String> {
    let name = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pids.iter().map(|pid| name(pid).trim().to_owned()).collect()
}

fn network_of(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// What keeps a namespace alive: threads in it, open files, mounts.
fn holders_of(namespace: &Path) -> Vec<String> {
    let is_it = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target == namespace);
    let mut holders = Vec::new();
    let is_process = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes()[0].is_ascii_digit());
    for process in entries("/proc").into_iter().filter(is_process) {
        let threads = entries(&process.join("task").display().to_string()).into_iter().map(|task| task.join("ns/net"));
        let files = entries(&process.join("fd").display().to_string());
        holders.extend(threads.chain(files).filter(|link| is_it(link.clone())).map(|link| link.display().to_string()));
        let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        if mounts.contains(&format!(" {} ", namespace.display())) {
            holders.push(process.join("mountinfo").display().to_string());
        }
    }
    holders
}

fn entries(directory: &str) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
