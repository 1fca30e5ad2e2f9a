//! How the probes are set up.

use clap::{Args, ValueEnum};
use listentop_abi::limits;

use crate::{
    cli::values,
    source::{self, live},
};

/// How the probes are set up.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Probes")]
pub(in crate::cli) struct Probing {
    /// Largest number of listeners to track [default: twice as many as are found, at least 1024]
    #[arg(long, global = true, value_name = "N", value_parser = values::listeners)]
    max_listeners: Option<u32>,
    /// Number of connections to track at the same time, at least. Further ones are counted, and tracked from their
    /// accept on if there is room then
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_CONNECTIONS, value_parser = values::connections)]
    max_connections: u32,
    /// Largest number of threads to track. The work of further ones is counted for the listener only
    #[arg(long, global = true, value_name = "N", default_value_t = limits::DEFAULT_THREADS, value_parser = values::threads)]
    max_threads: u32,
    /// Let the kernel time every run of the probes, not only some: exact, but slows each run slightly
    #[arg(long, global = true)]
    probe_stats: bool,
    /// Print the probes' log on stderr: listeners that open and close, and what is lost. With the dashboard, redirect
    /// stderr to a file
    #[arg(long, global = true)]
    pub(in crate::cli) log_probes: bool,
    /// Method of measuring. One that is named but cannot run here is an error (exit status 3)
    #[arg(long, global = true, value_enum, default_value_t = Probes::Auto)]
    probes: Probes,
    /// How much to measure, and to pay for. What is left out is unavailable, as 'coverage' says
    #[arg(long, global = true, value_enum, default_value_t = Extent::All)]
    measure: Extent,
    /// Run without the sandbox, which refuses system calls and files that are not needed once measuring has begun
    #[arg(long, global = true)]
    pub(in crate::cli) no_sandbox: bool,
    /// Attach programs that return at once to the same hooks: the least that any probe costs
    #[arg(long, global = true, hide = true)]
    empty_programs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Probes {
    /// The best method that runs here
    Auto,
    /// Functions (fentry, fexit): Linux 5.10 and later, where the kernel allows them
    Fentry,
    /// BTF and system call tracepoints: Linux 6.3 and later
    Tracepoint,
    /// Without probes and privileges: only depths and drops, sampled from the kernel's list of sockets
    #[value(name = "sock_diag")]
    SockDiag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Extent {
    /// Queues, handshakes and refused attempts: no system call, no read and no write is traced
    Queues,
    /// Accepts, waits and threads as well
    Accepts,
    /// Reads and writes as well: residency, answers, what waits unread
    All,
}

impl Probing {
    pub(in crate::cli) fn options(&self) -> source::Options {
        let probes = match self.probes {
            Probes::Auto => source::Probes::Auto,
            Probes::Fentry => source::Probes::Fentry,
            Probes::Tracepoint => source::Probes::Tracepoint,
            Probes::SockDiag => source::Probes::SockDiag,
        };
        let live = live::Options {
            max_listeners: self.max_listeners,
            max_connections: self.max_connections,
            max_threads: self.max_threads,
            max_dropped_clients: limits::DROPPED_CLIENTS,
            probe_stats: self.probe_stats,
            empty: self.empty_programs,
            log_probes: self.log_probes,
            // The chosen source sets it.
            kind: None,
            level: match self.measure {
                Extent::Queues => live::Level::Queues,
                Extent::Accepts => live::Level::Accepts,
                Extent::All => live::Level::All,
            },
            // The dashboard sets it.
            adjustable: false,
            blame: false,
            blame_later: false,
            blame_reads: false,
            refuse: Vec::new(),
        };
        source::Options { probes, live }
    }
}
