//! How the probes are set up.

use listentop_abi::limits;

use super::{Kind, Level};

/// How the probes are set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Listeners that can be tracked; `None`: as many as are found, and room for as many again, 1,024 at least.
    pub max_listeners: Option<u32>,
    /// Connections that can be tracked at a time.
    pub max_connections: u32,
    /// (listener, thread) pairs that can be tracked at a time.
    pub max_threads: u32,
    /// Refused clients that are remembered, to count each once.
    pub max_dropped_clients: u32,
    /// Have the kernel time every run of the probes, which slows each slightly; otherwise it times some.
    pub probe_stats: bool,
    /// Attach programs that return at once, to measure the floor under the probes' cost.
    pub empty: bool,
    /// Print the probes' log (aya-log), and what they lost, on stderr.
    pub log_probes: bool,
    /// Probes of one kind only; `None`: for each event the best that run here.
    pub kind: Option<Kind>,
    /// How much is measured: hooks of higher levels are not attached.
    pub level: Level,
    /// The level may change while it runs: the programs of all levels are loaded.
    pub adjustable: bool,
    /// Whether acceptors are to be watched, for queue-wait blame.
    pub blame: bool,
    /// Whether they may have to be watched later ([`crate::source::Source::blame_apart`]).
    pub blame_later: bool,
    /// Whether it is readers of connections that are watched then, and not acceptors.
    pub blame_reads: bool,
    /// Hooks (`fexit/inet_csk_accept`) that count as refused by the kernel, to see what is lost with them.
    pub refuse: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_listeners: None,
            max_connections: limits::DEFAULT_CONNECTIONS,
            max_threads: limits::DEFAULT_THREADS,
            max_dropped_clients: limits::DROPPED_CLIENTS,
            probe_stats: false,
            empty: false,
            log_probes: false,
            kind: None,
            level: Level::All,
            adjustable: false,
            blame: false,
            blame_later: false,
            blame_reads: false,
            refuse: Vec::new(),
        }
    }
}
