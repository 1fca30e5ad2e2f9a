//! A BPF program that leads connections to a listener at another address (`sk_lookup`): what Cloudflare's tubular does,
//! in few instructions.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
};

use socket2::Socket;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const SK_LOOKUP: u32 = 36;
/// Numbers of helpers (include/uapi/linux/bpf.h).
const MAP_LOOKUP_ELEM: i32 = 1;
const SK_RELEASE: i32 = 86;
const SK_ASSIGN: i32 = 124;
/// `local_port` of `struct bpf_sk_lookup`.
const LOCAL_PORT: i16 = 60;

/// Leads what comes to a port of the calling thread's namespace to a listener, until it is dropped.
pub struct Steering {
    _link: OwnedFd,
    _map: OwnedFd,
}

impl Steering {
    /// Leads connections to `port` to `listener`.
    ///
    /// # Errors
    /// Before Linux 5.9 there are no such programs.
    pub fn to(listener: &Socket, port: u16) -> io::Result<Self> {
        let map = bpf(MAP_CREATE, &[MAP_TYPE_SOCKMAP, 4, 8, 1, 0])?;
        let (key, value) = (0_u32, listener.as_raw_fd() as u64);
        let [key_low, key_high] = address(&raw const key);
        let [value_low, value_high] = address(&raw const value);
        call(MAP_UPDATE_ELEM, &[map.as_raw_fd() as u32, 0, key_low, key_high, value_low, value_high, 0, 0])?;
        let program = program(port, map.as_raw_fd());
        let [code_low, code_high] = address(program.as_ptr());
        let license = c"GPL";
        let [license_low, license_high] = address(license.as_ptr());
        let mut attributes =
            [PROG_TYPE_SK_LOOKUP, program.len() as u32, code_low, code_high, license_low, license_high].to_vec();
        // No log, no name; the last one is the place where it may be attached.
        attributes.resize(17, 0);
        attributes.push(SK_LOOKUP);
        let loaded = bpf(PROG_LOAD, &attributes)?;
        let namespace = File::open("/proc/thread-self/ns/net")?;
        let link = bpf(LINK_CREATE, &[loaded.as_raw_fd() as u32, namespace.as_raw_fd() as u32, SK_LOOKUP, 0])?;
        Ok(Self { _link: link, _map: map })
    }
}

/// The two words of an address.
fn address<T>(pointer: *const T) -> [u32; 2] {
    let address = pointer as u64;
    [address as u32, (address >> 32) as u32]
}

/// bpf(2) with attributes that consist of these words.
fn call(command: libc::c_long, attributes: &[u32]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes outlive the call; the addresses in them are those of objects that do, too.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same where the result is a descriptor.
fn bpf(command: libc::c_long, attributes: &[u32]) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// An instruction.
fn instruction(code: u8, registers: (u8, u8), offset: i16, value: i32) -> u64 {
    let (destination, source) = registers;
    u64::from(code)
        | u64::from(source << 4 | destination) << 8
        | u64::from(offset as u16) << 16
        | u64::from(value as u32) << 32
}

/// If the local port is this one, assigns the only socket in the map.
fn program(port: u16, map: i32) -> Vec<u64> {
    let copy = |to, from| instruction(0xbf, (to, from), 0, 0);
    let set = |to, value| instruction(0xb7, (to, 0), 0, value);
    let call = |helper| instruction(0x85, (0, 0), 0, helper);
    vec![
        copy(6, 1),
        instruction(0x61, (2, 1), LOCAL_PORT, 0),
        // Another port: to the end.
        instruction(0x55, (2, 0), 14, port.into()),
        // The key, 0, is on the stack.
        instruction(0x62, (10, 0), -4, 0),
        instruction(0x18, (1, 1), 0, map),
        0,
        copy(2, 10),
        instruction(0x07, (2, 0), 0, -4),
        call(MAP_LOOKUP_ELEM),
        // Nothing there: to the end.
        instruction(0x15, (0, 0), 7, 0),
        copy(7, 0),
        copy(1, 6),
        copy(2, 7),
        set(3, 0),
        call(SK_ASSIGN),
        copy(1, 7),
        call(SK_RELEASE),
        // SK_PASS.
        set(0, 1),
        instruction(0x95, (0, 0), 0, 0),
    ]
}
