//! One process accepts with a blocking call; a new process serves each connection.

use super::accept_blocking;
use crate::counters::{Role, add};
use crate::server::Running;
use crate::server::connection::serve_alone;
use crate::server::service::Service;
use crate::sys::set_thread_name;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

pub(super) fn start(service: &Arc<Service>, listener: &Arc<OwnedFd>, running: &mut Running) -> anyhow::Result<()> {
    let listener = Arc::clone(listener);
    let children = Arc::clone(&running.children);
    running.threads.push(service.spawn(Role::Acceptor, None, move |service, slot| {
        let mut buffer = vec![0; service.options.read_bytes as usize];
        let mut connections = 0;
        let result = accept_blocking(service, slot, &listener, &mut |client| {
            connections += 1;
            let Some(child_slot) = service.board.register(Role::Connection, Some(connections)) else {
                add(&slot.accept_failures, 1);
                return Ok(());
            };
            let fd = client.into_fd();
            let listener = listener.as_raw_fd();
            let forked = children.fork(service, child_slot, false, || {
                set_thread_name(&Role::Connection.thread_name(Some(connections)));
                // SAFETY: this process has a copy of the descriptor that nothing in it uses any more, and it ends
                // without running destructors.
                unsafe { libc::close(listener) };
                serve_alone(service, child_slot, fd.as_fd(), &mut buffer);
                // SAFETY: as above. It is closed before that is counted, and not used again.
                unsafe { libc::close(fd.as_raw_fd()) };
                service.closed();
                Ok(())
            });
            if forked.is_err() {
                child_slot.end();
                drop(fd);
                service.closed();
                add(&slot.accept_failures, 1);
            }
            Ok(())
        });
        // Children die with the thread that forked them. It waits for them, so that their counters are complete.
        children.wait_for_all(service);
        result
    })?);
    Ok(())
}
