//! Virtual interfaces: a pair that joins two network namespaces, its addresses, and what the kernel must not do to
//! frames that a program carries.

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The interface of the client's host. Load may go to the other end of an interface of this name.
pub(crate) const CLIENT: &str = "wire";

// linux/if_link.h, linux/veth.h, linux/ethtool.h, which libc does not have.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// Checksums by the device, TSO and GSO: with them frames are unfinished or larger than the line's.
const OFFLOADS: [u32; 3] = [0x17, 0x1f, 0x24];

/// An attribute of netlink.
fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(number.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn name_attribute(name: &str) -> Vec<u8> {
    attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat())
}

/// An empty `struct ifinfomsg`.
const INFO: [u8; 16] = [0; 16];

/// Makes a pair: `name` in the calling thread's namespace, `peer` in another one. Both are down.
///
/// # Errors
/// EEXIST: there is an interface of the peer's name; anything else that the kernel says.
pub(super) fn pair(name: &str, namespace: BorrowedFd<'_>, peer: &str) -> Result<(), Errno> {
    let there = attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    let peer = attribute(VETH_INFO_PEER, &[&INFO[..], &name_attribute(peer), &there].concat());
    let kind = [attribute(IFLA_INFO_KIND, b"veth"), attribute(IFLA_INFO_DATA, &peer)].concat();
    let body = [&INFO[..], &name_attribute(name), &attribute(IFLA_LINKINFO, &kind)].concat();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    let kind = SockType::Raw;
    let netlink = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // The header, then the negative error number, or 0.
    let code = answer[..length].get(16..20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(Errno::from_raw(-error)),
        None => Err(Errno::EPROTO),
    }
}

/// Runs `work` on a thread in another network namespace.
pub(super) fn within(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let there = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")?;
            work()
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, there).context("cannot start a thread")?;
        thread.join().map_err(|_| anyhow!("a thread panicked"))?
    })
}

/// A request about this interface.
fn request(name: &str) -> libc::ifreq {
    // SAFETY: zero is valid for all members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *place = byte as libc::c_char;
    }
    request
}

fn ioctl(call: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let udp = socket(AddressFamily::Inet, SockType::Datagram, flags, None::<SockProtocol>)?;
    // SAFETY: these calls read and write one `struct ifreq`, which outlives them, and what it points to.
    Errno::result(unsafe { libc::ioctl(udp.as_raw_fd(), call as _, std::ptr::from_mut(request)) }).map(drop)
}

/// Sets an interface of the calling thread's namespace up.
pub(super) fn up(name: &str) -> anyhow::Result<()> {
    let mut request = request(name);
    ioctl(libc::SIOCGIFFLAGS as _, &mut request).with_context(|| format!("the flags of {name}"))?;
    // SAFETY: the call before filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    ioctl(libc::SIOCSIFFLAGS as _, &mut request).with_context(|| format!("cannot set {name} up"))
}

/// Gives an interface its address in a network of four, switches its offloads off, and sets it up.
pub(super) fn address(name: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    for command in OFFLOADS {
        let mut value = Value { command, data: 0 };
        let mut request = request(name);
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        ioctl(SIOCETHTOOL, &mut request).with_context(|| format!("cannot switch an offload of {name} off"))?;
    }
    let put = |call: libc::c_ulong, address: Ipv4Addr| {
        let mut request = request(name);
        let inet = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
            sin_zero: [0; 8],
        };
        // SAFETY: both types are 16 bytes of integers; `sockaddr_in` is what `sockaddr` stands for here.
        request.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inet) };
        ioctl(call, &mut request).with_context(|| format!("cannot give {name} the address {address}"))
    };
    put(libc::SIOCSIFADDR as _, address)?;
    put(libc::SIOCSIFNETMASK as _, Ipv4Addr::new(255, 255, 255, 252))?;
    up(name)
}
