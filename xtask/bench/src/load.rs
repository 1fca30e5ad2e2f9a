//! The loads: a server, and clients in a closed loop that keep it busy.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde_json::Value;

use crate::programs::Programs;
use crate::web::{self, Web};
use crate::work::Work;
use xtask_support::children::{self, Guarded};
use xtask_support::process;

/// A kind of load, with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Connect, accept, close, without any byte.
    Connect,
    /// Requests and responses on connections that stay open.
    KeepAlive,
    /// Requests to a web server.
    Web,
}

impl Load {
    /// Its name on the command line.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::KeepAlive => "keep-alive",
            Self::Web => "web",
        }
    }

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect/accept/close",
            Self::KeepAlive => "keep-alive requests",
            Self::Web => "nginx, keep-alive requests",
        }
    }

    /// Reads per operation: the server reads the request, the client the response, and probes see both.
    pub(crate) fn reads_per_operation(self) -> u64 {
        match self {
            Self::Connect => 0,
            Self::KeepAlive | Self::Web => 2,
        }
    }

    /// Whether its runs can be short. Then a run to settle, before each measured run, takes little time.
    pub(crate) fn is_short(self) -> bool {
        self != Self::Web
    }

    /// The arguments of our own programs; `None` if other programs make this load.
    fn ours(self) -> Option<Ours> {
        // Enough clients to keep the server busy, and far fewer than its queue holds: the queue must not overflow.
        match self {
            Self::Connect => Some(Ours {
                server: &["--pattern", "multi_acceptor", "--threads", "2", "--close-on-accept"],
                storm: &["--mode", "connect", "--connections", "16"],
            }),
            Self::KeepAlive => Some(Ours {
                server: &["--pattern", "single_thread"],
                storm: &["--mode", "keepalive", "--connections", "32"],
            }),
            Self::Web => None,
        }
    }
}

/// Arguments of our own programs.
struct Ours {
    server: &'static [&'static str],
    storm: &'static [&'static str],
}

/// A server that listens; it ends when this is dropped.
pub(crate) enum Server {
    /// A demo server.
    Demo {
        /// Its process.
        _process: Guarded,
        /// Arguments of its load generator.
        storm: &'static [&'static str],
        /// Its address and port.
        target: String,
    },
    /// A web server.
    Web(Web),
}

impl Server {
    /// Starts the server that the load needs. The kernel chooses a demo server's port.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(programs: &Programs, load: Load) -> Result<Self> {
        let Some(Ours { server, storm }) = load.ours() else { return Web::start().map(Self::Web) };
        let mut command = children::bound_to_us(&programs.demo_server);
        command.args(server).args(["--address", "127.0.0.1", "--port", "0", "--backlog", "4096"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot run setpriv (of util-linux)")?;
        let stdout = child.stdout.take().context("demo-server has no stdout")?;
        let process = Guarded::new(child);
        let ready = children::wait_for_line(stdout, |line| line.contains("\"ready\"")).context("demo-server")?;
        Ok(Self::Demo { _process: process, storm, target: target(&ready)? })
    }

    /// The port it listens on, as text.
    pub(crate) fn port(&self) -> &str {
        let target = match self {
            Self::Demo { target, .. } => target,
            Self::Web(_) => web::ADDRESS,
        };
        target.rsplit(':').next().unwrap_or_default()
    }

    /// Runs the load for this long and returns its work.
    ///
    /// # Errors
    /// When the load fails or does no operation.
    pub(crate) fn run(&self, programs: &Programs, length: Duration) -> Result<Work> {
        match self {
            Self::Demo { storm, target, .. } => {
                let mut command: Command = children::bound_to_us(&programs.storm);
                command.args(*storm).args(["--target", target, "--for"]);
                command.arg(length.as_secs_f64().to_string()).stdin(Stdio::null());
                Work::parse(&process::capture(&mut command, "storm")?)
            }
            Self::Web(web) => web.run(length),
        }
    }
}

fn target(ready: &str) -> Result<String> {
    let ready: Value = serde_json::from_str(ready).context("demo-server's first line is not JSON")?;
    let (address, port) = (ready["address"].as_str(), ready["port"].as_u64());
    let (Some(address), Some(port)) = (address, port) else { return Err(anyhow::anyhow!("no address in {ready}")) };
    Ok(format!("{address}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn the_servers_first_line_names_the_target() {
        let ready = r#"{"ready":true,"address":"127.0.0.1","port":4711,"pid":7}"#;
        assert_eq!(target(ready).unwrap(), "127.0.0.1:4711");
        assert!(target(r#"{"ready":true}"#).is_err());
    }
}
