//! nginx under wrk: how much throughput listentop costs a server and a load generator that are not ours.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::work::Work;
use xtask_support::children::{self, Guarded};
use xtask_support::process;

/// In the bench's own namespace every port is free.
pub(crate) const ADDRESS: &str = "127.0.0.1:8099";

/// Size of the served file, in bytes.
const SIZE: usize = 1024;

/// What is missing on this machine, if anything.
pub(crate) fn missing() -> Option<String> {
    let missing: Vec<&str> = ["nginx", "wrk"].into_iter().filter(|name| process::find(name).is_none()).collect();
    (!missing.is_empty()).then(|| format!("{} is not installed", missing.join(" and ")))
}

/// nginx as one process, which serves one small file on connections that stay open. When this is dropped it ends, and
/// its files are removed.
pub(crate) struct Web {
    _process: Guarded,
    _files: Files,
    address: &'static str,
}

/// A directory that is removed when this is dropped.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        // What stays is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Web {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("listentop-bench-{}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let files = Files(directory.clone());
        let write = |name: &str, content: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display())).map(|()| path)
        };
        write("index.html", &[b'x'; SIZE])?;
        let configuration = write("nginx.conf", configuration(&directory).as_bytes())?;
        let mut command = children::bound_to_us(Path::new("nginx"));
        command.arg("-e").arg(directory.join("errors")).arg("-c").arg(configuration);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut process = Guarded::new(command.spawn().context("cannot run setpriv (of util-linux)")?);
        let up = children::wait_until(|| {
            ensure!(process.is_running()?, "nginx ended instead of starting");
            Ok(TcpStream::connect(ADDRESS).is_ok())
        })?;
        ensure!(up, "nginx does not listen");
        Ok(Self { _process: process, _files: files, address: ADDRESS })
    }

    /// Loads it for whole seconds, at least one: wrk takes nothing shorter.
    ///
    /// # Errors
    /// When the load fails.
    pub(crate) fn run(&self, length: Duration) -> Result<Work> {
        let seconds = length.as_secs_f64().ceil().max(1.0);
        let mut command: Command = children::bound_to_us(Path::new("wrk"));
        command.args(["--threads", "1", "--connections", "32", "--duration", &format!("{seconds}s")]);
        parse(&process::capture(command.arg(format!("http://{}/", self.address)).stdin(Stdio::null()), "wrk")?)
    }
}

fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    // One process: when it is killed no other process stays.
    format!(
        "daemon off; master_process off; pid {directory}/pid;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; sendfile on; server {{ listen {ADDRESS}; root {directory}; }} }}\n"
    )
}

/// Reads the output of wrk.
fn parse(text: &str) -> Result<Work> {
    let after = |word: &str| text.lines().find_map(|line| line.trim().strip_prefix(word));
    ensure!(
        after("Non-2xx").is_none() && after("Socket errors").is_none(),
        "nginx did not answer every request: {}",
        text.trim()
    );
    let per_second = after("Requests/sec:").and_then(|value| value.trim().parse::<f64>().ok());
    let operations = text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse::<u64>().ok());
    match (operations, per_second) {
        (Some(operations), Some(per_second)) if operations > 0 && per_second > 0.0 => {
            Ok(Work { operations, per_second })
        }
        _ => Err(anyhow::anyhow!("wrk's result has no throughput: {}", text.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Work, parse};

    const TEXT: &str = "Running 1s test @ http://127.0.0.1:8099/\n  1 threads and 32 connections\n\
        \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   480.61us   96.81us   3.01ms   91.17%\n\
        \x20 72367 requests in 1.10s, 87.13MB read\nRequests/sec:  65803.61\nTransfer/sec:     79.22MB\n";

    #[test]
    fn the_result_of_wrk_is_read_or_refused() {
        assert_eq!(parse(TEXT).unwrap(), Work { operations: 72367, per_second: 65803.61 });
        assert!(parse(&format!("{TEXT}  Non-2xx or 3xx responses: 7\n")).is_err());
        assert!(parse(&format!("{TEXT}  Socket errors: connect 0, read 1, write 0, timeout 0\n")).is_err());
        assert!(parse("unable to connect").is_err());
    }
}
