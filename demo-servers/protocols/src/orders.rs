//! What the lab orders of a running load: another rate.

use anyhow::Context;
use lab_control::{Connection, FromLab, Order, Role, ToLab};
use tokio::sync::watch;

/// The share of its own rate at which the load goes on, in percent, as the lab changes it. Without a lab it stays; a
/// closed loop has none.
///
/// # Errors
/// There is a lab, and it cannot be reached.
pub(crate) fn rate(closed: bool) -> anyhow::Result<watch::Receiver<u32>> {
    let (sender, receiver) = watch::channel(100);
    let Some(mut lab) = Connection::of_environment(Role::Load).context("the lab's control socket")? else {
        return Ok(receiver);
    };
    let follow = move || {
        // It ends with the lab, or with this process.
        while let Ok(Some(message)) = lab.reader.receive() {
            let FromLab::Order { number, order } = message else { continue };
            let error = match order {
                Order::Rate { .. } if closed => {
                    Some("a closed loop has no rate: its users wait for the server".to_owned())
                }
                Order::Rate { percent } if percent > 0 => {
                    sender.send_replace(percent);
                    None
                }
                _ => Some("a load has nothing but a rate".to_owned()),
            };
            // Without a reader of the answer the next message fails too.
            let _ = lab.writer.send(&ToLab::Done { number, error });
        }
    };
    std::thread::Builder::new().spawn(follow).context("cannot start a thread")?;
    Ok(receiver)
}
