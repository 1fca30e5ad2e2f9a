//! Listening sockets.

use super::options::{Options, Pattern};
use crate::sys::set_number;
use anyhow::Context;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The sockets of one server, all on the same address and port.
#[derive(Debug)]
pub struct Listeners {
    /// One socket, or one per shard.
    pub sockets: Vec<Arc<OwnedFd>>,
    /// The address on which they listen, with the port that the kernel chose.
    pub address: SocketAddr,
}

/// Opens one listener, or for `sharded` one per shard.
///
/// # Errors
/// The address or port cannot be used.
pub fn open(options: &Options) -> anyhow::Result<Listeners> {
    let mut address = SocketAddr::new(options.address, options.port);
    let count = if options.pattern == Pattern::Sharded { options.threads } else { 1 };
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = open_one(options, address).with_context(|| format!("cannot listen on {address}"))?;
        if let Some(local) = socket.local_addr().context("getsockname")?.as_socket() {
            // The other shards use the first one's port, also if the kernel chose it.
            address.set_port(local.port());
        }
        sockets.push(Arc::new(OwnedFd::from(socket)));
    }
    Ok(Listeners { sockets, address })
}

/// One more listener on the same address and port.
///
/// # Errors
/// The kernel refuses it.
pub fn another(options: &Options, address: SocketAddr) -> anyhow::Result<Arc<OwnedFd>> {
    let socket = open_one(options, address).with_context(|| format!("cannot listen on {address}"))?;
    Ok(Arc::new(OwnedFd::from(socket)))
}

fn open_one(options: &Options, address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.pattern == Pattern::Sharded)?;
    if options.v6_only {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(!options.pattern.accept_blocks())?;
    // Accepted connections inherit these.
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(seconds) = options.defer_accept {
        set_number(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)?;
    }
    if let Some(queue) = options.fast_open {
        set_number(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(options.backlog)?;
    Ok(socket)
}
