//! The container image: an otherwise empty root, the mounts and the capabilities that its recipe names, and nothing else.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use caps::{CapSet, Capability};
use nix::{
    mount::{MsFlags, mount},
    sys::{prctl, signal::Signal},
    unistd::{chdir, chroot},
};
use test_support::environment;

use crate::{
    Test,
    support::{Elsewhere, Measuring, Program, coverage, enter_namespaces, finished, listener, sleep_ms, threads},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "image::an_empty_root_is_enough", run: enough },
    Test { name: "image::buildah_makes_the_image", run: image },
    Test { name: "image::a_copy_with_rights_reads_no_headers_for_others", run: headers },
];

const RECIPE: &str = include_str!("../../../deploy/container/Containerfile");

/// What follows an option in the recipe's line to run it, each time.
fn options(name: &str) -> Vec<&'static str> {
    let words: Vec<&str> = RECIPE.split_whitespace().collect();
    let found: Vec<&str> = words.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1]).collect();
    assert!(!found.is_empty(), "the recipe has {name}");
    found
}

/// The static program, if it was built. Otherwise the one that was, with the libraries that it loads: where they come
/// from makes no difference to what is tested.
fn install(root: &Path) {
    let target = format!("target/{}-unknown-linux-musl/release/listentop", std::env::consts::ARCH);
    let alone = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target);
    let program = environment::program();
    if alone.is_file() && is_newer(&alone, &program) {
        fs::copy(alone, root.join("listentop")).expect("a copy");
        return;
    }
    let (_, libraries, _) = finished({
        let mut ldd = Command::new("ldd");
        ldd.arg(&program);
        ldd
    });
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        fs::copy(library, place).expect("a copy");
    }
    fs::copy(program, root.join("listentop")).expect("a copy");
}

/// An old static build says nothing about the present code.
fn is_newer(one: &Path, other: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).expect("a file");
    modified(one) >= modified(other)
}

/// Makes the root, in the calling thread's own mount namespace.
fn root() -> PathBuf {
    let root = PathBuf::from("/mnt");
    let at = |name: &str| root.join(name.trim_start_matches('/'));
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("an empty root");
    install(&root);
    for name in ["proc", "sys"] {
        fs::create_dir(at(name)).expect("a folder");
    }
    // As every runtime makes them; --pid host: the processes of the machine.
    mount(Some("proc"), &at("proc"), Some("proc"), MsFlags::empty(), None::<&str>).expect("/proc");
    mount(Some("sysfs"), &at("sys"), Some("sysfs"), MsFlags::MS_RDONLY, None::<&str>).expect("/sys");
    for volume in options("--volume") {
        let (from, rest) = volume.split_once(':').expect("from and to");
        let to = at(rest.split(':').next().expect("to"));
        if !Path::new(from).exists() {
            // /run/netns: no namespace has a name here.
            continue;
        }
        fs::create_dir_all(&to).expect("a folder");
        mount(Some(from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a mount");
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, &to, None::<&str>, read_only, None::<&str>).expect("it is read only");
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &root, None::<&str>, read_only, None::<&str>).expect("--read-only");
    root
}

/// The image's program in that root, as user 0 with the recipe's capabilities.
fn contained(root: &Path, arguments: &[&str]) -> Command {
    let granted: Vec<Capability> = options("--cap-add")[0]
        .split(',')
        .map(|name| format!("CAP_{}", name.to_uppercase()).parse().expect("a capability"))
        .collect();
    let refused: Vec<Capability> = caps::all().into_iter().filter(|one| !granted.contains(one)).collect();
    let root = root.to_owned();
    let mut command = Command::new("/listentop");
    command.args(arguments).env_clear().stdin(std::process::Stdio::null());
    // SAFETY: system calls only; nothing is allocated where it succeeds.
    unsafe {
        command.pre_exec(move || {
            chroot(&root)?;
            chdir("/")?;
            for capability in &refused {
                // What this kernel does not have, nobody gets.
                let _ = caps::drop(None, CapSet::Bounding, *capability);
            }
            prctl::set_no_new_privs()?;
            Ok(())
        });
    }
    command
}

fn enough() {
    let run = || {
        enter_namespaces();
        let root = root();
        let before = Elsewhere::open();
        let mut report = contained(&root, &["report", "--for", "60s", "--format", "json"]);
        report.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let measuring = Measuring::spawn(report);
        let allowed = threads(measuring.pid()).into_iter().map(|thread| thread.set("CapPrm")).collect::<Vec<_>>();
        let after = Elsewhere::open();
        sleep_ms(3000);
        let report = measuring.report();
        for elsewhere in [&before, &after] {
            let found = listener(&report, elsewhere.netns, elsewhere.port).expect("it is seen");
            assert_eq!(found["process"]["pid"], elsewhere.pid(), "{found:#}");
        }
        for measure in ["enqueued", "accepts", "owners", "reads", "probe_time"] {
            assert_ne!(coverage(&report, measure).0, "unavailable", "{:?}", coverage(&report, measure));
        }
        assert!(allowed.contains(&0), "most threads have given up all: {allowed:x?}");
        // What the image does by itself.
        let command = RECIPE.lines().find_map(|line| line.strip_prefix("CMD ")).expect("it has one");
        let command: Vec<String> = serde_json::from_str(command).expect("a list");
        let mut serving = contained(&root, &command.iter().map(String::as_str).collect::<Vec<_>>());
        serving.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let serving = Measuring::spawn_that_says(serving, "serving at http://127.0.0.1:9753/metrics\n");
        let text = scrape();
        let port = format!("port=\"{}\"", before.port);
        let info = text.lines().find(|line| line.starts_with("listentop_listener_info") && line.contains(&port));
        assert!(info.is_some_and(|line| line.contains("process=\"sleep\"")), "{info:?}");
        serving.signal(Signal::SIGTERM);
        assert_eq!(serving.end().status.code(), Some(0));
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("it measures"));
}

fn scrape() -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect("127.0.0.1:9753").expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it takes requests");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

/// The recipe's last stage, as a program that makes images reads it.
fn image() {
    const BUILDAH: &str = "/usr/bin/buildah";
    if !Path::new(BUILDAH).exists() {
        test_harness::skip(format!("there is no {BUILDAH} to make an image with: install the package buildah"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (_, stage) = RECIPE.rsplit_once("\nFROM scratch\n").expect("it ends from scratch");
    // What the first stage compiles is here already.
    fs::write(folder.path().join("Containerfile"), format!("FROM scratch\n{}", stage.replace("--from=build ", "")))
        .expect("it can be written");
    fs::write(folder.path().join("listentop"), "a program").expect("it can be written");
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new(BUILDAH);
        command.args(["--root", "store", "--runroot", "run", "--storage-driver", "vfs"]).args(arguments);
        command.current_dir(folder.path());
        let (code, stdout, stderr) = finished(command);
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        stdout
    };
    buildah(&["build", "--isolation", "chroot", "--tag", "listentop", "--file", "Containerfile", "."]);
    let made: serde_json::Value =
        serde_json::from_str(&buildah(&["inspect", "--type", "image", "listentop"])).expect("JSON");
    let config = &made["OCIv1"]["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/listentop"]), "{made:#}");
    assert_eq!(config["Cmd"], serde_json::json!(["serve"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "listentop");
}

/// Headers are sent to whoever the user names. So a file that the user may not read is not read for them, although the
/// program could.
fn headers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shadow");
    fs::write(&file, "root: secret\n").expect("it is ours");
    let program = Program::copy("headers");
    program.grant(&[Capability::CAP_DAC_READ_SEARCH, Capability::CAP_BPF, Capability::CAP_PERFMON]);
    let arguments = format!("serve --otlp http://127.0.0.1:9 --otlp-headers-file {}", file.display());
    let (code, _, said) = finished(program.as_nobody(&arguments));
    assert!(said.contains("Permission denied") && !said.contains("secret"), "{said}");
    assert_eq!(code, Some(1));
}
