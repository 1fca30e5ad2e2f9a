//! Starting listentop with chosen rights, listeners to be seen, and namespaces for both.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        ffi::OsStringExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// An unprivileged user.
pub(crate) const NOBODY: u32 = 65534;
/// Another one.
pub(crate) const SOMEBODY: u32 = 54321;
/// Everything that docs/rights.md names.
pub(crate) const ALL: &[&str] = &["bpf", "perfmon", "dac_read_search", "sys_ptrace", "sys_admin", "syslog"];

/// A copy of the program where every user may run it; gone when dropped.
pub(crate) struct Program {
    directory: PathBuf,
}

impl Program {
    pub(crate) fn copy(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("listentop-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("anybody may enter");
        let program = Self { directory };
        fs::copy(env!("CARGO_BIN_EXE_listentop"), program.path()).expect("a copy of the program");
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).expect("anybody may run it");
        program
    }

    /// Has the file give these capabilities to whoever runs it, as setcap(8) with `=ep` does: struct vfs_cap_data,
    /// revision 2.
    pub(crate) fn grant(&self, capabilities: &[caps::Capability]) {
        const REVISION_2: u32 = 0x0200_0000;
        const EFFECTIVE: u32 = 1;
        let permitted = mask(capabilities);
        let words = [REVISION_2 | EFFECTIVE, permitted as u32, 0, (permitted >> 32) as u32, 0];
        let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let path = CString::new(self.path().into_os_string().into_vec()).expect("no zero in it");
        // SAFETY: the strings end in zero, the value has this length, and all outlive the call.
        let result = unsafe {
            libc::setxattr(path.as_ptr(), c"security.capability".as_ptr(), value.as_ptr().cast(), value.len(), 0)
        };
        let error = std::io::Error::last_os_error();
        assert_eq!(result, 0, "{} cannot have capabilities: {error}", self.path().display());
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("listentop")
    }

    /// As root, as this process has it.
    pub(crate) fn as_root(&self, arguments: &str) -> Command {
        prepared(Command::new(self.path()), arguments)
    }

    /// As an unprivileged user without capabilities but those that the file has.
    pub(crate) fn as_nobody(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.path());
        command.uid(NOBODY).gid(NOBODY);
        prepared(command, arguments)
    }

    /// As an unprivileged user with these capabilities, ambient and bounding: as a systemd unit does it.
    pub(crate) fn with(&self, capabilities: &[&str], arguments: &str) -> Command {
        let set = capabilities.iter().map(|name| format!(",+{name}")).collect::<String>();
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
        for option in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
            command.arg(format!("{option}=-all{set}"));
        }
        command.arg("--").arg(self.path());
        prepared(command, arguments)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn prepared(mut command: Command, arguments: &str) -> Command {
    command.args(arguments.split_whitespace()).current_dir("/").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command that was run to its end: exit code, stdout, stderr.
pub(crate) fn finished(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A report that measures until it is told to end.
pub(crate) struct Measuring {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Measuring {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("text");
        assert_eq!(line, "measuring\n");
        Self { child, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it; its report.
    pub(crate) fn report(mut self) -> Value {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("it runs");
        let mut text = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
        let status: ExitStatus = self.child.wait().expect("it ends");
        let mut errors = String::new();
        self.stderr.read_to_string(&mut errors).expect("text");
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What /proc says of a thread.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    fields: BTreeMap<String, String>,
}

impl Thread {
    /// A set of capabilities: `CapEff`, `CapPrm`, `CapInh`, `CapAmb`, `CapBnd`.
    pub(crate) fn set(&self, name: &str) -> u64 {
        u64::from_str_radix(&self.fields[name], 16).expect("a mask")
    }

    pub(crate) fn no_new_privs(&self) -> bool {
        self.fields["NoNewPrivs"] == "1"
    }
}

/// Every thread of a process.
pub(crate) fn threads(pid: u32) -> Vec<Thread> {
    let directory = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let status = |path: PathBuf| {
        // Some live for a moment only.
        let text = fs::read_to_string(path.join("status")).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        let fields: BTreeMap<_, _> = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Some(Thread { name: fields["Name"].clone(), fields })
    };
    directory.filter_map(|entry| status(entry.ok()?.path())).collect()
}

/// The bits of these capabilities.
pub(crate) fn mask(capabilities: &[caps::Capability]) -> u64 {
    capabilities.iter().map(caps::Capability::bitmask).fold(0, std::ops::BitOr::bitor)
}

/// Moves the calling thread to network and mount namespaces of its own; nothing that is mounted there is seen outside.
pub(crate) fn enter_namespaces() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
}

/// Inode of the calling thread's network namespace.
pub(crate) fn netns() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").expect("our namespace").ino()
}

/// A listener on a free port, which it returns.
pub(crate) fn listen() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    socket.bind(&any.into()).expect("a free port");
    socket.listen(8).expect("it listens");
    let port = socket.local_addr().expect("bound").as_socket().expect("IP").port();
    (socket, port)
}

/// A listener in a network namespace of its own, held by a process of another user; gone when dropped.
pub(crate) struct Elsewhere {
    pub(crate) netns: u64,
    pub(crate) port: u16,
    holder: Child,
}

impl Elsewhere {
    pub(crate) fn open() -> Self {
        let open = || {
            // On a thread of its own: the calling one stays where it is.
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            let (socket, port) = listen();
            socket.set_cloexec(false).expect("inherited");
            let mut holder = Command::new("sleep");
            holder.arg("60").uid(SOMEBODY).gid(SOMEBODY).stdin(Stdio::null()).stdout(Stdio::null());
            Self { netns: netns(), port, holder: holder.spawn().expect("sleep starts") }
        };
        thread::scope(|scope| scope.spawn(open).join().expect("a listener"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A network namespace that has a name under /run/netns and no process, with a listener that we hold.
pub(crate) struct Named {
    pub(crate) netns: u64,
    pub(crate) port: u16,
    _listener: Socket,
}

impl Named {
    /// Makes one. The calling thread must be in a mount namespace of its own, and ends where it began.
    pub(crate) fn create(name: &str) -> Self {
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("a /run of our own");
        fs::create_dir("/run/netns").expect("an empty /run");
        let file = Path::new("/run/netns").join(name);
        fs::write(&file, "").expect("a place for it");
        let home = fs::File::open("/proc/thread-self/ns/net").expect("our namespace");
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        let source = Some("/proc/thread-self/ns/net");
        mount(source, &file, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a name for it");
        let (listener, port) = listen();
        let netns = netns();
        setns(home, CloneFlags::CLONE_NEWNET).expect("back home");
        Self { netns, port, _listener: listener }
    }
}

/// The report's entry about the listener on a port of a namespace.
pub(crate) fn listener(report: &Value, netns: u64, port: u16) -> Option<&Value> {
    let listeners = report["listeners"].as_array().expect("a list");
    listeners.iter().find(|listener| listener["netns"] == netns && listener["port"] == port)
}

/// The report's entry about a namespace.
pub(crate) fn namespace(report: &Value, netns: u64) -> Option<&Value> {
    report["namespaces"].as_array().expect("a list").iter().find(|namespace| namespace["inode"] == netns)
}

/// Status and reason of a measure.
pub(crate) fn coverage<'a>(report: &'a Value, measure: &str) -> (&'a str, &'a str) {
    let entries = report["coverage"].as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["measure"] == measure).expect("every measure is listed");
    (entry["status"].as_str().expect("a word"), entry["reason"].as_str().unwrap_or_default())
}

pub(crate) fn sleep_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}
