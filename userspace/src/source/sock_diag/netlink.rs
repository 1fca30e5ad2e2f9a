//! The kernel's list of sockets, asked for through NETLINK_SOCK_DIAG (sock_diag(7)).

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use listentop_model::sample::Device;
use netlink_packet_core::{
    DefaultNla, DoneBuffer, DoneMessage, Emitable as _, ErrorBuffer, ErrorMessage, NLM_F_DUMP, NLM_F_REQUEST,
    NetlinkBuffer, NetlinkHeader, NlasIterator, Parseable as _,
};
use netlink_packet_sock_diag::{
    SOCK_DIAG_BY_FAMILY,
    constants::{
        INET_DIAG_INFO, INET_DIAG_SKMEMINFO, INET_DIAG_SKV6ONLY, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_SYN_RECV,
    },
    inet::{
        ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer,
        nlas::{MemInfo, Nla},
    },
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike as _},
};

use super::connections::Peer;
use crate::source::{devices, namespaces};

/// Bytes of `struct inet_diag_msg` (include/uapi/linux/inet_diag.h): what comes before the attributes.
const MESSAGE: usize = 72;
/// Flag of a dump during which what is dumped changed (`NLM_F_DUMP_INTR`, include/uapi/linux/netlink.h).
const INTERRUPTED: u16 = 0x10;
/// Message types (include/uapi/linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Attribute of a request whose protocol does not fit into its byte (`INET_DIAG_REQ_PROTOCOL`).
const REQUEST_PROTOCOL: u16 = 3;
/// Twice what the kernel puts into one datagram at most.
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once. If it ever does not, this ends the wait.
const PATIENCE: i64 = 2;

/// Which sockets to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// TCP listeners, among them the one that listens for each MPTCP socket.
    Listeners,
    /// MPTCP sockets that listen.
    MptcpListeners,
    /// Request sockets: SYN received, final ACK not yet.
    Requests,
    /// Connections whose own side has not ended.
    Connections,
}

/// Address families. Each takes a request of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// A socket as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cookie: u64,
    pub(super) inode: u32,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Index of the interface that it is bound to; 0 if to none.
    pub(super) interface: u32,
    /// `sk_ack_backlog` of a listener; of a connection what was not read, with its end.
    pub(super) depth: u32,
    /// `sk_max_ack_backlog` of a listener.
    pub(super) backlog: u32,
    pub(super) v6only: bool,
    /// `sk_drops`; `None` if the kernel did not list it.
    pub(super) drops: Option<u32>,
    /// How often the SYN-ACK of a request socket was sent again.
    pub(super) retransmits: u8,
    /// Time until its timer expires, if one runs.
    pub(super) timer: Option<Duration>,
    /// Of a connection, also of one that is half open; `None` for others.
    pub(super) peer: Option<Peer>,
}

/// How a dump went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dump {
    /// It came in several pieces, between which sockets may have come and gone: one may be missing, or there twice.
    pub(super) pieces: u32,
    /// The kernel marked it as inconsistent.
    pub(super) interrupted: bool,
}

/// A netlink socket. It lists the network namespace that it was opened in.
pub(super) struct Diag {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Diag {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// That of socket(2): netlink, or this family, is missing or forbidden by a filter of system calls.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { socket, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// Cookie of its namespace; `None` before Linux 5.14.
    pub(super) fn cookie(&self) -> Option<u64> {
        namespaces::cookie_of(&self.descriptor())
    }

    /// An interface of its namespace.
    pub(super) fn device(&self, index: u32) -> Device {
        devices::name_of(&self.descriptor(), index).unwrap_or_else(|_| Device::unnamed(index))
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket keeps its descriptor open for as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Passes every socket of this sort to `each`.
    ///
    /// # Errors
    /// `NotFound` if the kernel does not know such sockets (a module is missing); otherwise its own.
    pub(super) fn dump(&mut self, wanted: Wanted, family: Family, mut each: impl FnMut(Entry)) -> io::Result<Dump> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(wanted, family, self.sequence);
        self.socket.send(&request, 0)?;
        let mut dump = Dump::default();
        loop {
            let mut space = &mut self.buffer[..];
            let length = match self.socket.recv(&mut space, 0) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let seconds = Duration::from_secs(PATIENCE.unsigned_abs());
                    return Err(io::Error::other(format!("the kernel did not answer within {seconds:?}")));
                }
                Err(error) => return Err(error),
            };
            let datagram = self.buffer.get(..length).ok_or_else(truncated)?;
            let mut entries = 0;
            let ended = read(datagram, self.sequence, &mut dump.interrupted, &mut |entry| {
                entries += 1;
                each(entry);
            })?;
            dump.pieces += u32::from(entries > 0);
            if ended {
                return Ok(dump);
            }
        }
    }
}

/// A request for a dump, as it is sent.
fn request(wanted: Wanted, family: Family, sequence: u32) -> Vec<u8> {
    let (family, socket_id) = match family {
        Family::V4 => (libc::AF_INET as u8, SocketId::new_v4()),
        Family::V6 => (libc::AF_INET6 as u8, SocketId::new_v6()),
    };
    let protocol = if wanted == Wanted::MptcpListeners { libc::IPPROTO_MPTCP } else { libc::IPPROTO_TCP };
    let body = InetRequest {
        family,
        // One that needs more than a byte is in the attribute.
        protocol: u8::try_from(protocol).unwrap_or(0),
        extensions: match wanted {
            Wanted::Listeners => ExtensionFlags::SKMEMINFO,
            Wanted::Connections => ExtensionFlags::INFO,
            Wanted::MptcpListeners | Wanted::Requests => ExtensionFlags::empty(),
        },
        states: match wanted {
            Wanted::Listeners | Wanted::MptcpListeners => StateFlags::LISTEN,
            // For request sockets, too: the kernel knows them as TCP_NEW_SYN_RECV and adds that itself.
            Wanted::Requests => StateFlags::SYN_RECV,
            Wanted::Connections => StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT,
        },
        socket_id,
    };
    let attribute = Nla::Other(DefaultNla::new(REQUEST_PROTOCOL, protocol.to_ne_bytes().to_vec()));
    let attributes: &[Nla] = if u8::try_from(protocol).is_err() { &[attribute] } else { &[] };
    let mut header = NetlinkHeader::default();
    let body_at = header.buffer_len();
    let attributes_at = body_at + body.buffer_len();
    let length = attributes_at + attributes.buffer_len();
    header.length = length as u32;
    header.message_type = SOCK_DIAG_BY_FAMILY;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let mut bytes = vec![0; length];
    header.emit(&mut bytes[..body_at]);
    body.emit(&mut bytes[body_at..attributes_at]);
    attributes.emit(&mut bytes[attributes_at..]);
    bytes
}

/// Reads a datagram; true if the dump ends with it.
fn read(datagram: &[u8], sequence: u32, interrupted: &mut bool, each: &mut impl FnMut(Entry)) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
        let length = message.length() as usize;
        // Messages begin at multiples of four bytes.
        let next = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // A message of an earlier dump, which was abandoned.
        if message.sequence_number() == sequence {
            *interrupted |= message.flags() & INTERRUPTED != 0;
            let payload = message.payload();
            match message.message_type() {
                DONE => return done(payload).map(|()| true),
                ERROR => {
                    let error = ErrorBuffer::new_checked(&payload).and_then(|buffer| ErrorMessage::parse(&buffer));
                    return Err(error.map_or_else(io::Error::other, |error| error.to_io()));
                }
                SOCK_DIAG_BY_FAMILY => each(entry(payload)?),
                _ => {}
            }
        }
        rest = next;
    }
    Ok(false)
}

/// The last message of a dump says whether it failed.
fn done(payload: &[u8]) -> io::Result<()> {
    if payload.len() < size_of::<i32>() {
        return Ok(());
    }
    let done = DoneBuffer::new_checked(&payload).and_then(|buffer| DoneMessage::parse(&buffer));
    match done.map_err(io::Error::other)?.code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.wrapping_abs())),
    }
}

fn entry(payload: &[u8]) -> io::Result<Entry> {
    let header = InetResponseHeader::parse(payload).map_err(io::Error::other)?;
    let mut entry = Entry {
        cookie: u64::from_ne_bytes(header.socket_id.cookie),
        inode: header.inode,
        address: header.socket_id.source_address,
        port: header.socket_id.source_port,
        interface: header.socket_id.interface_id,
        depth: header.recv_queue,
        backlog: header.send_queue,
        v6only: false,
        drops: None,
        retransmits: match header.timer {
            Some(Timer::Retransmit(_, times)) => times,
            _ => 0,
        },
        timer: match header.timer {
            Some(Timer::Retransmit(left, _)) => Some(left),
            _ => None,
        },
        peer: matches!(header.state, TCP_ESTABLISHED | TCP_CLOSE_WAIT | TCP_SYN_RECV).then_some(Peer {
            address: header.socket_id.destination_address,
            port: header.socket_id.destination_port,
            state: header.state,
            quiet: None,
        }),
    };
    for attribute in NlasIterator::new(payload.get(MESSAGE..).ok_or_else(truncated)?) {
        let attribute = attribute.map_err(io::Error::other)?;
        match attribute.kind() {
            // Kernels that do not know the last fields leave them out.
            INET_DIAG_SKMEMINFO => entry.drops = MemInfo::parse(attribute.value()).ok().map(|info| info.drops),
            INET_DIAG_SKV6ONLY => entry.v6only = attribute.value().first().is_some_and(|value| *value != 0),
            INET_DIAG_INFO => {
                if let Some(peer) = &mut entry.peer {
                    peer.quiet = quiet(attribute.value());
                }
            }
            _ => {}
        }
    }
    Ok(entry)
}

/// Where in `struct tcp_info` (include/uapi/linux/tcp.h) stand the milliseconds since the last payload came, and since
/// the last ACK.
const LAST_DATA_RECV: usize = 52;
const LAST_ACK_RECV: usize = 56;

/// Both, of a `struct tcp_info`.
fn quiet(info: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    Some((word(LAST_DATA_RECV)?, word(LAST_ACK_RECV)?))
}

fn truncated() -> io::Error {
    io::Error::other("a message of the kernel is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: u32 = 7;

    /// A message of this type, with this payload.
    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        let mut bytes = vec![0; header.buffer_len()];
        (header.message_type, header.flags, header.sequence_number) = (kind, flags, sequence);
        header.length = (bytes.len() + payload.len()) as u32;
        header.emit(&mut bytes);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A dual-stack listener on [::]:8080 with 3 of 16 waiting and 5 drops.
    fn listener() -> Vec<u8> {
        let mut bytes = vec![libc::AF_INET6 as u8, 10, 0, 0];
        bytes.extend(8080_u16.to_be_bytes());
        bytes.extend([0; 2 + 16 + 16]);
        bytes.extend(2_u32.to_ne_bytes());
        bytes.extend(0x1_0000_0002_u64.to_ne_bytes());
        for word in [0_u32, 3, 16, 1000, 4711] {
            bytes.extend(word.to_ne_bytes());
        }
        assert_eq!(bytes.len(), MESSAGE);
        let mut attribute = |kind: u16, value: &[u8]| {
            bytes.extend((4 + value.len() as u16).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        attribute(INET_DIAG_SKV6ONLY, &[0]);
        attribute(INET_DIAG_SKMEMINFO, &[0_u32, 0, 0, 0, 0, 0, 0, 0, 5].map(u32::to_ne_bytes).concat());
        bytes
    }

    fn read_all(datagram: &[u8]) -> io::Result<(Vec<Entry>, bool, bool)> {
        let (mut entries, mut interrupted) = (Vec::new(), false);
        let ended = read(datagram, SEQUENCE, &mut interrupted, &mut |entry| entries.push(entry))?;
        Ok((entries, interrupted, ended))
    }

    #[test]
    fn a_listener_is_read() {
        let datagram = message(SOCK_DIAG_BY_FAMILY, 2, SEQUENCE, &listener());
        let (entries, interrupted, ended) = read_all(&datagram).expect("complete");
        assert!(!interrupted && !ended);
        let expected = Entry {
            cookie: 0x1_0000_0002,
            inode: 4711,
            address: "::".parse().expect("an address"),
            port: 8080,
            interface: 2,
            depth: 3,
            backlog: 16,
            v6only: false,
            drops: Some(5),
            retransmits: 0,
            timer: None,
            peer: None,
        };
        assert_eq!(entries, [expected]);
    }

    #[test]
    fn a_request_is_read_with_its_client_and_its_timer() {
        let mut bytes = listener();
        // Its state, its timer, how often the SYN-ACK was sent again, its client, and when the timer expires.
        (bytes[1], bytes[2], bytes[3]) = (TCP_SYN_RECV, 1, 2);
        bytes[6..8].copy_from_slice(&4711_u16.to_be_bytes());
        bytes[24..40].copy_from_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
        bytes[52..56].copy_from_slice(&3_500_u32.to_ne_bytes());
        let (entries, ..) = read_all(&message(SOCK_DIAG_BY_FAMILY, 2, SEQUENCE, &bytes)).expect("complete");
        let peer = entries[0].peer.expect("a client");
        assert_eq!((peer.port, peer.address.is_loopback(), peer.quiet), (4711, true, None));
        assert_eq!((entries[0].retransmits, entries[0].timer), (2, Some(Duration::from_millis(3_500))));
    }

    #[test]
    fn a_connection_is_read_with_when_it_was_heard_last() {
        let mut bytes = listener();
        // Its state, its client, and what was not read.
        bytes[1] = TCP_CLOSE_WAIT;
        bytes[6..8].copy_from_slice(&4711_u16.to_be_bytes());
        bytes[24..40].copy_from_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
        let mut info = [0; 104];
        info[LAST_DATA_RECV..][..4].copy_from_slice(&20_u32.to_ne_bytes());
        info[LAST_ACK_RECV..][..4].copy_from_slice(&10_u32.to_ne_bytes());
        for (length, quiet) in [(104, Some((20, 10))), (56, None)] {
            let mut bytes = bytes.clone();
            bytes.extend((4 + length as u16).to_ne_bytes());
            bytes.extend(INET_DIAG_INFO.to_ne_bytes());
            bytes.extend(&info[..length]);
            let (entries, ..) = read_all(&message(SOCK_DIAG_BY_FAMILY, 2, SEQUENCE, &bytes)).expect("complete");
            let address = "::1".parse().expect("an address");
            assert_eq!(entries[0].peer, Some(Peer { address, port: 4711, state: TCP_CLOSE_WAIT, quiet }));
            assert_eq!(entries[0].depth, 3);
        }
    }

    #[test]
    fn ends_errors_and_strangers_are_told_apart() {
        let listener = message(SOCK_DIAG_BY_FAMILY, INTERRUPTED, SEQUENCE, &listener());
        let stranger = message(SOCK_DIAG_BY_FAMILY, 2, SEQUENCE - 1, b"of another dump");
        let end = message(DONE, 2, SEQUENCE, &0_i32.to_ne_bytes());
        let (entries, interrupted, ended) = read_all(&[stranger, listener, end].concat()).expect("complete");
        assert_eq!((entries.len(), interrupted, ended), (1, true, true));
        for kind in [DONE, ERROR] {
            let mut payload = (-libc::ENOENT).to_ne_bytes().to_vec();
            payload.extend([0; 16]);
            let error = read_all(&message(kind, 0, SEQUENCE, &payload)).expect_err("it says so");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn what_is_cut_off_or_broken_is_an_error_at_most() {
        let whole = message(SOCK_DIAG_BY_FAMILY, 2, SEQUENCE, &listener());
        for length in 1..whole.len() {
            assert!(read_all(&whole[..length]).is_err(), "{length} bytes");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 4, 15, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                // Reading ends for any content.
                let _ = read_all(&broken);
            }
        }
    }

    #[test]
    fn protocols_beyond_a_byte_are_in_an_attribute() {
        let plain = request(Wanted::Listeners, Family::V4, 1);
        let long = request(Wanted::MptcpListeners, Family::V4, 1);
        assert_eq!(long.len(), plain.len() + 8);
        assert_eq!(long[plain.len()..][..4], [8, 0, REQUEST_PROTOCOL as u8, 0]);
        assert_eq!(long[plain.len() + 4..], libc::IPPROTO_MPTCP.to_ne_bytes());
    }
}
