//! One thread accepts with a blocking call; a new thread serves each connection.

use super::accept_blocking;
use crate::counters::{Role, Slot, add};
use crate::server::Running;
use crate::server::connection::serve_alone;
use crate::server::service::{Client, Service};
use crate::sys::set_thread_name;
use anyhow::Context;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The number of connection threads that are alive.
#[derive(Default)]
struct Alive {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Alive {
    fn change(&self, by: i64) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.wrapping_add_signed(by);
        self.changed.notify_all();
    }

    fn wait_for_none(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Counts a connection thread while it lives; also one that panics.
struct Count(Arc<Alive>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.change(-1);
    }
}

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    let listener = Arc::clone(listener);
    running.threads.push(service.spawn(Role::Acceptor, None, move |service, slot| {
        let alive = Arc::new(Alive::default());
        let mut connections = 0;
        let result = accept_blocking(service, slot, &listener, &mut |client| {
            connections += 1;
            if serve(service, client, connections, &alive).is_err() {
                // No more threads can be started: the connection was closed, the next one may succeed.
                add(&slot.accept_failures, 1);
            }
            Ok(())
        });
        alive.wait_for_none();
        result
    })?);
    Ok(())
}

fn serve(service: &Arc<Service>, client: Client, number: u32, alive: &Arc<Alive>) -> anyhow::Result<()> {
    let slot: &'static Slot = service.board.register(Role::Connection, Some(number)).context("too many threads")?;
    alive.change(1);
    let count = Count(Arc::clone(alive));
    let service = Arc::clone(service);
    let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        slot.adopt();
        set_thread_name(&Role::Connection.thread_name(Some(number)));
        let mut buffer = vec![0; service.options.read_bytes as usize];
        serve_alone(&service, slot, client.as_fd(), &mut buffer);
        drop(client);
        slot.end();
        drop(count);
    });
    if thread.is_err() {
        slot.end();
    }
    thread.map(|_| ()).context("cannot start a thread")
}
