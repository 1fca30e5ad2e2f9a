//! Chromium without a window, driven through a pair of pipes by its own protocol (`--remote-debugging-pipe`): JSON
//! messages, each ended by a zero byte.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::unistd::pipe;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_harness::skip;

/// Where the browser reads messages, and where it writes them.
const READS: i32 = 3;
const WRITES: i32 = 4;
/// How long the page has for what a click does: a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// A page in a browser of its own.
pub(crate) struct Page {
    browser: Child,
    to: File,
    from: BufReader<File>,
    session: Value,
    next: u64,
    /// What happened meanwhile, to be looked at.
    events: VecDeque<Value>,
    _profile: TempDir,
}

impl Page {
    /// Opens a file.
    pub(crate) fn open(file: &Path, (width, height): (u32, u32)) -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let (browser_reads, to) = pipe().expect("a pipe");
        let (from, browser_writes) = pipe().expect("a pipe");
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg(format!("--window-size={width},{height}")).arg("about:blank");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        give(&mut command, browser_reads, browser_writes);
        let browser = match command.spawn() {
            Ok(browser) => browser,
            Err(error) => skip(format!("there is no chromium (Debian's package of this name): {error}")),
        };
        // Our ends of what the browser has go with the command.
        drop(command);
        let (to, from) = (File::from(to), BufReader::new(File::from(from)));
        let (session, events) = (Value::Null, VecDeque::new());
        let mut page = Self { browser, to, from, session, next: 0, events, _profile: profile };
        let target = page.call("Target.createTarget", &json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = page.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        page.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.call("Page.navigate", &json!({ "url": format!("file://{}", file.display()) }));
        page.wait_for("Page.loadEventFired");
        page
    }

    /// Calls a method of the browser, and returns its result.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        self.to.write_all(&text).expect("the browser reads");
        loop {
            let answer = self.read();
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    fn read(&mut self) -> Value {
        let mut text = Vec::new();
        self.from.read_until(0, &mut text).expect("the browser writes");
        assert_eq!(text.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn wait_for(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.read();
            self.events.push_back(event);
        }
    }

    /// What happened of this kind.
    pub(crate) fn events(&self, method: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["method"] == method).map(|event| &event["params"]).collect()
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Clicks on the middle of the element that a selector finds first, as a mouse does, once it stands still: a link
    /// scrolls the page a moment after it was clicked.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(async () => {{ const e = document.querySelector({selector:?}); let last, same = 0; \
             while (same < 3) {{ e.scrollIntoView({{ block: 'center' }}); \
             await new Promise((done) => setTimeout(done, 20)); const r = e.getBoundingClientRect(); \
             const now = [r.x + r.width / 2, r.y + r.height / 2]; \
             same = last && now[0] === last[0] && now[1] === last[1] ? same + 1 : 0; last = now; }} return last; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Checks that an expression has a value within some seconds: what a click does may come a moment later.
    pub(crate) fn becomes(&mut self, expression: &str, wanted: impl Into<Value>, why: &str) {
        let (wanted, since) = (wanted.into(), Instant::now());
        loop {
            let value = self.value(expression);
            if value == wanted {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{why}: {expression} is {value}, not {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types into what has the focus.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Has the page believe that the user prefers this scheme of colours.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": feature }));
    }
}

/// Gives these pipes to the program that a command starts, at the numbers that it expects.
fn give(command: &mut Command, reads: OwnedFd, writes: OwnedFd) {
    // SAFETY: only dup2 and dup run between fork and exec, on descriptors that live as long as the command.
    unsafe {
        command.pre_exec(move || {
            // Not on top of each other: both are moved out of the way first.
            let (from, to) = (libc::dup(reads.as_raw_fd()), libc::dup(writes.as_raw_fd()));
            let (from, to) = (libc::fcntl(from, libc::F_DUPFD, 10), libc::fcntl(to, libc::F_DUPFD, 10));
            if libc::dup2(from, READS) < 0 || libc::dup2(to, WRITES) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
