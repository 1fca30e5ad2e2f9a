//! The depths of the accept queues of a network namespace, read again and again.
//!
//! NETLINK_SOCK_DIAG (sock_diag(7)) lists listeners alone, in some 20 µs. /proc/net/tcp goes on through the kernel's
//! table of connections, which all namespaces share: where that is large and holds few of this namespace, one reading
//! takes more than a millisecond. So it is read only where the kernel has no sock_diag for TCP.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    DoneBuffer, DoneMessage, Emitable, ErrorBuffer, ErrorMessage, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkHeader, Parseable,
};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// Depths by port; shards of one port are added up.
pub(super) type Depths = BTreeMap<u16, u64>;

/// Message types (include/uapi/linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// More than the kernel puts into one datagram.
const BUFFER: usize = 64 * 1024;
/// Seconds after which an answer does not come any more: the kernel answers at once.
const PATIENCE: i64 = 2;

/// Reads the depths of one namespace.
pub(super) struct Reader {
    /// `None`: /proc/net/tcp is read.
    diag: Option<Diag>,
}

impl Reader {
    /// For the network namespace of the calling thread, which has to read.
    pub(super) fn open() -> Self {
        Self { diag: Diag::open().ok() }
    }

    /// The depths now.
    ///
    /// # Errors
    /// The kernel shows them in no way.
    pub(super) fn read(&mut self) -> io::Result<Depths> {
        if let Some(depths) = self.diag.as_mut().and_then(|diag| diag.read().ok()) {
            return Ok(depths);
        }
        self.diag = None;
        of_proc()
    }
}

struct Diag {
    socket: Socket,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Diag {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        // SAFETY: the socket is open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        setsockopt(&descriptor, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { socket, request: request(), buffer: vec![0; BUFFER] })
    }

    fn read(&mut self) -> io::Result<Depths> {
        self.socket.send(&self.request, 0)?;
        let mut depths = Depths::new();
        loop {
            let mut space = &mut self.buffer[..];
            let length = match self.socket.recv(&mut space, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            let datagram = self.buffer.get(..length).ok_or_else(|| io::Error::other("a datagram was cut"))?;
            if add(datagram, &mut depths)? {
                return Ok(depths);
            }
        }
    }
}

/// Asks for all TCP listeners over IPv4, which is what everything in a lab listens on.
fn request() -> Vec<u8> {
    let body = InetRequest {
        family: libc::AF_INET as u8,
        protocol: libc::IPPROTO_TCP as u8,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id: SocketId::new_v4(),
    };
    let mut header = NetlinkHeader::default();
    let length = header.buffer_len() + body.buffer_len();
    header.length = length as u32;
    header.message_type = SOCK_DIAG_BY_FAMILY;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut bytes = vec![0; length];
    header.emit(&mut bytes);
    body.emit(&mut bytes[header.buffer_len()..]);
    bytes
}

/// Adds what a datagram has; whether it is the last one.
fn add(datagram: &[u8], depths: &mut Depths) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
        let payload = message.payload();
        match message.message_type() {
            DONE => {
                let done = DoneBuffer::new_checked(&payload).and_then(|buffer| DoneMessage::parse(&buffer));
                return match done.map_err(io::Error::other)?.code {
                    0 => Ok(true),
                    // Such as ENOENT, where the kernel has no sock_diag for TCP.
                    code => Err(io::Error::from_raw_os_error(code.wrapping_abs())),
                };
            }
            ERROR => {
                let error = ErrorBuffer::new_checked(&payload).and_then(|buffer| ErrorMessage::parse(&buffer));
                return Err(error.map_or_else(io::Error::other, |error| error.to_io()));
            }
            SOCK_DIAG_BY_FAMILY => {
                let listener = InetResponseHeader::parse(payload).map_err(io::Error::other)?;
                // A listener's receive queue is its accept queue.
                *depths.entry(listener.socket_id.source_port).or_insert(0) += u64::from(listener.recv_queue);
            }
            _ => {}
        }
        // Messages begin at multiples of four bytes.
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// How much of /proc/net/tcp is read at once. Listeners come first; a lab has at most some tens of them, of 150 bytes.
const PAGE: usize = 16_384;
/// The state of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

fn of_proc() -> io::Result<Depths> {
    let mut page = Vec::with_capacity(PAGE);
    File::open("/proc/thread-self/net/tcp")?.take(PAGE as u64).read_to_end(&mut page)?;
    Ok(depths_in(&String::from_utf8_lossy(&page)))
}

fn depths_in(text: &str) -> BTreeMap<u16, u64> {
    let mut depths = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().take(5).collect();
        let [_, local, _, LISTEN, queues] = fields[..] else { break };
        let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        // A listener's receive queue is its accept queue.
        let depth = queues.split_once(':').and_then(|(_, depth)| u64::from_str_radix(depth, 16).ok());
        if let (Some(port), Some(depth)) = (port, depth) {
            *depths.entry(port).or_insert(0) += depth;
        }
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn listeners_come_first_and_shards_are_added_up() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1B59 00000000:0000 0A 00000000:00000009 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n   \
            1: 0100007F:1B5A 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n   \
            2: 0100007F:1B5A 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0\n   \
            3: 0100007F:1B5A 0100007F:9C40 01 00000000:00000040 00:00000000 00000000     0        0 4 1 0 20 0 0 10 -1\n";
        assert_eq!(depths_in(text), [(7001, 9), (7002, 5)].into());
    }

    #[test]
    fn both_ways_show_the_same() {
        let listeners = [3, 1].map(|clients| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..clients).map(|_| TcpStream::connect(address).unwrap()).collect();
            (listener, address.port(), clients)
        });
        let by_diag = Diag::open().unwrap().read().unwrap();
        let by_proc = of_proc().unwrap();
        for (_, port, clients) in &listeners {
            assert_eq!([by_diag.get(port), by_proc.get(port)], [Some(&(clients.len() as u64)); 2]);
        }
    }

    #[test]
    fn an_answer_that_is_an_error_is_no_empty_list() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = 20_u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            add(&bytes, &mut Depths::new())
        };
        assert!(answer(DONE, 0).unwrap());
        assert_eq!(answer(DONE, -libc::ENOENT).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
