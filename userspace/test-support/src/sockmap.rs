//! Sockets whose bytes the kernel takes itself: a BPF program on a table of sockets (sockmap) discards them.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use socket2::Socket;

use crate::{environment::older_than, skip};

/// Commands, types and attach types of bpf(2) (include/uapi/linux/bpf.h).
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_SKB: u32 = 14;
const SK_SKB_STREAM_VERDICT: u32 = 5;

/// An instruction: code, registers, offset, immediate value.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

/// `return SK_DROP;`
const DISCARD: [Instruction; 2] = [
    Instruction { code: 0xb7, registers: 0, offset: 0, value: 0 },
    Instruction { code: 0x95, registers: 0, offset: 0, value: 0 },
];

/// A table of sockets. What arrives for a socket in it is discarded by the kernel.
pub struct Discarding {
    map: OwnedFd,
    _program: OwnedFd,
}

/// A bpf(2) call. `attributes`: 32-bit words, in the machine's order.
fn bpf(command: libc::c_long, attributes: &mut [u32]) -> io::Result<i32> {
    // SAFETY: the attributes are readable and outlive the call, and so is what they point to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// An address as two words.
fn words<T>(pointer: *const T) -> [u32; 2] {
    let bytes = (pointer as u64).to_ne_bytes();
    [0, 4].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

impl Discarding {
    /// An empty table; skips the test where the kernel has no such thing.
    pub fn new() -> Self {
        if older_than(5, 13) {
            skip("a program for a table of sockets needs a second one here (until 5.13)".to_owned());
        }
        let map = match bpf(MAP_CREATE, &mut [MAP_TYPE_SOCKMAP, 4, 4, 8]) {
            Ok(map) => owned(map),
            Err(error) => skip(format!("this kernel has no table of sockets: {error}")),
        };
        let (code, license) = (words(DISCARD.as_ptr()), words(c"GPL".as_ptr()));
        let length = DISCARD.len() as u32;
        let mut load = [PROG_TYPE_SK_SKB, length, code[0], code[1], license[0], license[1]];
        let program = owned(bpf(PROG_LOAD, &mut load).expect("the kernel takes the program"));
        let mut attach = [map.as_raw_fd() as u32, program.as_raw_fd() as u32, SK_SKB_STREAM_VERDICT, 0];
        bpf(PROG_ATTACH, &mut attach).expect("it is attached");
        Self { map, _program: program }
    }

    /// From now on, what arrives for the socket is discarded.
    pub fn add(&self, place: u32, socket: &Socket) {
        let value = socket.as_raw_fd();
        let (key, value) = (words(&raw const place), words(&raw const value));
        let mut update = [self.map.as_raw_fd() as u32, 0, key[0], key[1], value[0], value[1], 0, 0];
        bpf(MAP_UPDATE_ELEM, &mut update).expect("an established socket");
    }
}

impl Default for Discarding {
    fn default() -> Self {
        Self::new()
    }
}
