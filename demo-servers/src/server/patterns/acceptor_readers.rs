//! One thread accepts and hands each connection to one of several readers in turn, through an inbox and an eventfd.

use crate::counters::{Role, Slot};
use crate::server::Running;
use crate::server::acceptor::{Acceptor, LISTENER};
use crate::server::event_loop::{self, Inbox};
use crate::server::service::{Client, Service};
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    let mut inboxes = Vec::new();
    for number in 1..=service.options.threads {
        let inbox = Arc::new(Inbox::new()?);
        inboxes.push(Arc::clone(&inbox));
        let epoll = event_loop::new_epoll(service)?;
        running.threads.push(service.spawn(Role::Reader, Some(number), move |service, slot| {
            event_loop::run(service, slot, &epoll, None, Some(&inbox))
        })?);
    }
    let listener = Arc::clone(listener);
    running
        .threads
        .push(service.spawn(Role::Acceptor, None, move |service, slot| accept(service, slot, &listener, &inboxes))?);
    Ok(())
}

fn accept(
    service: &Arc<Service>,
    slot: &'static Slot,
    listener: &Arc<OwnedFd>,
    inboxes: &[Arc<Inbox>],
) -> anyhow::Result<()> {
    let epoll = event_loop::new_epoll(service)?;
    let mut acceptor = Acceptor::new(service, slot, listener, false)?.hanging_in_stalls();
    let mut next = 0;
    let mut hand_over = |client: Client| {
        inboxes[next].push(client);
        next = (next + 1) % inboxes.len();
        Ok(())
    };
    acceptor.start(&epoll, &mut hand_over)?;
    let mut events = event_loop::event_buffer();
    while !service.stopping() {
        for event in event_loop::wait(&epoll, &mut events, acceptor.timeout())? {
            if event.data() == LISTENER {
                acceptor.ready(&epoll, &mut hand_over)?;
            }
        }
        acceptor.resume_if_due(&epoll, &mut hand_over)?;
    }
    acceptor.finish()
}
