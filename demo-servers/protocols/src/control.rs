//! What a lab orders of a running server: to stall, to go on, another backlog, one more acceptor.

use anyhow::{Context, bail};
use lab_control::{Connection, FromLab, Order, Role, ToLab};
use nix::sys::socket::{Backlog, listen};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Starts one more acceptor.
pub(crate) type Another = Box<dyn FnMut() -> anyhow::Result<()> + Send>;

/// A server as a lab sees it.
pub(crate) struct Control {
    stalled: watch::Sender<bool>,
    /// Copies of its listeners: listen(2) works on each.
    listeners: Mutex<Vec<TcpListener>>,
    another: Mutex<Option<Another>>,
}

impl Control {
    pub(crate) fn new() -> Arc<Self> {
        let (stalled, _) = watch::channel(false);
        Arc::new(Self { stalled, listeners: Mutex::default(), another: Mutex::default() })
    }

    /// Whether nothing is to be accepted now.
    pub(crate) fn stalled(&self) -> watch::Receiver<bool> {
        self.stalled.subscribe()
    }

    /// Has one more listener.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn listens(&self, listener: &TcpListener) -> anyhow::Result<()> {
        let copy = listener.try_clone().context("no descriptor for a copy of the listener")?;
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        Ok(())
    }

    /// Can have one more acceptor, by this.
    pub(crate) fn grows_by(&self, another: Another) {
        *self.another.lock().unwrap_or_else(PoisonError::into_inner) = Some(another);
    }

    /// Follows the orders of the lab that the environment names, if it names one, in a thread of its own. It ends with
    /// the lab, or with this process.
    ///
    /// # Errors
    /// There is a lab, and it cannot be reached.
    pub(crate) fn follow(self: &Arc<Self>) -> anyhow::Result<()> {
        let Some(mut lab) = Connection::of_environment(Role::Server).context("the lab's control socket")? else {
            return Ok(());
        };
        let control = Arc::clone(self);
        let follow = move || {
            while let Ok(Some(message)) = lab.reader.receive() {
                let FromLab::Order { number, order } = message else { continue };
                let error = control.carry_out(&order).err().map(|error| format!("{error:#}"));
                if lab.writer.send(&ToLab::Done { number, error }).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("lab".to_owned()).spawn(follow).context("cannot start a thread")?;
        Ok(())
    }

    fn carry_out(&self, order: &Order) -> anyhow::Result<()> {
        match order {
            Order::Stall => _ = self.stalled.send_replace(true),
            Order::Release => _ = self.stalled.send_replace(false),
            Order::Backlog { backlog } => {
                let backlog = i32::try_from(*backlog).ok().and_then(|backlog| Backlog::new(backlog).ok());
                let backlog = backlog.context("the kernel knows no such backlog")?;
                for listener in &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
                    listen(listener, backlog).context("listen")?;
                }
            }
            Order::AddAcceptor => match &mut *self.another.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(another) => another()?,
                None => bail!("the number of its threads is fixed when it starts"),
            },
            Order::Rate { .. } => bail!("a server has no rate"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_cannot_be_done_is_refused_with_the_reason() {
        let control = Control::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        control.listens(&listener).unwrap();
        let mut stalled = control.stalled();
        control.carry_out(&Order::Stall).unwrap();
        assert!(*stalled.borrow_and_update());
        control.carry_out(&Order::Release).unwrap();
        assert!(!*stalled.borrow_and_update());
        let address = listener.local_addr().unwrap();
        let connects = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300));
        control.carry_out(&Order::Backlog { backlog: 0 }).unwrap();
        let first = connects().expect("one fits");
        assert!(connects().is_err(), "the queue is full");
        control.carry_out(&Order::Backlog { backlog: 3 }).unwrap();
        connects().expect("more fit now");
        drop(first);
        let refused = |order: Order| control.carry_out(&order).unwrap_err().to_string();
        assert!(refused(Order::Backlog { backlog: u32::MAX }).contains("no such backlog"));
        assert!(refused(Order::AddAcceptor).contains("fixed when it starts"));
        assert!(refused(Order::Rate { percent: 50 }).contains("no rate"));
        control.grows_by(Box::new(|| Ok(())));
        control.carry_out(&Order::AddAcceptor).unwrap();
    }
}
