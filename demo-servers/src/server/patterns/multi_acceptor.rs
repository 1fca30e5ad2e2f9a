//! Several threads or processes wait for the same listener, each in an epoll instance of its own, and serve what they
//! accept.

use crate::counters::{Role, Slot};
use crate::server::Running;
use crate::server::acceptor::Acceptor;
use crate::server::event_loop;
use crate::server::service::Service;
use crate::sys::set_thread_name;
use anyhow::Context;
use nix::sys::epoll::Epoll;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    if service.options.processes {
        for number in 1..=service.options.threads {
            let slot = service.board.register(Role::Acceptor, Some(number)).context("too many processes")?;
            running.children.fork(service, slot, true, || {
                set_thread_name(&Role::Acceptor.thread_name(Some(number)));
                serve(service, slot, listener, &event_loop::new_epoll(service)?)
            })?;
        }
        return Ok(());
    }
    let epolls: Vec<Epoll> =
        (0..service.options.threads).map(|_| event_loop::new_epoll(service)).collect::<anyhow::Result<_>>()?;
    for (number, epoll) in (1..).zip(epolls) {
        let listener = Arc::clone(listener);
        running.threads.push(
            service
                .spawn(Role::Acceptor, Some(number), move |service, slot| serve(service, slot, &listener, &epoll))?,
        );
    }
    Ok(())
}

fn serve(service: &Arc<Service>, slot: &'static Slot, listener: &Arc<OwnedFd>, epoll: &Epoll) -> anyhow::Result<()> {
    let acceptor = Acceptor::new(service, slot, listener, !service.options.no_exclusive)?;
    event_loop::run(service, slot, epoll, Some(acceptor), None)
}
