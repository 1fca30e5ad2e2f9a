//! What a lab orders while the server runs.

use super::Running;
use super::listen::{self, Listeners};
use super::options::Pattern;
use super::patterns;
use super::service::Service;
use anyhow::{Context, bail};
use lab_control::{Connection, FromLab, Order, ToLab};
use nix::sys::socket::{Backlog, listen};
use std::sync::Arc;

/// Carries out the orders that have come, and answers each. Returns false if the lab is gone.
pub(super) fn follow(
    service: &Arc<Service>,
    listeners: &mut Listeners,
    running: &mut Running,
    lab: Option<&mut Connection>,
) -> bool {
    let Some(lab) = lab else { return false };
    loop {
        match lab.reader.receive() {
            Ok(Some(FromLab::Order { number, order })) => {
                let error = carry_out(service, listeners, running, &order).err().map(|error| format!("{error:#}"));
                if lab.writer.send(&ToLab::Done { number, error }).is_err() {
                    return false;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
        if !lab.reader.has_more() {
            return true;
        }
    }
}

fn carry_out(
    service: &Arc<Service>,
    listeners: &mut Listeners,
    running: &mut Running,
    order: &Order,
) -> anyhow::Result<()> {
    match order {
        Order::Stall => service.stall(),
        Order::Release => service.release(),
        Order::Backlog { backlog } => {
            let backlog = i32::try_from(*backlog).ok().and_then(|backlog| Backlog::new(backlog).ok());
            let backlog = backlog.context("the kernel knows no such backlog")?;
            for listener in &listeners.sockets {
                listen(listener, backlog).context("listen")?;
            }
        }
        Order::AddAcceptor => {
            if service.options.processes || service.options.pattern.accept_blocks() {
                bail!("{} cannot get another acceptor while it runs", service.options.pattern.name());
            }
            let number = listeners.sockets.len() as u32 + 1;
            if service.options.pattern == Pattern::Sharded {
                let shard = listen::another(&service.options, listeners.address)?;
                listeners.sockets.push(Arc::clone(&shard));
                patterns::add_shard(service, &shard, number, running)?;
            } else {
                let number = running.threads.len() as u32 + 1;
                patterns::add_acceptor(service, &listeners.sockets[0], number, running)?;
            }
        }
        Order::Rate { .. } => bail!("a server has no rate"),
    }
    Ok(())
}
