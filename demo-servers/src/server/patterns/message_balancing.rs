//! A dispatch thread accepts and reads. Each request goes through a queue to the next free worker, which writes the
//! answer.

use crate::counters::{Role, Slot, add};
use crate::protocol::Framing;
use crate::server::Running;
use crate::server::acceptor::{Acceptor, LISTENER};
use crate::server::connection::{Read, read_once, write_fully};
use crate::server::event_loop::{self, STOP};
use crate::server::queue::{CloseAtEnd, Queue};
use crate::server::service::{Client, Service};
use anyhow::Context;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Requests that were read and wait for a worker.
type Requests = Queue<Arc<Connection>>;

/// A connection. It is closed when the dispatcher and all workers have dropped it.
struct Connection {
    client: Client,
    /// Locked while a response is written: responses of one connection do not interleave.
    writing: Mutex<()>,
}

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    let queue = Arc::new(Requests::new());
    let at_end = CloseAtEnd(Arc::clone(&queue));
    for number in 1..=service.options.threads {
        let queue = Arc::clone(&queue);
        let worker = service.spawn(Role::Worker, Some(number), move |service, slot| {
            work(service, slot, &queue);
            Ok(())
        })?;
        running.threads.push(worker);
    }
    let listener = Arc::clone(listener);
    running
        .threads
        .push(service.spawn(Role::Dispatch, None, move |service, slot| dispatch(service, slot, &listener, &at_end.0))?);
    Ok(())
}

fn work(service: &Service, slot: &Slot, queue: &Requests) {
    while let Some(connection) = queue.pop() {
        service.work();
        let writing = connection.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // The dispatcher notices too if the client is gone.
        let _ = write_fully(service, slot, connection.client.as_fd());
        drop(writing);
    }
}

struct Reading {
    connection: Arc<Connection>,
    framing: Framing,
}

/// Connections by descriptor.
#[derive(Default)]
struct Table(Vec<Option<Reading>>);

impl Table {
    fn insert(&mut self, service: &Service, epoll: &Epoll, client: Client) -> anyhow::Result<()> {
        let index = client.as_fd().as_raw_fd() as usize;
        epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, index as u64)).context("epoll_ctl")?;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        let connection = Arc::new(Connection { client, writing: Mutex::new(()) });
        self.0[index] = Some(Reading { connection, framing: Framing::new(service.options.request_bytes) });
        Ok(())
    }

    /// Reads once. Drops a connection that has ended.
    fn read(
        &mut self,
        service: &Service,
        slot: &Slot,
        epoll: &Epoll,
        queue: &Requests,
        index: usize,
        buffer: &mut [u8],
    ) -> anyhow::Result<()> {
        let Some(reading) = &mut self.0[index] else { return Ok(()) };
        match read_once(service, slot, reading.connection.client.as_fd(), buffer) {
            Read::Bytes(bytes) => {
                for _ in 0..reading.framing.push(bytes) {
                    add(&slot.requests, 1);
                    queue.push(Arc::clone(&reading.connection));
                }
            }
            Read::Nothing => {}
            Read::End | Read::Broken => {
                // A worker may still hold the descriptor, so that closing it here would not remove it from the epoll.
                epoll.delete(&reading.connection.client).context("epoll_ctl")?;
                self.0[index] = None;
            }
        }
        Ok(())
    }
}

fn dispatch(
    service: &Arc<Service>,
    slot: &'static Slot,
    listener: &Arc<OwnedFd>,
    queue: &Arc<Requests>,
) -> anyhow::Result<()> {
    let epoll = event_loop::new_epoll(service)?;
    let mut acceptor = Acceptor::new(service, slot, listener, false)?;
    let mut table = Table::default();
    let mut buffer = vec![0; service.options.read_bytes as usize];
    let mut events = event_loop::event_buffer();
    acceptor.start(&epoll, &mut |client| table.insert(service, &epoll, client))?;
    while !service.stopping() {
        for event in event_loop::wait(&epoll, &mut events, acceptor.timeout())? {
            match event.data() {
                STOP => break,
                LISTENER => acceptor.ready(&epoll, &mut |client| table.insert(service, &epoll, client))?,
                index => table.read(service, slot, &epoll, queue, index as usize, &mut buffer)?,
            }
        }
        acceptor.resume_if_due(&epoll, &mut |client| table.insert(service, &epoll, client))?;
    }
    acceptor.finish()
}
