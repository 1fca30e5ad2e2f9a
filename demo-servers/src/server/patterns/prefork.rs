//! Several processes wait in a blocking accept call for the same listener. The kernel wakes one of them for each
//! connection; it serves that connection to its end before it accepts again (Apache prefork).

use super::accept_blocking;
use crate::counters::Role;
use crate::server::Running;
use crate::server::connection::serve_alone;
use crate::server::service::Service;
use crate::sys::set_thread_name;
use anyhow::Context;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    for number in 1..=service.options.threads {
        let slot = service.board.register(Role::Acceptor, Some(number)).context("too many processes")?;
        running.children.fork(service, slot, true, || {
            set_thread_name(&Role::Acceptor.thread_name(Some(number)));
            let mut buffer = vec![0; service.options.read_bytes as usize];
            accept_blocking(service, slot, listener, &mut |client| {
                serve_alone(service, slot, client.as_fd(), &mut buffer);
                Ok(())
            })
        })?;
    }
    Ok(())
}
