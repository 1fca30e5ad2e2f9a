//! System calls in which threads sleep: their names, and what /proc/PID/task/TID/syscall says of one.

/// A system call that a thread is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub number: i64,
    pub arguments: [u64; 6],
}

impl Call {
    /// Reads /proc/PID/task/TID/syscall. `None` for a thread that runs, or sleeps outside a system call; and for one of
    /// a 32-bit program, whose calls have other numbers.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let number = fields.next()?.parse().ok().filter(|number| *number >= 0)?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = hexadecimal(fields.next()?)?;
        }
        let stack_pointer = hexadecimal(fields.next()?)?;
        (stack_pointer > u64::from(u32::MAX)).then_some(Self { number, arguments })
    }

    /// Its first argument as a descriptor.
    pub(super) fn descriptor(&self) -> u32 {
        self.arguments[0] as u32
    }

    /// Its name, or its number where the table has none.
    pub(super) fn name(&self) -> String {
        name(self.number).map_or_else(|| format!("syscall {}", self.number), str::to_owned)
    }
}

fn hexadecimal(field: &str) -> Option<u64> {
    u64::from_str_radix(field.strip_prefix("0x")?, 16).ok()
}

macro_rules! calls {
    ($($(#[$attribute:meta])* $number:ident)*) => {
        /// Those in which a server may stay for long. Numbers differ between architectures, names do not.
        fn name(number: i64) -> Option<&'static str> {
            $($(#[$attribute])* if number == libc::$number as i64 {
                return Some(&stringify!($number)[4..]);
            })*
            None
        }
    };
}

calls! {
    SYS_read SYS_readv SYS_pread64 SYS_preadv SYS_write SYS_writev SYS_pwrite64 SYS_pwritev SYS_close SYS_lseek
    SYS_accept SYS_accept4 SYS_connect SYS_recvfrom SYS_recvmsg SYS_recvmmsg SYS_sendto SYS_sendmsg SYS_sendmmsg
    SYS_sendfile SYS_splice SYS_tee SYS_vmsplice SYS_shutdown
    SYS_epoll_pwait SYS_epoll_pwait2 SYS_epoll_ctl SYS_ppoll SYS_pselect6 SYS_io_uring_enter SYS_io_getevents
    SYS_io_submit SYS_futex SYS_futex_waitv SYS_nanosleep SYS_clock_nanosleep SYS_restart_syscall SYS_sched_yield
    SYS_wait4 SYS_waitid SYS_rt_sigtimedwait SYS_rt_sigsuspend SYS_kill SYS_tgkill SYS_ptrace SYS_exit SYS_exit_group
    SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_syncfs SYS_flock SYS_fcntl SYS_ioctl SYS_openat SYS_openat2
    SYS_unlinkat SYS_renameat2 SYS_mkdirat SYS_getdents64 SYS_fallocate SYS_ftruncate SYS_copy_file_range
    SYS_newfstatat SYS_statx SYS_readlinkat SYS_faccessat SYS_mmap SYS_munmap SYS_mprotect SYS_madvise SYS_mremap
    SYS_brk SYS_msync SYS_clone SYS_clone3 SYS_execve SYS_getrandom SYS_semop SYS_semtimedop SYS_msgrcv SYS_msgsnd
    SYS_mq_timedreceive SYS_mq_timedsend SYS_process_vm_readv SYS_userfaultfd SYS_membarrier SYS_bpf SYS_setns SYS_unshare
    #[cfg(target_arch = "x86_64")] SYS_epoll_wait
    #[cfg(target_arch = "x86_64")] SYS_poll
    #[cfg(target_arch = "x86_64")] SYS_select
    #[cfg(target_arch = "x86_64")] SYS_pause
    #[cfg(target_arch = "x86_64")] SYS_open
    #[cfg(target_arch = "x86_64")] SYS_stat
    #[cfg(target_arch = "x86_64")] SYS_fork
    #[cfg(target_arch = "x86_64")] SYS_vfork
    #[cfg(target_arch = "x86_64")] SYS_unlink
    #[cfg(target_arch = "x86_64")] SYS_rename
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_a_number_arguments_and_a_name() {
        let text = format!(
            "{} 0x5 0x7ffe 0x200 0xffffffffffffffff 0x0 0x8 0x7ffe47110000 0x7f0000000000\n",
            libc::SYS_epoll_pwait
        );
        let call = Call::parse(&text).expect("complete");
        assert_eq!((call.descriptor(), call.arguments[3], call.name().as_str()), (5, u64::MAX, "epoll_pwait"));
        assert_eq!(Call { number: 9_999, arguments: [0; 6] }.name(), "syscall 9999");
    }

    #[test]
    fn threads_that_are_in_none_are_in_none() {
        for text in ["running\n", "-1 0x7ffe 0x7f00\n", "", "7 0x1", "7 1 2 3 4 5 6 7 8"] {
            assert_eq!(Call::parse(text), None, "{text:?}");
        }
        let of_32_bits = "102 0x5 0x0 0x0 0x0 0x0 0x0 0xffd01234 0xf7f00000\n";
        assert_eq!(Call::parse(of_32_bits), None);
    }
}
