//! Processes that a test forks. They end with the test.

use std::{
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, pipe2},
};
use socket2::Socket;

use crate::{sockets, wait_until};

/// A child process. Dropping it kills it.
pub struct Forked {
    pid: Pid,
    ended: bool,
}

/// Forks; the child runs `work` and exits, with code 101 if it panics. It dies with the calling thread.
///
/// Other threads do not exist in the child: `work` must not wait for a lock that one of them may hold.
pub fn fork(work: impl FnOnce()) -> Forked {
    // SAFETY: the child only makes system calls and allocates, which glibc keeps usable after a fork.
    match unsafe { nix::unistd::fork() }.expect("a child") {
        ForkResult::Parent { child } => Forked { pid: child, ended: false },
        ForkResult::Child => {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let code = if catch_unwind(AssertUnwindSafe(work)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
    }
}

/// As [`fork`], with the id of an earlier process that has ended: clone3(2) with set_tid. Only for a process of one
/// thread, because the C library does not know of the child. The child dies with its parent.
pub fn fork_as(pid: u32, work: impl FnOnce()) {
    let wanted = pid as libc::pid_t;
    // SAFETY: zero is valid for all members.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = (&raw const wanted) as u64;
    arguments.set_tid_size = 1;
    // SAFETY: without flags it is a fork; the arguments outlive the call.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) } {
        0 => {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let code = if catch_unwind(AssertUnwindSafe(work)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        child => assert_eq!(child, libc::c_long::from(wanted), "{}", std::io::Error::last_os_error()),
    }
}

/// A child that holds nothing but a listener on loopback, does something with it, and then waits to be killed.
pub fn server(port: u16, backlog: i32, work: impl FnOnce(Socket)) -> Forked {
    fork(|| {
        close_inherited();
        work(sockets::listen(port, backlog));
        wait_for_ever();
    })
}

/// Keeps the calling thread on one CPU: the first that it may run on.
pub fn stay_on_one_cpu() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("its CPUs");
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true)).expect("it runs on one");
    one.set(first).expect("in range");
    sched_setaffinity(Pid::from_raw(0), &one).expect("one of its own");
}

/// For a child that only has to exist.
pub fn wait_for_ever() {
    loop {
        nix::unistd::pause();
    }
}

/// Closes all descriptors that the child has inherited: the child must not seem to hold those of other tests.
pub fn close_inherited() {
    close_range(3, u32::MAX);
}

/// Closes all inherited descriptors but one.
pub fn close_inherited_but(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd() as u32;
    close_range(3, kept - 1);
    close_range(kept + 1, u32::MAX);
}

/// A plain system call, because musl has no wrapper for it.
fn close_range(first: u32, last: u32) {
    // SAFETY: nothing in this child uses these descriptors any more.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// For a child that survives its parent.
pub fn outlive_parent() {
    prctl::set_pdeathsig(None).expect("every Linux has it");
}

impl Forked {
    /// A process whose parent has ended, or will end, so that it becomes a child of this one.
    pub fn adopted(pid: u32) -> Self {
        Self { pid: Pid::from_raw(pid as i32), ended: false }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
            self.ended = true;
        }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A gate between processes: they wait at it until it is opened.
pub struct Gate {
    wait: OwnedFd,
    open: OwnedFd,
}

impl Gate {
    /// A closed gate.
    #[expect(clippy::new_without_default, reason = "a gate makes a pipe")]
    pub fn new() -> Self {
        let (wait, open) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        Self { wait, open }
    }

    /// Lets `n` processes pass: those that wait now, or the next to come.
    pub fn open(&self, n: usize) {
        assert_eq!(nix::unistd::write(self.open.as_fd(), &vec![1; n]), Ok(n));
    }

    /// Waits until the gate is open; at most a minute, because the process that opens it may have failed.
    pub fn pass(&self) {
        let mut entries = [PollFd::new(self.wait.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entries, PollTimeout::from(60_000_u16)), Ok(1), "nothing within a minute");
        let mut byte = [0];
        assert_eq!(nix::unistd::read(self.wait.as_fd(), &mut byte), Ok(1));
    }

    /// Sends a value through the gate, instead of opening it.
    pub fn send(&self, value: u64) {
        assert_eq!(nix::unistd::write(self.open.as_fd(), &value.to_ne_bytes()), Ok(8));
    }

    /// Waits for the value that [`Gate::send`] sends.
    pub fn receive(&self) -> u64 {
        let mut bytes = [0; 8];
        assert_eq!(nix::unistd::read(self.wait.as_fd(), &mut bytes), Ok(8));
        u64::from_ne_bytes(bytes)
    }
}

/// Sends a descriptor to another process (SCM_RIGHTS).
pub fn send_descriptor(through: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let descriptors = [descriptor.as_raw_fd()];
    let message = [std::io::IoSlice::new(b"x")];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(through.as_raw_fd(), &message, &rights, MsgFlags::empty(), None).expect("a descriptor is sent");
}

/// Receives a descriptor.
pub fn receive_descriptor(through: BorrowedFd<'_>) -> OwnedFd {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::FromRawFd as _;
    let mut byte = [0];
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let mut message = [std::io::IoSliceMut::new(&mut byte)];
    let received =
        recvmsg::<()>(through.as_raw_fd(), &mut message, Some(&mut space), MsgFlags::empty()).expect("a message");
    for control in received.cmsgs().expect("complete") {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel just made this descriptor for us.
            return unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
        }
    }
    panic!("a message without a descriptor");
}

/// Stops a process, and waits until it is stopped. Until then it may still be woken for a connection that it never
/// accepts, or accept one.
pub fn stop(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).expect("it lives");
    let stat = format!("/proc/{pid}/stat");
    wait_until("it is stopped", || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
}
