//! The lab that started this process, if one did: it asks for reports, and says how its lesson stands.
//!
//! docs/lab-control.md describes the messages.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Context as _;
use lab_control::{Act, Connection, FromLab, Reader, Role, ToLab, Writer};
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

/// The dashboard's side: it answers a request with the second model after it. The first may have been sampled before.
#[derive(Debug)]
pub(crate) struct Dashboard {
    lab: Option<Lab>,
    /// The number of the last request, and how many models are to come before the answer.
    asked: Option<(u64, u8)>,
    /// The last model that was measured; what is shown may be of the past.
    last: Option<Arc<Model>>,
}

impl Dashboard {
    /// Of this lab; without one nothing ever comes.
    pub(crate) fn of(lab: Option<Lab>) -> Self {
        Self { lab, asked: None, last: None }
    }

    /// The next message that concerns the screen.
    pub(crate) async fn next(&mut self) -> FromLab {
        loop {
            match next(&mut self.lab).await {
                FromLab::Report { number } => self.asked = Some((number, 1)),
                message => return message,
            }
        }
    }

    /// A new model is there.
    pub(crate) fn sampled(&mut self, model: &Arc<Model>) {
        if self.lab.is_some() {
            self.last = Some(model.clone());
        }
        match self.asked {
            None => {}
            Some((number, 0)) => {
                self.asked = None;
                self.report(number, model);
            }
            Some((number, left)) => self.asked = Some((number, left - 1)),
        }
    }

    /// Sends the report of what was measured last, unasked.
    pub(crate) fn report_last(&self) {
        if let Some(model) = &self.last {
            self.report(0, model);
        }
    }

    /// Sends a report. A lab that takes none ends this process anyway.
    pub(crate) fn report(&self, number: u64, model: &Model) {
        if let Some(lab) = &self.lab {
            let _ = lab.report(number, model);
        }
    }

    /// Asks for something; what becomes of it is in the next state.
    pub(crate) fn act(&self, act: Act) {
        if let Some(lab) = &self.lab {
            let _ = lab.send(&ToLab::Act(act));
        }
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_with_the_second_model_after_it() {
        let name = format!("listentop-lab-test-{}", std::process::id());
        let listener = lab_control::listen(&name).expect("nobody has this name");
        let side = thread::spawn(move || {
            let mut lab = Connection::of(listener.accept().expect("it connects").0).expect("a socket");
            assert!(matches!(lab.reader.receive(), Ok(Some(ToLab::Hello { role: Role::Listentop, .. }))));
            let send = |lab: &mut Connection, message: &FromLab| lab.writer.send(message).expect("it reads");
            send(&mut lab, &FromLab::Welcome { version: lab_control::VERSION, lesson: "x".to_owned() });
            send(&mut lab, &FromLab::Report { number: 7 });
            send(&mut lab, &FromLab::State(Box::default()));
            let answers: Vec<ToLab> = std::iter::from_fn(|| lab.reader.receive().ok().flatten()).collect();
            answers
        });
        let Connection { reader, writer } = Connection::to(&name, Role::Listentop, "").expect("it is there");
        let (sender, messages) = unbounded_channel();
        thread::spawn(move || receive(reader, &sender));
        let mut dashboard = Dashboard::of(Some(Lab { writer: Arc::new(Mutex::new(writer)), messages }));
        assert!(matches!(dashboard.next().await, FromLab::State(_)), "the request is not the screen's");
        let model = Arc::new(Tracker::new(&fixtures::quiet()[0]).model().clone());
        dashboard.sampled(&model);
        dashboard.sampled(&model);
        dashboard.sampled(&model);
        dashboard.act(Act::NextStep);
        if let Some(lab) = &dashboard.lab {
            lab.writer.lock().expect("nobody panicked").close();
        }
        let answers = side.join().expect("it does not panic");
        let numbers: Vec<u64> = answers
            .iter()
            .filter_map(|answer| if let ToLab::Report { number, .. } = answer { Some(*number) } else { None })
            .collect();
        assert_eq!((numbers, answers.last()), (vec![7], Some(&ToLab::Act(Act::NextStep))));
    }
}
