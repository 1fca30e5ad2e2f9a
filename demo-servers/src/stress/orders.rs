//! What others ask of a running load: signals, and orders of the lab.

use super::engine::Engine;
use crate::sys::print_json;
use anyhow::Context;
use lab_control::{FromLab, Order, ToLab};
use nix::sys::signal::Signal;
use std::os::fd::AsFd;

impl Engine<'_> {
    /// SIGUSR1 asks for the results so far; all other signals end the load.
    pub(super) fn signalled(&mut self) -> anyhow::Result<()> {
        while let Some(signal) = self.signals.read_signal().context("signalfd")? {
            if signal.ssi_signo == Signal::SIGUSR1 as u32 {
                print_json(&self.results())?;
            } else {
                self.ended = true;
            }
        }
        Ok(())
    }

    /// Carries out what the lab orders.
    pub(super) fn ordered(&mut self) -> anyhow::Result<()> {
        while let Some(lab) = &mut self.lab {
            let answer = match lab.reader.receive() {
                Ok(Some(FromLab::Order { number, order: Order::Rate { .. } })) if self.options.closed.is_some() => {
                    let error = Some("a closed loop has no rate: its users wait for the server".to_owned());
                    Some(ToLab::Done { number, error })
                }
                Ok(Some(FromLab::Order { number, order: Order::Rate { percent } })) if percent > 0 => {
                    self.schedule.go_on_at(f64::from(percent) / 100.0);
                    Some(ToLab::Done { number, error: None })
                }
                Ok(Some(FromLab::Order { number, .. })) => {
                    Some(ToLab::Done { number, error: Some("a load has nothing but a rate".to_owned()) })
                }
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => {
                    self.epoll.delete(lab.reader.as_fd()).context("epoll_ctl")?;
                    self.lab = None;
                    return Ok(());
                }
            };
            // Without a reader of the answer the next message fails too.
            let _ = answer.map(|answer| lab.writer.send(&answer));
            if !lab.reader.has_more() {
                break;
            }
        }
        Ok(())
    }
}
