//! The lab that started this process, if one did: it asks for reports, and says how its lesson stands.
//!
//! docs/lab-control.md describes the messages.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Context as _;
use lab_control::{Connection, FromLab, Reader, Role, ToLab, Writer};
use listentop_model::model::Model;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::report;

/// A connection to the lab.
#[derive(Debug)]
pub struct Lab {
    writer: Arc<Mutex<Writer>>,
    messages: UnboundedReceiver<FromLab>,
}

impl Lab {
    /// Connects to the lab that the environment names, if it names one.
    ///
    /// # Errors
    /// The environment names a lab that does not answer.
    pub fn of_environment() -> anyhow::Result<Option<Self>> {
        let connection = Connection::of_environment(Role::Listentop).context("the lab's control socket")?;
        let Some(Connection { reader, writer }) = connection else { return Ok(None) };
        let (sender, messages) = unbounded_channel();
        // It ends with the connection, or with the process.
        thread::Builder::new().name("lab".to_owned()).spawn(move || receive(reader, &sender))?;
        Ok(Some(Self { writer: Arc::new(Mutex::new(writer)), messages }))
    }

    /// The next message. Never returns once the lab is gone: the lab ends this process, not its silence.
    pub async fn next(&mut self) -> FromLab {
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// Sends the report of a model, upon the request of this number. 0: without a request.
    ///
    /// # Errors
    /// The lab is gone or takes nothing.
    pub fn report(&self, number: u64, model: &Model) -> io::Result<()> {
        let report = serde_json::to_value(report::json(model))?;
        self.send(&ToLab::Report { number, report })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The lab is gone or takes nothing.
    pub fn send(&self, message: &ToLab) -> io::Result<()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).send(message)
    }
}

/// Passes messages on until the connection or the receiver is gone.
fn receive(mut reader: Reader, sender: &UnboundedSender<FromLab>) {
    while let Ok(Some(message)) = reader.receive() {
        if sender.send(message).is_err() {
            return;
        }
    }
}

/// The next message of a lab; never returns without one.
pub(crate) async fn next(lab: &mut Option<Lab>) -> FromLab {
    match lab {
        Some(lab) => lab.next().await,
        None => std::future::pending().await,
    }
}
