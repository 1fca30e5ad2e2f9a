//! Sizes that both sides must know. Map sizes that depend on the machine are set at load; these are the built-in
//! defaults.

/// Listeners tracked unless told otherwise; user space raises it when more are found at start.
pub const DEFAULT_LISTENERS: u32 = 1024;
/// Connections tracked unless told otherwise: 16 MiB of kernel memory.
pub const DEFAULT_CONNECTIONS: u32 = 65_536;
/// (listener, thread) pairs tracked unless told otherwise.
pub const DEFAULT_THREADS: u32 = 16_384;
/// Distinct clients remembered among refused attempts, least recently seen forgotten first, and then counted again.
pub const DROPPED_CLIENTS: u32 = 65_536;
/// Places of such a table that the kernel keeps ready for each CPU, at most (`LOCAL_FREE_TARGET`,
/// kernel/bpf/bpf_lru_list.c): it may forget entries when all but these are taken.
pub const READY_PLACES: u32 = 128;
/// Statistics records per listener at most: events on different CPUs then write to different cache lines.
pub const MAX_SHARDS: u32 = 4;
/// Connections of one accept queue that one pass takes over at start. The verifier follows every turn of the loop, at
/// about 3 ms a turn, and the first frame waits for it; a pass more over the table of listeners costs microseconds.
pub const QUEUE_STRETCH: u32 = 16;
/// Passes over an accept queue at start: queues of up to 65,536 connections, and once more to see that nothing is new.
/// Those behind are counted when accepted, without a wait.
pub const QUEUE_PASSES: u32 = 2 * 65_536 / QUEUE_STRETCH;
