//! When acceptors are watched beside all else: while the dashboard's view is open, and, if the user allows that, while
//! a critical finding about waiting lasts.

use std::sync::Arc;

use listentop_model::{
    blame::Blame,
    findings::is_about_waiting,
    model::{ListenerModel, Model, Severity},
    sample::Sample,
};

use super::{filter::Filter, options::BlameOn};
#[cfg(feature = "blame")]
use crate::blame::{Acceptors, Blamer};
use crate::{dashboard::BlameWanted, source::Source};

/// Who watches acceptors; or why nobody can.
#[derive(Debug)]
pub(super) struct Blaming {
    #[cfg(feature = "blame")]
    blamer: Result<Blamer, String>,
    #[cfg(not(feature = "blame"))]
    blamer: Result<std::convert::Infallible, String>,
    /// Who accepts, as far as that is known.
    #[cfg(feature = "blame")]
    acceptors: Acceptors,
    on: BlameOn,
    /// What somebody looks at.
    wanted: BlameWanted,
}

impl Blaming {
    /// For commands that watch nobody.
    pub(super) fn none() -> Self {
        Self::with(Err("it was not asked for".to_owned()), BlameOn::Never)
    }

    /// Starts what watches acceptors, before rights are given up. It watches nobody yet.
    pub(super) fn start(source: &mut dyn Source, on: BlameOn) -> Self {
        let blamer = match on {
            BlameOn::Never => Err("it was turned off by --blame-on never".to_owned()),
            BlameOn::Open | BlameOn::Critical => blamer(source),
        };
        Self::with(blamer, on)
    }

    #[cfg(feature = "blame")]
    fn with(blamer: Result<Blamer, String>, on: BlameOn) -> Self {
        Self { blamer, acceptors: Acceptors::default(), on, wanted: BlameWanted::default() }
    }

    #[cfg(not(feature = "blame"))]
    fn with(blamer: Result<std::convert::Infallible, String>, on: BlameOn) -> Self {
        Self { blamer, on, wanted: BlameWanted::default() }
    }

    /// What somebody looks at has changed.
    pub(super) fn want(&mut self, wanted: BlameWanted) {
        self.wanted = wanted;
    }

    /// Watches whom it has to, by the model before this sample, and adds to the sample what is known.
    pub(super) fn add_to(&mut self, sample: &mut Sample, model: &Model, filter: &Filter) {
        let mut listeners = self.wanted.listeners.clone();
        if self.on == BlameOn::Critical {
            let critical = model.listeners.iter().filter(|listener| waits_critically(listener));
            listeners.extend(critical.filter(|listener| filter.passes(listener)).map(|listener| listener.id));
        }
        listeners.sort_unstable();
        listeners.dedup();
        sample.blame = if listeners.is_empty() {
            self.stop();
            None
        } else {
            Some(self.watch(model, &listeners))
        };
    }

    #[cfg(feature = "blame")]
    fn stop(&mut self) {
        if let Ok(blamer) = &mut self.blamer {
            blamer.stop();
        }
    }

    #[cfg(not(feature = "blame"))]
    fn stop(&mut self) {}

    fn watch(&mut self, model: &Model, listeners: &[u64]) -> Arc<Blame> {
        match &mut self.blamer {
            #[cfg(feature = "blame")]
            Ok(blamer) => blamer.watch(self.acceptors.subjects(model, Some(listeners)), self.wanted.anew),
            #[cfg(not(feature = "blame"))]
            Ok(never) => {
                let _ = (model, listeners);
                match *never {}
            }
            Err(reason) => Arc::new(Blame { unavailable: Some(reason.clone()), ..Blame::default() }),
        }
    }
}

/// Whether connections wait for it so that a finding is critical now.
fn waits_critically(listener: &ListenerModel) -> bool {
    let now = listener.findings.iter().filter(|finding| finding.until_unix_ms.is_none());
    now.into_iter().any(|finding| finding.severity == Severity::Critical && is_about_waiting(finding.id))
}

#[cfg(feature = "blame")]
fn blamer(source: &mut dyn Source) -> Result<Blamer, String> {
    let apart = source.blame_apart()?;
    Blamer::start(apart).map_err(|error| format!("no thread can be started: {error}"))
}

#[cfg(not(feature = "blame"))]
fn blamer(_: &mut dyn Source) -> Result<std::convert::Infallible, String> {
    Err("this build has no blame: 'cargo xtask build' makes one that has (feature blame)".to_owned())
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;

    fn listening(on: BlameOn) -> (Blaming, Sample, Model) {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let blamer = Err("here it is a test".to_owned());
        (Blaming::with(blamer, on), samples[0].clone(), tracker.model().clone())
    }

    /// Whether somebody is watched then.
    fn is_on(blaming: &mut Blaming, sample: &mut Sample, model: &Model) -> bool {
        blaming.add_to(sample, model, &Filter::default());
        let reason = sample.blame.as_ref().map(|blame| blame.unavailable.clone());
        assert!(reason.is_none() || reason == Some(Some("here it is a test".to_owned())));
        reason.is_some()
    }

    #[test]
    fn it_is_on_while_somebody_looks_or_a_critical_finding_lasts() {
        for (on, by_itself) in [(BlameOn::Open, false), (BlameOn::Critical, true)] {
            let (mut blaming, mut sample, critical) = listening(on);
            assert!(critical.listeners.iter().any(waits_critically));
            assert_eq!(is_on(&mut blaming, &mut sample, &critical), by_itself);
            let mut quiet = critical.clone();
            quiet.listeners.iter_mut().for_each(|listener| listener.findings.clear());
            assert!(!is_on(&mut blaming, &mut sample, &quiet), "{on:?}");
            blaming.want(BlameWanted { listeners: vec![21], anew: 0 });
            assert!(is_on(&mut blaming, &mut sample, &quiet), "{on:?}");
            blaming.want(BlameWanted::default());
            assert!(!is_on(&mut blaming, &mut sample, &quiet), "{on:?}");
        }
    }

    #[test]
    fn what_has_passed_is_no_reason() {
        let (mut blaming, mut sample, mut model) = listening(BlameOn::Critical);
        model
            .listeners
            .iter_mut()
            .flat_map(|listener| &mut listener.findings)
            .for_each(|it| it.until_unix_ms = Some(1));
        assert!(!is_on(&mut blaming, &mut sample, &model));
    }
}
