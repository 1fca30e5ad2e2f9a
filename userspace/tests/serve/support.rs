//! A running exporter, a running Prometheus, and plain HTTP.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use test_support::{command::listentop, skip, sleep_ms, wait_until};

/// Where the exporter listens, in each test's namespace.
pub(crate) const ADDRESS: &str = "127.0.0.1:9753";

/// A folder of a test, deleted when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("listentop-serve-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        // SAFETY: between fork and exec there is one system call.
        unsafe {
            command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Ends it by SIGTERM; its status.
    pub(crate) fn end(mut self) -> ExitStatus {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).expect("it runs");
        let mut status = None;
        wait_until("it ends", || {
            status = self.0.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone unless an assertion failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The test's namespace, as filters have it.
pub(crate) fn netns() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").expect("our namespace").ino()
}

/// Starts `listentop serve` with these arguments, and waits until it serves.
pub(crate) fn serve(arguments: &str) -> Running {
    let (running, lines) = serve_until(arguments, "serving at");
    assert_eq!(lines.len(), 1, "{lines:?}");
    running
}

/// The same; the lines of stderr up to the one that begins so. It serves the listeners of the test's namespace alone:
/// two tests run at a time.
pub(crate) fn serve_until(arguments: &str, line: &str) -> (Running, Vec<String>) {
    let every = if arguments.contains("--every") { "" } else { "--every 250ms" };
    let mut command = listentop(&format!("serve {every} --netns {} {arguments}", netns()));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::start(command);
    let mut stderr = BufReader::new(running.0.stderr.take().expect("piped"));
    let mut lines: Vec<String> = Vec::new();
    while !lines.last().is_some_and(|last| last.starts_with(line)) {
        let mut next = String::new();
        assert!(stderr.read_line(&mut next).expect("text") > 0, "it ended: {lines:?}");
        lines.push(next);
    }
    // Read on, so that it can write.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    (running, lines)
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("text")
    }
}

/// Sends these bytes, and reads to the end. `None` if there is no answer.
pub(crate) fn exchange(address: &str, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.write_all(request).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = bytes.split_off(end + 4);
    // Prometheus sends long answers in pieces.
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Some(Answer { status, head, body: if chunked { joined(&body) } else { body } })
}

fn joined(mut pieces: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = pieces.windows(2).position(|window| window == b"\r\n") {
        let size = str::from_utf8(&pieces[..line]).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        let size = size.expect("a size");
        if size == 0 {
            break;
        }
        whole.extend(&pieces[line + 2..line + 2 + size]);
        pieces = &pieces[line + 2 + size + 2..];
    }
    whole
}

/// GET, with more headers.
pub(crate) fn get(address: &str, path: &str, headers: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    exchange(address, request.as_bytes()).unwrap_or_else(|| panic!("no answer from {address}{path}"))
}

/// The figures as text.
pub(crate) fn scrape(headers: &str) -> String {
    let answer = get(ADDRESS, "/metrics", headers);
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.text().to_owned()
}

/// The value of the series whose name and labels contain all of these.
pub(crate) fn value(text: &str, parts: &[&str]) -> Option<f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut found =
        lines.filter_map(|line| line.rsplit_once(' ')).filter(|(name, _)| parts.iter().all(|part| name.contains(part)));
    let value = found.next().map(|(_, value)| value.parse().expect("a number"));
    assert_eq!(found.next(), None, "more than one of {parts:?}");
    value
}

/// The program, or the test is skipped.
pub(crate) fn installed(name: &str) -> PathBuf {
    let path = Path::new("/usr/bin").join(name);
    if !path.exists() {
        skip(format!("there is no {}: install the package prometheus", path.display()));
    }
    path
}

/// A running Prometheus of the test's own.
pub(crate) struct Prometheus {
    _running: Running,
    address: String,
    _folder: Folder,
}

impl Prometheus {
    /// Starts one that scrapes every second, on this port. `scrape` is more of its configuration of that scrape.
    pub(crate) fn start(port: u16, options: &[&str], scrape: &str) -> Self {
        let program = installed("prometheus");
        let folder = Folder::new();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: listentop\n    \
             static_configs:\n      - targets: ['{ADDRESS}']\n{scrape}"
        );
        let config = folder.file("prometheus.yml", &config);
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(options)
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path("log")).expect("a file"));
        let running = Running::start(command);
        let prometheus = Self { _running: running, address, _folder: folder };
        wait_until("Prometheus is ready", || {
            exchange(&prometheus.address, b"GET /-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .is_some_and(|answer| answer.status == 200)
        });
        prometheus
    }

    /// The result of a query: an error is a panic.
    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        let answer = get(&self.address, &format!("/api/v1/query?query={}", encoded(query)), "");
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(json["status"], "success", "{query}: {json}");
        json["data"]["result"].as_array().expect("a vector").clone()
    }

    /// The one value of a query, `None` if it has none.
    pub(crate) fn number(&self, query: &str) -> Option<f64> {
        let result = self.query(query);
        assert!(result.len() <= 1, "{query}: {result:?}");
        Some(result.first()?["value"][1].as_str().expect("a number").parse().expect("a number"))
    }

    /// Waits until a query has this value.
    pub(crate) fn wait_for(&self, query: &str, wanted: f64) {
        let mut last = None;
        let begun = std::time::Instant::now();
        while last != Some(wanted) {
            last = self.number(query);
            assert!(begun.elapsed() < Duration::from_secs(20), "{query}: {last:?}, not {wanted}");
            sleep_ms(200);
        }
    }
}

fn encoded(query: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    query.bytes().map(one).collect()
}
