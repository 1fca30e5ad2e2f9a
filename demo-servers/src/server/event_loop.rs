//! The epoll loop of a thread that serves connections and, in some patterns, accepts them.

use super::acceptor::{Acceptor, LISTENER};
use super::connection::{Connection, Next};
use super::service::{Client, Service};
use crate::counters::Slot;
use anyhow::Context;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};

/// epoll token of the signal to stop.
pub(crate) const STOP: u64 = u64::MAX;
/// epoll token of the inbox.
const INBOX: u64 = u64::MAX - 2;

/// Number of events per epoll_wait.
const EVENTS: usize = 128;

/// Connections that one thread has accepted for another one, which reads them.
#[derive(Debug)]
pub(crate) struct Inbox {
    clients: Mutex<Vec<Client>>,
    wake: EventFd,
}

impl Inbox {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_value_and_flags(0, flags).context("cannot create an eventfd")?;
        Ok(Self { clients: Mutex::default(), wake })
    }

    /// Passes a connection to the reader.
    pub(crate) fn push(&self, client: Client) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        // It fails only if the counter is full, and then the reader wakes too.
        let _ = self.wake.write(1);
    }

    fn take(&self) -> Vec<Client> {
        // The counter is 0 if an earlier wake-up took all connections.
        let _ = self.wake.read();
        std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An epoll instance that watches the signal to stop. All threads have theirs before the first one accepts: later,
/// connections may use up all file descriptors.
pub(crate) fn new_epoll(service: &Service) -> anyhow::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot create an epoll instance")?;
    epoll.add(service.stop_fd(), EpollEvent::new(EpollFlags::EPOLLIN, STOP)).context("epoll_ctl")?;
    Ok(epoll)
}

/// Waits for events. Returns none if a signal interrupted.
pub(crate) fn wait<'a>(
    epoll: &Epoll,
    events: &'a mut [EpollEvent],
    timeout: EpollTimeout,
) -> anyhow::Result<&'a [EpollEvent]> {
    match epoll.wait(events, timeout) {
        Ok(count) => Ok(&events[..count]),
        Err(Errno::EINTR) => Ok(&[]),
        Err(error) => Err(error).context("epoll_wait"),
    }
}

/// Room for the events of one [`wait`].
pub(crate) fn event_buffer() -> Vec<EpollEvent> {
    vec![EpollEvent::empty(); EVENTS]
}

/// Connections by descriptor.
#[derive(Default)]
struct Table(Vec<Option<Connection>>);

impl Table {
    fn insert(&mut self, epoll: &Epoll, connection: Connection) -> anyhow::Result<()> {
        let index = connection.as_fd().as_raw_fd() as usize;
        epoll.add(&connection, EpollEvent::new(connection.watched(), index as u64)).context("epoll_ctl")?;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(connection);
        Ok(())
    }
}

/// Runs until the server ends. Accepts if there is an acceptor; takes connections from the inbox if there is one.
pub(crate) fn run(
    service: &Arc<Service>,
    slot: &Slot,
    epoll: &Epoll,
    mut acceptor: Option<Acceptor>,
    inbox: Option<&Inbox>,
) -> anyhow::Result<()> {
    if let Some(inbox) = inbox {
        epoll.add(&inbox.wake, EpollEvent::new(EpollFlags::EPOLLIN, INBOX)).context("epoll_ctl")?;
    }
    let mut table = Table::default();
    let mut buffer = vec![0; service.options.read_bytes as usize];
    let mut events = event_buffer();
    if let Some(acceptor) = &mut acceptor {
        acceptor.start(epoll, &mut |client| table.insert(epoll, Connection::new(client, service)))?;
    }
    while !service.stopping() {
        let timeout = acceptor.as_ref().map_or(EpollTimeout::NONE, Acceptor::timeout);
        for event in wait(epoll, &mut events, timeout)? {
            match event.data() {
                STOP => break,
                LISTENER => {
                    if let Some(acceptor) = &mut acceptor {
                        acceptor.ready(epoll, &mut |client| table.insert(epoll, Connection::new(client, service)))?;
                    }
                }
                INBOX => {
                    for client in inbox.map(Inbox::take).unwrap_or_default() {
                        table.insert(epoll, Connection::new(client, service))?;
                    }
                }
                index => {
                    let place = &mut table.0[index as usize];
                    let Some(connection) = place else { continue };
                    match connection.advance(service, slot, &mut buffer) {
                        Next::Close => *place = None,
                        Next::Wait(wanted) => {
                            if connection.watch(wanted) {
                                epoll.modify(&*connection, &mut EpollEvent::new(wanted, index)).context("epoll_ctl")?;
                            }
                        }
                    }
                }
            }
            if service.stopping() {
                break;
            }
        }
        if let Some(acceptor) = &mut acceptor {
            acceptor.resume_if_due(epoll, &mut |client| table.insert(epoll, Connection::new(client, service)))?;
        }
    }
    acceptor.map_or(Ok(()), |mut acceptor| acceptor.finish())
}
