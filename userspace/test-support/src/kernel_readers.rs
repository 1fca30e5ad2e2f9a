//! Ways in which the kernel takes the bytes of a connection without a read(2): pages that are mapped into the program's
//! memory, and TLS. (Tables of sockets are in [`crate::sockmap`].)

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd as _, RawFd},
    ptr,
};

use nix::{
    fcntl::{SpliceFFlags, splice},
    unistd::{pipe, write},
};
use socket2::Socket;

/// What every kernel of the matrix has: each test sends whole ones.
const PAGE: usize = 4096;

/// Options of IPPROTO_TCP and SOL_TLS (include/uapi/linux/tcp.h and tls.h).
const TCP_ULP: i32 = 31;
const TCP_ZEROCOPY_RECEIVE: i32 = 35;
const SOL_TLS: i32 = 282;

/// A part of a program's memory into which the kernel maps what a connection receives.
pub struct Window {
    socket: RawFd,
    address: *mut c_void,
}

impl Window {
    /// Its size in bytes. On loopback that is one segment, so all pages arrive whole.
    pub const LENGTH: usize = 4 * PAGE;

    /// A window for a socket, which must live longer.
    pub fn new(socket: &Socket) -> Self {
        let socket = socket.as_raw_fd();
        // SAFETY: the kernel chooses the address.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), Self::LENGTH, libc::PROT_READ, libc::MAP_SHARED, socket, 0) };
        assert_ne!(address, libc::MAP_FAILED, "mmap of a socket: {}", io::Error::last_os_error());
        Self { socket, address }
    }

    /// Maps the pages that arrived, in place of those before, and returns how many bytes of them.
    pub fn map(&mut self) -> usize {
        /// The part of the kernel's argument that every kernel knows.
        #[repr(C)]
        struct Receive {
            address: u64,
            length: u32,
            skip: u32,
        }
        let mut receive = Receive { address: self.address as u64, length: Self::LENGTH as u32, skip: 0 };
        let mut size = size_of::<Receive>() as libc::socklen_t;
        // SAFETY: the option's argument is as large as it says, and the window is ours.
        let result = unsafe {
            libc::getsockopt(
                self.socket,
                libc::IPPROTO_TCP,
                TCP_ZEROCOPY_RECEIVE,
                (&raw mut receive).cast(),
                &raw mut size,
            )
        };
        assert_eq!(result, 0, "TCP_ZEROCOPY_RECEIVE: {}", io::Error::last_os_error());
        receive.length as usize
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: it is our own mapping, and nothing refers to it.
        unsafe { libc::munmap(self.address, Self::LENGTH) };
    }
}

/// Sends [`Window::LENGTH`] bytes as whole pages, which the receiver can map: those of a pipe.
pub fn send_pages(socket: &Socket) {
    let (from, to) = pipe().expect("a pipe");
    for _ in 0..Window::LENGTH / PAGE {
        assert_eq!(write(&to, &[7; PAGE]), Ok(PAGE));
    }
    assert_eq!(splice(from, None, socket, None, Window::LENGTH, SpliceFFlags::empty()), Ok(Window::LENGTH));
}

/// What the kernel does for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It encrypts what the program writes.
    Send = 1,
    /// It decrypts what the program reads.
    Receive = 2,
}

/// Has the kernel speak TLS 1.2 on a connection, with a key that all tests share. Skips the test where it cannot.
pub fn encrypt(socket: &Socket, direction: Direction) {
    let set = |level: i32, option: i32, value: &[u8]| {
        let (data, size) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
        // SAFETY: the value is as long as it says.
        let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, data, size) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    match set(libc::IPPROTO_TCP, TCP_ULP, b"tls") {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            crate::not_packaged("this kernel has no TLS (CONFIG_TLS)");
        }
        result => result.expect("TCP_ULP"),
    }
    // struct tls12_crypto_info_aes_gcm_128: version and cipher; then the vector, key, salt and number of the record.
    let mut secret = Vec::new();
    secret.extend(0x0303_u16.to_ne_bytes());
    secret.extend(51_u16.to_ne_bytes());
    secret.extend([1; 8 + 16 + 4]);
    secret.extend([0; 8]);
    set(SOL_TLS, direction as i32, &secret).expect("AES-GCM");
}
