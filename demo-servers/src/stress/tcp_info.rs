//! What the kernel knows of a client's connection (TCP_INFO).

use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct tcp_info` of linux/tcp.h as far as it is used here. libc's ends before the members of Linux 4.10.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Info {
    states_and_options: [u8; 8],
    until_retransmissions: [u32; 23],
    total_retrans: u32,
    until_busy_time: [u64; 4],
    until_delivery_rate: [u32; 6],
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
}

/// Times and retransmissions of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TcpInfo {
    /// How often the kernel has sent segments again. Until the connect ends, these are SYNs.
    pub(super) retransmissions: u32,
    /// How long it could not send because the server's receive window was full, in microseconds. 0 before Linux 4.10.
    pub(super) receiver_limited_us: u64,
}

/// That of this socket; `None` if the kernel does not say.
pub(super) fn read(fd: &OwnedFd) -> Option<TcpInfo> {
    let mut info = Info::default();
    let mut length = size_of::<Info>() as libc::socklen_t;
    let place = (&raw mut info).cast();
    // SAFETY: the kernel writes at most `length` bytes of integers to `info`.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length) };
    Errno::result(result).ok()?;
    Some(TcpInfo { retransmissions: info.total_retrans, receiver_limited_us: info.rwnd_limited })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn members_are_where_the_kernel_has_them() {
        // linux/tcp.h: tcpi_total_retrans is after 8 bytes and 23 words; the times are in 64-bit words.
        assert_eq!(std::mem::offset_of!(Info, total_retrans), 100);
        assert_eq!(std::mem::offset_of!(Info, rwnd_limited), 176);
        assert_eq!(size_of::<Info>(), 192);
    }

    #[test]
    fn a_full_window_is_time_limited_by_the_receiver() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _server = listener.accept().unwrap();
        let client_fd = OwnedFd::from(client.try_clone().unwrap());
        assert_eq!(read(&client_fd), Some(TcpInfo::default()));
        client.set_nonblocking(true).unwrap();
        while (&client).write(&[0; 8192]).is_ok() {}
        std::thread::sleep(Duration::from_millis(100));
        assert!(read(&client_fd).unwrap().receiver_limited_us >= 50_000, "{:?}", read(&client_fd));
    }
}
