//! A server, started as its users start it, in a process namespace and a folder of its own. Both end with the test.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use test_support::{command::NOBODY, environment, skip, sleep_ms, wait_until};

/// How long a server may take until it listens: PostgreSQL first makes a database.
const START: Duration = Duration::from_secs(30);

/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";
/// State of a connection that has ended, of which the kernel keeps the ports.
const TIME_WAIT: &str = "06";

/// The path of an installed program. If `name` ends in `*`, it is the last by name of those that begin so. Without one
/// the test is skipped.
pub(crate) fn installed(folder: &str, name: &str, package: &str) -> PathBuf {
    let fits = |file: &str| name.strip_suffix('*').map_or(file == name, |beginning| file.starts_with(beginning));
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|file| fits(&file.to_string_lossy())));
    found.sort();
    found.pop().unwrap_or_else(|| skip(format!("no {name} in {folder}: install the package {package}")))
}

/// A folder for a server's files. Dropping it deletes it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// An empty folder that every user may write to.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("listentop-servers-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a new folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).expect("it is ours");
        Self(path)
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a temporary folder has a plain name").to_owned()
    }

    /// Writes a file that every user may read; its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("it is ours");
        path
    }

    /// The lines of a file that the server writes; none if it wrote none yet.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Who runs a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// As the tests.
    Root,
    /// An unprivileged one.
    Nobody,
}

/// A running server with all of its processes. They end when it is dropped, and when the test dies.
pub(crate) struct Server {
    /// unshare(1), which waits for the first process of the namespace.
    outside: Child,
    /// The server's first process, process 1 of its namespace.
    first: u32,
    log: PathBuf,
}

impl Server {
    /// Starts a program in the calling thread's network namespace.
    pub(crate) fn start<A: AsRef<OsStr>>(folder: &Folder, user: User, program: &Path, arguments: &[A]) -> Self {
        let mut command = unshare(&[]);
        if user == User::Nobody {
            let id = NOBODY.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--pdeathsig", "keep"]);
        }
        Self::spawn(folder, command, program, arguments)
    }

    /// The same, as in a container: /tmp is the folder, and the current one. Processes of several namespaces have the
    /// same ids, by which files in /tmp are named.
    pub(crate) fn start_contained<A: AsRef<OsStr>>(folder: &Folder, program: &Path, arguments: &[A]) -> Self {
        let mut command = unshare(&["--mount"]);
        command.args(["sh", "-c", "mount --bind . /tmp && cd /tmp && exec \"$@\"", "sh"]);
        Self::spawn(folder, command, program, arguments)
    }

    /// Starts a program through the end of a command.
    fn spawn<A: AsRef<OsStr>>(folder: &Folder, mut command: Command, program: &Path, arguments: &[A]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let log = PathBuf::from(folder.path(&format!("log-{}", NEXT.fetch_add(1, Ordering::Relaxed))));
        command.arg(program).args(arguments).current_dir(folder.path("")).stdin(Stdio::null());
        command.stdout(File::create(&log).expect("the folder is ours"));
        command.stderr(File::options().append(true).open(&log).expect("the folder is ours"));
        // SAFETY: the child makes one system call.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        let outside = command.spawn().expect("unshare(1) runs");
        let mut server = Self { outside, first: 0, log };
        let name = program.file_name().expect("a program").to_string_lossy().into_owned();
        wait_until(&format!("{name} has started"), || {
            server.first = children(server.outside.id()).first().copied().unwrap_or(0);
            server.first != 0 && started(server.first, &name)
        });
        server
    }

    /// Waits until this many sockets of the namespace listen on the port.
    pub(crate) fn listens(&self, port: u16, sockets: usize) {
        let start = Instant::now();
        while listening(port) < sockets {
            assert!(alive(self.first), "the server has ended");
            assert!(start.elapsed() < START * environment::slowness(), "the server does not listen on port {port}");
            sleep_ms(10);
        }
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> u32 {
        self.first
    }

    /// The children of its first process, by process id.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children(self.first)
    }

    /// Waits until it has this many children; their process ids.
    pub(crate) fn has_workers(&self, count: usize) -> Vec<u32> {
        wait_until(&format!("{count} workers"), || self.workers().len() == count);
        self.workers()
    }

    /// What it has written to standard output and error.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Ends it at once, without a chance to clean up.
    pub(crate) fn kill(&mut self) {
        if self.first != 0 {
            signal(self.first, Signal::SIGKILL);
        }
        let _ = self.outside.kill();
        // The kernel lets the first process end after all others.
        let _ = self.outside.wait();
        self.first = 0;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let output = self.output();
            let tail: Vec<&str> = output.lines().rev().take(20).collect();
            eprintln!("the server wrote: {}", tail.into_iter().rev().collect::<Vec<_>>().join("\n  "));
        }
    }
}

/// The beginning of a command that runs in a process namespace, and in namespaces by these options.
fn unshare(options: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    // When the first process of a process namespace ends, the kernel ends all others, whatever they have become.
    command.args(["--pid", "--fork", "--kill-child=SIGKILL"]).args(options).arg("--");
    command
}

/// Sends a signal, if the process is still there.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// The id that a process has in its own namespace: the one that it writes to its logs.
pub(crate) fn own_pid(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("every Linux says it");
    line.split_whitespace().last().and_then(|id| id.parse().ok()).expect("ids")
}

/// The name of a process.
pub(crate) fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// How many sockets of this thread's network namespace listen on a port.
pub(crate) fn listening(port: u16) -> usize {
    sockets(port).into_iter().filter(|state| state == LISTEN).count()
}

/// Waits until no connection to this port is open on the server's side.
pub(crate) fn all_closed(port: u16) {
    wait_until("the server closes its connections", || {
        sockets(port).iter().all(|state| state == LISTEN || state == TIME_WAIT)
    });
}

/// The states of the sockets with this local port in this thread's network namespace.
fn sockets(port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")));
    let rows = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let fields = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    fields.filter(|row| row.len() > 3 && row[1].ends_with(&suffix)).map(|row| row[3].to_owned()).collect()
}

/// The children of all threads of a process, by process id.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let mut pids: Vec<u32> =
        texts.flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect();
    pids.sort_unstable();
    pids
}

/// Whether a process runs its server already, and no longer the programs that start it. A server may be a shell, too.
fn started(pid: u32, name: &str) -> bool {
    let comm = comm(pid);
    comm == name || !matches!(comm.as_str(), "" | "unshare" | "setpriv" | "sh" | "mount")
}

fn alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
