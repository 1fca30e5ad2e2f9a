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
use listentop_model::{
    coverage::Coverage,
    model::Model,
    sample::{MarkSample, Sample},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    report,
    source::{
        Source,
        live::{Level, Levels},
    },
};

/// A connection to the lab.
#[derive(Debug)]
pub struct Lab {
    writer: Arc<Mutex<Writer>>,
    messages: UnboundedReceiver<FromLab>,
    marks: Marks,
}

/// What the lab did, until a sample takes it.
#[derive(Debug, Clone, Default)]
pub struct Marks(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    marks: Vec<MarkSample>,
    /// The time of the last one that came.
    last_ns: u64,
}

impl Marks {
    /// Takes those of a state that are new.
    fn note(&self, state: &lab_control::State) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for mark in &state.marks {
            if mark.monotonic_ns > waiting.last_ns {
                let lab_control::Mark { monotonic_ns, what, netns, port } = mark.clone();
                waiting.last_ns = monotonic_ns;
                waiting.marks.push(MarkSample { monotonic_ns, what, netns, port });
            }
        }
    }

    fn take(&self) -> Vec<MarkSample> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).marks)
    }
}

/// A source whose samples have what the lab did.
struct Marked {
    source: Box<dyn Source>,
    marks: Marks,
}

impl Source for Marked {
    fn sample(&mut self) -> io::Result<Sample> {
        // First those that are there: what is done during the reading belongs to the next one.
        let marks = self.marks.take();
        let mut sample = self.source.sample()?;
        sample.marks.splice(..0, marks);
        sample.marks.sort_by_key(|mark| mark.monotonic_ns);
        Ok(sample)
    }

    fn coverage(&self) -> &[Coverage] {
        self.source.coverage()
    }

    fn list_connections(&mut self, per_listener: u32) {
        self.source.list_connections(per_listener);
    }

    fn name(&self) -> &str {
        self.source.name()
    }

    fn blame_apart(&mut self) -> Result<crate::source::live::blame::Apart, String> {
        self.source.blame_apart()
    }

    fn levels(&mut self) -> Option<Levels> {
        self.source.levels()
    }

    fn set_level(&mut self, level: Level) -> Result<(), String> {
        self.source.set_level(level)
    }

    fn blame(&mut self) -> Result<crate::source::live::blame::Watching<'_>, String> {
        self.source.blame()
    }
}

/// The source, with what a lab did in its samples; without a lab as it is.
pub(crate) fn marked(source: Box<dyn Source>, marks: Option<Marks>) -> Box<dyn Source> {
    match marks {
        Some(marks) => Box::new(Marked { source, marks }),
        None => source,
    }
}

impl Lab {
    /// Connects to the lab that the environment names, if it names one.
    ///
    /// # Errors
    /// The environment names a lab that does not answer.
    pub fn of_environment() -> anyhow::Result<Option<Self>> {
        let Some(Connection { reader, writer }) = connect(Role::Listentop)? else { return Ok(None) };
        let (sender, messages) = unbounded_channel();
        let marks = Marks::default();
        let noted = marks.clone();
        // It ends with the connection, or with the process.
        thread::Builder::new().name("lab".to_owned()).spawn(move || receive(reader, Some(&sender), &noted))?;
        Ok(Some(Self { writer: Arc::new(Mutex::new(writer)), messages, marks }))
    }

    /// What it does, for the samples.
    pub(crate) fn marks(&self) -> Marks {
        self.marks.clone()
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

/// What the lab that the environment names does from now on, if it names one; for whoever only watches.
///
/// # Errors
/// The environment names a lab that does not answer.
pub(crate) fn watch() -> anyhow::Result<Option<Marks>> {
    let Some(Connection { reader, .. }) = connect(Role::Observer)? else { return Ok(None) };
    let marks = Marks::default();
    let noted = marks.clone();
    thread::Builder::new().name("lab".to_owned()).spawn(move || receive(reader, None, &noted))?;
    Ok(Some(marks))
}

fn connect(role: Role) -> anyhow::Result<Option<Connection>> {
    Connection::of_environment(role).context("the lab's control socket")
}

/// Notes marks, and passes messages on, until the connection or the receiver is gone.
fn receive(mut reader: Reader, sender: Option<&UnboundedSender<FromLab>>, marks: &Marks) {
    while let Ok(Some(message)) = reader.receive() {
        if let FromLab::State(state) = &message {
            marks.note(state);
        }
        if sender.is_some_and(|sender| sender.send(message).is_err()) {
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

    struct Still;

    impl Source for Still {
        fn sample(&mut self) -> io::Result<Sample> {
            Ok(fixtures::quiet().remove(0))
        }

        fn coverage(&self) -> &[Coverage] {
            &[]
        }

        fn name(&self) -> &'static str {
            "still"
        }
    }

    #[test]
    fn a_sample_has_what_was_done_since_the_one_before() {
        let mark = |monotonic_ns, what: &str| lab_control::Mark {
            monotonic_ns,
            what: what.to_owned(),
            netns: 7,
            port: Some(7001),
        };
        let marks = Marks::default();
        let mut source = Marked { source: Box::new(Still), marks: marks.clone() };
        let mut state = lab_control::State { marks: vec![mark(5, "stall"), mark(6, "release")], ..Default::default() };
        let mut next = |marks: &Marks, state: &lab_control::State| {
            // Each state has all marks again.
            marks.note(state);
            marks.note(state);
            source.sample().expect("it does not fail").marks.into_iter().map(|mark| mark.what).collect::<Vec<_>>()
        };
        assert_eq!(next(&marks, &state), ["stall", "release"]);
        assert_eq!(next(&marks, &state), [""; 0]);
        state.marks.push(mark(9, "backlog 4"));
        assert_eq!(next(&marks, &state), ["backlog 4"]);
    }

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
        let marks = Marks::default();
        let noted = marks.clone();
        thread::spawn(move || receive(reader, Some(&sender), &noted));
        let mut dashboard = Dashboard::of(Some(Lab { writer: Arc::new(Mutex::new(writer)), messages, marks }));
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
