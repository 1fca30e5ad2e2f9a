//! Containers by the names that their runtimes' files give them: real cgroups, made-up files. In a PID namespace of its
//! own, because the files are read through the root of its first process.

use std::{
    fs,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nix::{
    libc,
    sched::{CloneFlags, unshare},
};
use serde_json::Value;
use socket2::Socket;

use crate::{
    Test,
    support::{ALL, Program, finished, sleep_ms},
};

pub(crate) const TESTS: &[Test] = &[Test { name: "containers::with_the_same_port_are_told_apart", run: told_apart }];

/// The same port in both.
const PORT: u16 = 8080;

/// Cgroups of the unified hierarchy, removed with what is in them.
struct Cgroups(PathBuf);

impl Cgroups {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[2] == "cgroup2").then(|| fields[1].to_owned())
        });
        let Some(mount) = mount else { test_harness::skip("no cgroup2 is mounted".to_owned()) };
        let path = Path::new(&mount).join(format!("listentop-test-{}", std::process::id()));
        fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    fn make(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(&path).expect("a cgroup");
        path
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        fn remove(path: &Path) {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            // Its processes were killed, and may not have gone yet.
            for _ in 0..100 {
                if fs::remove_dir(path).is_ok() {
                    return;
                }
                sleep_ms(20);
            }
        }
        remove(&self.0);
    }
}

/// A network namespace of its own, and a listener in it.
fn network() -> (OwnedFd, Socket) {
    let open = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        let namespace = fs::File::open("/proc/thread-self/ns/net").expect("ours");
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], PORT)).into()).expect("nobody else is here");
        socket.listen(8).expect("it listens");
        (OwnedFd::from(namespace), socket)
    };
    let (namespace, socket) = thread::scope(|scope| scope.spawn(open).join().expect("a namespace"));
    for fd in [namespace.as_raw_fd(), socket.as_raw_fd()] {
        // SAFETY: takes numbers only: the shell inherits both.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    (namespace, socket)
}

/// Starts two processes in their cgroups, each with one of the listeners, and runs the rest of its arguments.
const SCRIPT: &str = r#"
set -e
mount --bind "$TREE/var/lib" /var/lib
( eval "exec $SOCKET_B>&-"; echo 0 > "$CGROUP_A/cgroup.procs"; exec nsenter --net=/proc/self/fd/$NETNS_A sleep 60 ) &
( eval "exec $SOCKET_A>&-"; echo 0 > "$CGROUP_B/cgroup.procs"; exec nsenter --net=/proc/self/fd/$NETNS_B sleep 60 ) &
eval "exec $SOCKET_A>&- $SOCKET_B>&-"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(grep -ls '^sleep$' /proc/[0-9]*/comm | wc -l)" = 2 ] && break
    sleep 0.1
done
"$@"
"#;

fn told_apart() {
    let program = Program::copy("containers");
    let cgroups = Cgroups::new();
    let [first, second] = ["0123456789abcdef".repeat(4), "fedcba9876543210".repeat(4)];
    let uid = "11111111_2222_3333_4444_555555555555";
    let of_first = cgroups.make(&format!("system.slice/docker-{first}.scope"));
    let of_second = cgroups.make(&format!("kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{second}.scope"));
    let tree = tempfile::tempdir().expect("a folder");
    for (id, config) in [
        (&first, r#"{"Name":"/web-a","Config":{"Labels":null}}"#),
        (
            &second,
            r#"{"Name":"/k8s_x","Config":{"Labels":{"io.kubernetes.container.name":"nginx",
                "io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}}}"#,
        ),
    ] {
        let folder = tree.path().join("var/lib/docker/containers").join(id);
        fs::create_dir_all(&folder).expect("folders");
        fs::write(folder.join("config.v2.json"), config).expect("written");
    }
    // As Docker has it: nobody else may enter.
    fs::set_permissions(tree.path().join("var/lib/docker"), fs::Permissions::from_mode(0o700)).expect("ours");
    let (networks, sockets): (Vec<_>, Vec<_>) = [network(), network()].into_iter().unzip();
    let run = |command: &Command| {
        let mut whole = Command::new("unshare");
        whole.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net", "sh", "-c", SCRIPT, "sh"]);
        whole.arg(command.get_program()).args(command.get_args());
        whole.env("TREE", tree.path()).env("CGROUP_A", &of_first).env("CGROUP_B", &of_second);
        for (name, fd) in [("NETNS_A", networks[0].as_raw_fd()), ("NETNS_B", networks[1].as_raw_fd())] {
            whole.env(name, fd.to_string());
        }
        for (name, socket) in [("SOCKET_A", &sockets[0]), ("SOCKET_B", &sockets[1])] {
            whole.env(name, socket.as_raw_fd().to_string());
        }
        whole.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (code, stdout, stderr) = finished(whole);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let arguments = format!("report --for 1s --format json --port {PORT} --probes sock_diag");
    for command in [program.as_root(&arguments), program.with(ALL, &arguments)] {
        let report: Value = serde_json::from_str(&run(&command)).expect("JSON");
        let mut processes: Vec<&Value> =
            report["listeners"].as_array().expect("a list").iter().map(|listener| &listener["process"]).collect();
        assert_eq!(processes.len(), 2, "{report:#}");
        processes.sort_by_key(|process| process["container"].as_str().map(str::to_owned));
        let [a, b] = processes[..] else { unreachable!("there are two") };
        assert_eq!((&a["container"], &a["container_name"]), (&first[..12].into(), &"web-a".into()), "{a:#}");
        assert_eq!((&a["pod"], &a["pod_name"]), (&Value::Null, &Value::Null), "{a:#}");
        assert_eq!((&b["container"], &b["container_name"]), (&second[..12].into(), &"nginx".into()), "{b:#}");
        assert_eq!((&b["pod_name"], &b["pod_namespace"]), (&"web-0".into(), &"shop".into()), "{b:#}");
        assert_eq!(b["pod"], uid.replace('_', "-"), "{b:#}");
        assert!(a["cgroup"].as_str().is_some_and(|path| path.ends_with(&format!("docker-{first}.scope"))), "{a:#}");
    }
    for (filter, shown) in [("--container web-a", "web-a"), ("--pod shop/web-0", "web-0/nginx")] {
        let text = run(&program.as_root(&format!("report --for 1s --probes sock_diag {filter}")));
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("0.0.0.0:8080")).collect();
        assert!(rows.len() == 1 && rows[0].contains(shown), "{text}");
    }
}
