//! The few bpf(2) calls that aya has no safe wrapper for.

use std::{
    fs::File,
    io::{self, Read},
    mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya_obj::generated::{
    bpf_attr, bpf_cmd, bpf_map_info, bpf_prog_info, perf_event_attr, perf_event_sample_format, perf_type_id,
};

/// `BPF_TRACE_ITER`, the attach type of every iterator.
const TRACE_ITER: u32 = 28;
/// `union bpf_iter_link_info` (linux/bpf.h), which aya's bindings leave out; its `map` member, padded to the union's
/// size.
#[repr(C)]
#[derive(Default)]
struct IterLinkInfo {
    map_fd: u32,
    reserved: [u32; 3],
}

/// `BPF_STATS_RUN_TIME`.
const STATS_RUN_TIME: u32 = 0;

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a whole, initialised bpf_attr; the pointers in it are the callers' and outlive the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut::<bpf_attr>(attr),
            size_of::<bpf_attr>(),
        )
    };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of integers and arrays of integers, for which all-zero is valid.
    unsafe { mem::zeroed() }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor to us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Whether the kernel has no bpf(2), independent of the caller's rights. A kernel that has it accepts this call, or
/// reports another error than ENOSYS.
pub(crate) fn is_missing() -> bool {
    let mut attr = zeroed_attr();
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr).is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
}

/// Attaches an iterator program, to the elements of `map` if it is one for maps.
///
/// # Errors
/// What bpf(2) says.
pub(crate) fn attach_iterator(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let mut info = IterLinkInfo::default();
    let mut attr = zeroed_attr();
    // SAFETY: this is the member that BPF_LINK_CREATE reads.
    let create = unsafe { &mut attr.link_create };
    create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    create.attach_type = TRACE_ITER;
    if let Some(map) = map {
        info.map_fd = map.as_raw_fd() as u32;
        create.__bindgen_anon_3.__bindgen_anon_1.iter_info = &raw const info as u64;
        create.__bindgen_anon_3.__bindgen_anon_1.iter_info_len = size_of::<IterLinkInfo>() as u32;
    }
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Runs an attached iterator over everything that it visits. The programs write to maps, so the file is empty. Reading
/// it runs them.
///
/// # Errors
/// What bpf(2) or read(2) says.
pub(crate) fn run_iterator(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.iter_create.link_fd = link.as_raw_fd() as u32;
    let mut file = File::from(bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr).map(owned)?);
    let mut buffer = [0; 64];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // The iterator pauses after a million visits (EAGAIN) and goes on at the next read.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Runs a raw tracepoint's program once, with these arguments, of which it may have 12 (Linux 5.10).
///
/// # Errors
/// What bpf(2) says.
pub(crate) fn test_run(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<()> {
    let mut attr = zeroed_attr();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.ctx_in = arguments.as_ptr() as u64;
    attr.test.ctx_size_in = size_of_val(arguments) as u32;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// What the kernel says of a map: its type, its sizes.
///
/// # Errors
/// What bpf(2) says.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    // SAFETY: as for bpf_attr.
    object_info(map, unsafe { mem::zeroed() })
}

/// What the kernel says of a map or a program: fills in the structure for it, which consists of integers.
fn object_info<T>(object: BorrowedFd<'_>, mut info: T) -> io::Result<T> {
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info = &raw mut info as u64;
    attr.info.info_len = size_of::<T>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// All elements of an array of words.
///
/// # Errors
/// What bpf(2) says.
pub(crate) fn words(map: BorrowedFd<'_>, count: u32) -> io::Result<Vec<u64>> {
    let (mut keys, mut words, mut next) = (vec![0_u32; count as usize], vec![0_u64; count as usize], 0_u32);
    let mut attr = zeroed_attr();
    attr.batch.out_batch = &raw mut next as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = words.as_mut_ptr() as u64;
    attr.batch.count = count;
    attr.batch.map_fd = map.as_raw_fd() as u32;
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        // That there are no more.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(words),
    }
}

/// The keys of a hash map, in parts, each of whole buckets: none is there twice or left out because others come and go.
pub(crate) struct KeyBatches<'a> {
    map: BorrowedFd<'a>,
    keys: Vec<u64>,
    values: Vec<u8>,
    /// Which bucket comes next, as the kernel notes it; `None` before the first call.
    next_bucket: Option<u32>,
    ended: bool,
}

impl<'a> KeyBatches<'a> {
    /// Of a map with keys of 8 bytes, and values of so many.
    pub(crate) fn new(map: BorrowedFd<'a>, at_a_time: usize, value_size: u32) -> Self {
        let values = vec![0; at_a_time * value_size as usize];
        Self { map, keys: vec![0; at_a_time], values, next_bucket: None, ended: false }
    }

    /// The next part; `None` after the last.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u64]>> {
        if self.ended {
            return Ok(None);
        }
        let mut bucket = self.next_bucket.unwrap_or_default();
        let mut attr = zeroed_attr();
        attr.batch.in_batch = self.next_bucket.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64);
        attr.batch.out_batch = &raw mut bucket as u64;
        attr.batch.keys = self.keys.as_mut_ptr() as u64;
        attr.batch.values = self.values.as_mut_ptr() as u64;
        attr.batch.count = self.keys.len() as u32;
        attr.batch.map_fd = self.map.as_raw_fd() as u32;
        match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.ended = true,
            // One bucket has more than there is room for: it is tried again.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                let (keys, values) = (self.keys.len() * 2, self.values.len() * 2);
                self.keys.resize(keys, 0);
                self.values.resize(values, 0);
                return Ok(Some(&[]));
            }
            Err(error) => return Err(error),
        }
        self.next_bucket = Some(bucket);
        // SAFETY: this is the member that the call was made with; the kernel has written how many there are.
        let count = unsafe { attr.batch.count } as usize;
        Ok(Some(&self.keys[..count]))
    }
}

/// Attaches a program to the function or the BTF tracepoint that it was loaded for.
///
/// # Errors
/// What bpf(2) says.
pub(crate) fn attach_by_type(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr).map(owned)
}

/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_SET_BPF` (linux/perf_event.h).
const ENABLE: libc::Ioctl = 0x2400;
const SET_BPF: libc::Ioctl = 0x4004_2408;
/// `PERF_FLAG_FD_CLOEXEC`.
pub(crate) const CLOEXEC: libc::c_ulong = 8;

/// Counts a tracepoint, by its number in tracefs: on one CPU, which is enough for a program to run on all of them.
///
/// # Errors
/// What perf_event_open(2) says.
pub(crate) fn count_tracepoint(number: u64) -> io::Result<OwnedFd> {
    // SAFETY: integers and unions of them, for which all-zero is valid.
    let mut attr: perf_event_attr = unsafe { mem::zeroed() };
    attr.size = size_of::<perf_event_attr>() as u32;
    attr.type_ = perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attr.config = number;
    attr.sample_type = perf_event_sample_format::PERF_SAMPLE_RAW as u64;
    attr.__bindgen_anon_1.sample_period = 1;
    attr.__bindgen_anon_2.wakeup_events = 1;
    let (any_process, first_cpu, no_group) = (-1, 0, -1);
    // SAFETY: `attr` is whole, initialised, and outlives the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, any_process, first_cpu, no_group, CLOEXEC) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(owned(fd)) }
}

/// Attaches a program to a tracepoint of a system call.
///
/// # Errors
/// What perf_event_open(2) or ioctl(2) says.
pub(crate) fn attach_tracepoint(program: BorrowedFd<'_>, number: u64) -> io::Result<OwnedFd> {
    let event = count_tracepoint(number)?;
    for (request, argument) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: both take a number; the descriptors are open.
        if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(event)
}

/// Makes the kernel count the time of every program for as long as the descriptor lives (kernel 5.8 and later).
///
/// # Errors
/// What bpf(2) says; EPERM without CAP_SYS_ADMIN.
pub(crate) fn enable_statistics() -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.enable_stats.type_ = STATS_RUN_TIME;
    bpf(bpf_cmd::BPF_ENABLE_STATS, &mut attr).map(owned)
}

/// What the kernel counted for one program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProgramRuns {
    /// Runs while statistics were enabled.
    pub runs: u64,
    /// Their nanoseconds.
    pub ns: u64,
    /// Runs skipped because the program was already running on that CPU. Counted always.
    pub missed: u64,
}

/// Reads a program's statistics.
///
/// # Errors
/// What bpf(2) says.
pub(crate) fn program_runs(program: BorrowedFd<'_>) -> io::Result<ProgramRuns> {
    // SAFETY: as for bpf_attr.
    let info: bpf_prog_info = object_info(program, unsafe { mem::zeroed() })?;
    Ok(ProgramRuns { runs: info.run_cnt, ns: info.run_time_ns, missed: info.recursion_misses })
}
