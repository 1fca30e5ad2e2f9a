//! One thread accepts, reads and writes.

use crate::counters::Role;
use crate::server::Running;
use crate::server::acceptor::Acceptor;
use crate::server::event_loop;
use crate::server::service::Service;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    let listener = Arc::clone(listener);
    let epoll = event_loop::new_epoll(service)?;
    running.threads.push(service.spawn(Role::Single, None, move |service, slot| {
        let acceptor = Acceptor::new(service, slot, &listener, false)?;
        event_loop::run(service, slot, &epoll, Some(acceptor), None)
    })?);
    Ok(())
}
