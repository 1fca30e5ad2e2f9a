//! A file per pattern, which starts its threads or processes.

mod acceptor_readers;
mod message_balancing;
mod multi_acceptor;
mod prefork;
mod process_per_connection;
mod sharded;
mod single_thread;
mod thread_per_connection;
mod thread_pool;

use super::Running;
use super::acceptor::{Acceptor, PAUSE, accept_error, non_blocking};
use super::event_loop;
use super::listen::Listeners;
use super::options::{AcceptCall, Pattern};
use super::service::{Client, Service};
use crate::counters::{Role, Slot, add};
use crate::sys::now_ns;
use nix::sys::socket::{SockFlag, accept, accept4};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Starts the pattern that the options name.
pub(super) fn start(service: &Arc<Service>, listeners: &Listeners, running: &mut Running) -> anyhow::Result<()> {
    let listener = &listeners.sockets[0];
    match service.options.pattern {
        Pattern::SingleThread => single_thread::start(service, listener, running),
        Pattern::AcceptorReaders => acceptor_readers::start(service, listener, running),
        Pattern::MessageBalancing => message_balancing::start(service, listener, running),
        Pattern::MultiAcceptor => multi_acceptor::start(service, listener, running),
        Pattern::Sharded => sharded::start(service, &listeners.sockets, running),
        Pattern::ThreadPerConnection => thread_per_connection::start(service, listener, running),
        Pattern::ProcessPerConnection => process_per_connection::start(service, listener, running),
        Pattern::ThreadPool => thread_pool::start(service, listener, running),
        Pattern::Prefork => prefork::start(service, listener, running),
    }
}

/// Adds a shard with this number to a running server.
pub(super) fn add_shard(
    service: &Arc<Service>,
    listener: &Arc<OwnedFd>,
    number: u32,
    running: &mut Running,
) -> anyhow::Result<()> {
    sharded::start_one(service, listener, number, event_loop::new_epoll(service)?, running)
}

/// Adds a thread with this number that accepts from the listener of a running server, and reads and writes itself.
pub(super) fn add_acceptor(
    service: &Arc<Service>,
    listener: &Arc<OwnedFd>,
    number: u32,
    running: &mut Running,
) -> anyhow::Result<()> {
    let listener = Arc::clone(listener);
    let epoll = event_loop::new_epoll(service)?;
    running.threads.push(service.spawn(Role::Acceptor, Some(number), move |service, slot| {
        let acceptor = Acceptor::new(service, slot, &listener, true)?;
        event_loop::run(service, slot, &epoll, Some(acceptor), None)
    })?);
    Ok(())
}

/// Accepts with a blocking call and passes each connection to `sink`, until the server ends.
fn accept_blocking(
    service: &Arc<Service>,
    slot: &Slot,
    listener: &OwnedFd,
    sink: &mut dyn FnMut(Client) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    loop {
        service.sleep(Duration::from_micros(service.options.accept_delay_us));
        while let Some(until) = service.stalled_until().filter(|_| !service.stopping()) {
            service.sleep(Duration::from_nanos(until.saturating_sub(now_ns())));
        }
        if service.stopping() {
            return Ok(());
        }
        let accepted = match service.options.accept_call {
            AcceptCall::Accept => accept(listener).and_then(|fd| non_blocking(fd.as_fd()).map(|()| fd)),
            _ => accept4(listener, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC),
        };
        match accepted {
            Ok(fd) => {
                add(&slot.accepts, 1);
                let client = Client::new(fd, service);
                if !service.options.close_on_accept {
                    sink(client)?;
                }
            }
            // The listener was shut down to wake this thread.
            Err(_) if service.stopping() => return Ok(()),
            Err(error) => {
                add(&slot.accept_failures, 1);
                if !accept_error(error.into())? {
                    service.sleep(PAUSE);
                }
            }
        }
    }
}
