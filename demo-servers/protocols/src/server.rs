//! What all servers here share: options, the accept loop, signals, and what they print.

use crate::control::Control;
use crate::counted::{More, Totals, count};
use anyhow::Context;
use demo_servers::counters::{Counts, Report, TotalReport, used};
use demo_servers::server::Ready;
use demo_servers::sys::{limit_open_files, now_ns, print_json, set_thread_name};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// Pause of accepting when no file descriptor is left. Without it the listener would stay readable and accepting spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Options of every server.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Port; with 0 the kernel chooses one, which the line {"ready":true,…} shows
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Backlog passed to listen(2)
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(i32).range(0..))]
    pub backlog: i32,
    /// End after this time, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration_arg::parse)]
    pub duration: Option<Duration>,
    /// Name of the process; the kernel keeps the first 15 bytes
    #[arg(long, default_value = "proto-server")]
    pub name: String,
}

/// What a server prints on SIGUSR1 and at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// As `demo-server` prints it. There is no row per thread.
    #[serde(flatten)]
    pub report: Report,
    /// Counters that only some servers have.
    pub more: More,
}

/// A server about to run.
pub(crate) struct Server {
    pub(crate) totals: Arc<Totals>,
    pub(crate) control: Arc<Control>,
    mode: &'static str,
    common: Common,
    started_ns: u64,
}

impl Server {
    pub(crate) fn new(mode: &'static str, common: &Common) -> anyhow::Result<Self> {
        limit_open_files(None)?;
        set_thread_name(&common.name);
        let (totals, control) = (Arc::default(), Control::new());
        Ok(Self { totals, control, mode, common: common.clone(), started_ns: now_ns() })
    }

    /// Opens a listener; with `shared` several may have the same port (SO_REUSEPORT).
    pub(crate) fn listen(&self, port: u16, shared: bool) -> anyhow::Result<std::net::TcpListener> {
        listen(&self.common, &self.control, port, shared)
    }

    /// The port of the command line.
    pub(crate) fn port(&self) -> u16 {
        self.common.port
    }

    /// Says that it listens, runs `serve` until a signal or the end of its time, and prints the counters.
    pub(crate) async fn run(
        &self,
        address: SocketAddr,
        serve: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        // Before it is ready: a signal that comes at once must not kill it without its counters.
        let mut signals = Signals::new()?;
        self.control.follow()?;
        let pid = nix::unistd::getpid().as_raw();
        print_json(&Ready { ready: true, address: address.ip(), port: address.port(), pid })?;
        let mut serve = std::pin::pin!(serve);
        let end = async {
            match self.common.duration {
                Some(length) => tokio::time::sleep(length).await,
                None => std::future::pending().await,
            }
        };
        let mut end = std::pin::pin!(end);
        let outcome = loop {
            tokio::select! {
                outcome = &mut serve => break outcome,
                () = &mut end => break Ok(()),
                ends = signals.next() => {
                    if ends {
                        break Ok(());
                    }
                    print_json(&self.report())?;
                }
            }
        };
        print_json(&self.report())?;
        outcome
    }

    fn report(&self) -> Printed {
        let totals = &self.totals;
        // Read before the accepts, so that `open` is not negative.
        let closed = totals.closed.load(Relaxed);
        let counts = Counts {
            accepts: totals.accepts.load(Relaxed),
            would_block: 0,
            accept_failures: totals.accept_failures.load(Relaxed),
            reads: totals.reads.load(Relaxed),
            read_bytes: totals.read_bytes.load(Relaxed),
            writes: totals.writes.load(Relaxed),
            write_bytes: totals.write_bytes.load(Relaxed),
            requests: totals.requests.load(Relaxed),
        };
        let open = counts.accepts.saturating_sub(closed);
        let (cpu_us, switches) = used();
        Printed {
            report: Report {
                pattern: self.mode.to_owned(),
                pid: nix::unistd::getpid().as_raw(),
                uptime_ms: (now_ns() - self.started_ns) / 1_000_000,
                threads: Vec::new(),
                total: TotalReport { counts, closed, open, folded: 0, cpu_us, switches },
                shop: None,
            },
            more: totals.more(),
        }
    }
}

/// Opens a listener that the lab can change; with `shared` several may have the same port (SO_REUSEPORT).
pub(crate) fn listen(
    common: &Common,
    control: &Control,
    port: u16,
    shared: bool,
) -> anyhow::Result<std::net::TcpListener> {
    let address = SocketAddr::new(common.address, port);
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(common.backlog)?;
        Ok::<_, std::io::Error>(socket)
    };
    let listener = open().map(Into::into).with_context(|| format!("cannot listen on {address}"))?;
    control.listens(&listener)?;
    Ok(listener)
}

/// The signals of a server.
struct Signals {
    ending: [tokio::signal::unix::Signal; 3],
    report: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let signal = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            ending: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?],
            report: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next one. Returns whether it ends the server.
    async fn next(&mut self) -> bool {
        let [terminate, interrupt, hangup] = &mut self.ending;
        tokio::select! {
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
            _ = hangup.recv() => true,
            _ = self.report.recv() => false,
        }
    }
}

/// Closes an accepted connection in the counters when it is dropped.
#[derive(Debug)]
pub(crate) struct Open(Arc<Totals>);

impl Drop for Open {
    fn drop(&mut self) {
        count(&self.0.closed);
    }
}

/// Accepts for ever, unless the lab has it stall, and starts a task for each connection. Its error is counted.
pub(crate) async fn accept<F>(
    listener: std::net::TcpListener,
    totals: &Arc<Totals>,
    control: &Control,
    mut serve: impl FnMut(TcpStream) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let listener = TcpListener::from_std(listener).context("cannot watch the listener")?;
    let mut stalled = control.stalled();
    loop {
        // The sender lives as long as the control, so none of these fails.
        let accepted = tokio::select! {
            biased;
            _ = stalled.wait_for(|stalled| *stalled) => None,
            accepted = listener.accept() => Some(accepted),
        };
        let Some(accepted) = accepted else {
            let _ = stalled.wait_for(|stalled| !*stalled).await;
            continue;
        };
        let Ok((stream, _)) = accepted else {
            // No descriptor is left, or the connection is broken already.
            count(&totals.accept_failures);
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        count(&totals.accepts);
        let open = Open(Arc::clone(totals));
        let serving = serve(stream);
        tokio::spawn(async move {
            if serving.await.is_err() {
                count(&open.0.broken);
            }
            drop(open);
        });
    }
}

/// A runtime with this many threads; with one, all runs in the calling thread.
pub(crate) fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    };
    builder.enable_all().thread_name("tokio").build().context("cannot start the runtime")
}
