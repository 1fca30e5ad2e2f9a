//! One thread accepts every connection at once and puts it into a queue inside the process. Each of a few workers takes
//! the next connection and serves it to its end (Tomcat, Puma).

use super::accept_blocking;
use crate::counters::Role;
use crate::server::Running;
use crate::server::connection::serve_alone;
use crate::server::queue::{CloseAtEnd, Queue};
use crate::server::service::{Client, Service};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    let queue = Arc::new(Queue::<Client>::new());
    let at_end = CloseAtEnd(Arc::clone(&queue));
    for number in 1..=service.options.threads {
        let queue = Arc::clone(&queue);
        running.threads.push(service.spawn(Role::Worker, Some(number), move |service, slot| {
            let mut buffer = vec![0; service.options.read_bytes as usize];
            while let Some(client) = queue.pop() {
                serve_alone(service, slot, client.as_fd(), &mut buffer);
            }
            Ok(())
        })?);
    }
    let listener = Arc::clone(listener);
    running.threads.push(service.spawn(Role::Acceptor, None, move |service, slot| {
        accept_blocking(service, slot, &listener, &mut |client| {
            at_end.0.push(client);
            Ok(())
        })
    })?);
    Ok(())
}
