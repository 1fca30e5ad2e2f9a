//! Each thread has a listener of its own. SO_REUSEPORT spreads connections over them by a hash of their addresses.

use crate::counters::Role;
use crate::server::Running;
use crate::server::acceptor::Acceptor;
use crate::server::event_loop;
use crate::server::service::Service;
use nix::sys::epoll::Epoll;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) fn start(service: &Arc<Service>, listeners: &[Arc<OwnedFd>], running: &mut Running) -> anyhow::Result<()> {
    let epolls: Vec<Epoll> = listeners.iter().map(|_| event_loop::new_epoll(service)).collect::<anyhow::Result<_>>()?;
    for ((number, listener), epoll) in (1..).zip(listeners).zip(epolls) {
        start_one(service, listener, number, epoll, running)?;
    }
    Ok(())
}

/// Starts the thread of one shard.
pub(super) fn start_one(
    service: &Arc<Service>,
    listener: &Arc<OwnedFd>,
    number: u32,
    epoll: Epoll,
    running: &mut Running,
) -> anyhow::Result<()> {
    let listener = Arc::clone(listener);
    let dead = service.options.dead_shard.contains(&number);
    running.threads.push(service.spawn(Role::Shard, Some(number), move |service, slot| {
        if dead {
            service.wait_for(None, nix::poll::PollFlags::empty(), None);
            return Ok(());
        }
        let acceptor = Acceptor::new(service, slot, &listener, false)?;
        event_loop::run(service, slot, &epoll, Some(acceptor), None)
    })?);
    Ok(())
}
