//! Sizes that both sides use. User space sets map sizes that depend on the machine at load; these are the defaults.

/// Listeners tracked by default; user space raises it if it finds more at the start.
pub const DEFAULT_LISTENERS: u32 = 1024;
/// Connections tracked by default: 16 MiB of kernel memory.
pub const DEFAULT_CONNECTIONS: u32 = 65_536;
/// (listener, thread) pairs tracked by default.
pub const DEFAULT_THREADS: u32 = 16_384;
/// Distinct clients of refused attempts that are remembered. The least recently seen is forgotten first, and counted
/// again if it comes back.
pub const DROPPED_CLIENTS: u32 = 65_536;
/// The most places of such a table that the kernel keeps ready for each CPU (`LOCAL_FREE_TARGET`,
/// kernel/bpf/bpf_lru_list.c). It may forget entries as soon as all other places are taken.
pub const READY_PLACES: u32 = 128;
/// The most statistics records per listener: with several, events on different CPUs write to different cache lines.
pub const MAX_SHARDS: u32 = 4;
/// Connections of one accept queue that one pass takes over at the start. The verifier follows every turn of the loop,
/// for about 3 ms each, and the first frame waits for it. Another pass over the table of listeners costs microseconds.
pub const QUEUE_STRETCH: u32 = 16;
/// Passes over an accept queue at the start: enough for 65,536 connections, twice, because the last round must find
/// nothing new. Connections beyond are counted when they are accepted, without an accept wait.
pub const QUEUE_PASSES: u32 = 2 * 65_536 / QUEUE_STRETCH;
/// Listeners that one test run polls, where user space walks over them: most of a run's cost is the system call. The
/// verifier follows each of them, for 4 ms.
pub const POLLED_AT_ONCE: usize = 4;
