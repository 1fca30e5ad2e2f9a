//! Starts listentop with chosen rights, and makes listeners and namespaces for it to find.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use test_support::command::{NOBODY, ProgramCopy, with_arguments};
pub(crate) use test_support::{
    command::{Measuring, coverage},
    sleep_ms,
};

/// An unprivileged user other than [`NOBODY`].
pub(crate) const SOMEBODY: u32 = 54321;
/// All capabilities that docs/rights.md names.
pub(crate) const ALL: &[&str] = &["bpf", "perfmon", "dac_read_search", "sys_ptrace", "sys_admin", "syslog"];

/// A copy of the program, to be run with chosen rights.
pub(crate) struct Program(ProgramCopy);

impl Program {
    pub(crate) fn copy(name: &str) -> Self {
        Self(ProgramCopy::new(name))
    }

    /// Gives the file capabilities (struct vfs_cap_data, revision 2), as setcap(8) does with `=ep`: everybody who runs
    /// it has them.
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
        self.0.path()
    }

    /// The program with the capabilities of this process.
    pub(crate) fn as_root(&self, arguments: &str) -> Command {
        self.0.as_is(arguments)
    }

    /// The program run by an unprivileged user, whose only capabilities are those of the file.
    pub(crate) fn as_nobody(&self, arguments: &str) -> Command {
        self.0.as_nobody(arguments)
    }

    /// The program run by an unprivileged user with these capabilities, ambient and bounding, as in a systemd unit.
    pub(crate) fn with(&self, capabilities: &[&str], arguments: &str) -> Command {
        let set: Vec<String> = capabilities.iter().map(|name| format!(",+{name}")).collect();
        let set = set.concat();
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
        for option in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
            command.arg(format!("{option}=-all{set}"));
        }
        command.arg("--").arg(self.path());
        with_arguments(command, arguments)
    }
}

/// Runs a command to its end. Returns exit code, stdout, stderr.
pub(crate) fn finished(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A thread as /proc shows it.
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

    /// Another field of /proc/PID/status.
    pub(crate) fn field(&self, name: &str) -> String {
        self.fields[name].clone()
    }

    pub(crate) fn no_new_privs(&self) -> bool {
        self.fields["NoNewPrivs"] == "1"
    }
}

/// Every thread of a process.
pub(crate) fn threads(pid: u32) -> Vec<Thread> {
    let directory = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let status = |path: PathBuf| {
        // Some threads end while this reads.
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

/// Moves the calling thread to network and mount namespaces of its own. Its mounts are not visible outside.
pub(crate) fn enter_namespaces() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
}

/// Inode of the calling thread's network namespace.
pub(crate) fn netns() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").expect("our namespace").ino()
}

/// A listener on a free port, and the port.
pub(crate) fn listen() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    socket.bind(&any.into()).expect("a free port");
    socket.listen(8).expect("it listens");
    let port = socket.local_addr().expect("bound").as_socket().expect("IP").port();
    (socket, port)
}

/// A listener in another network namespace, held by a process of another user. Dropping it ends the process.
pub(crate) struct Elsewhere {
    pub(crate) netns: u64,
    pub(crate) port: u16,
    holder: Child,
}

impl Elsewhere {
    pub(crate) fn open() -> Self {
        let open = || {
            // This runs on a thread of its own, so the calling thread keeps its namespace.
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

/// A network namespace with a name in /run/netns, without a process, and with a listener that the test holds.
pub(crate) struct Named {
    pub(crate) netns: u64,
    pub(crate) port: u16,
    _listener: Socket,
}

impl Named {
    /// Makes one. The calling thread must be in a mount namespace of its own. It returns to its network namespace.
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
