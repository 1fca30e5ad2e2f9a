//! Which threads and processes accept, which read.

pub(crate) mod acceptor_readers_unequal;
pub(crate) mod async_runtime;
pub(crate) mod cold_shard;
pub(crate) mod cpu_starved;
pub(crate) mod event_loop_blocked;
pub(crate) mod patterns;
pub(crate) mod per_connection;
pub(crate) mod threads_vs_processes;
pub(crate) mod thundering_herd;
