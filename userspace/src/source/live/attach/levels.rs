//! Changing the level while the probes run: hooks that it does not need are detached, those that it needs attached.
//! Their programs stay loaded, because the right to load any is gone by then.

use super::{
    Attached, Outcome, Programs, Trial,
    events::{Definition, Hook, Level},
    refusal::{Failure, Refusal},
};

/// The outcome for an event of a higher level.
pub(super) fn left_out(definition: &'static Definition) -> Outcome {
    let failure = Failure { level: Some(definition.level), ..Failure::default() };
    Outcome { definition, method: None, hooks: Vec::new(), failure: Some(failure) }
}

impl Attached {
    /// Why raising the level from one to another brings nothing: no program of what it adds could be loaded. `None` if
    /// something would come.
    pub(crate) fn brings_nothing(&self, (from, to): (Level, Level)) -> Option<Failure> {
        let added =
            || self.outcomes.iter().map(|outcome| outcome.definition).filter(|d| d.level > from && d.level <= to);
        let ready = |definition: &Definition| self.ready.iter().find(|ready| ready.event == definition.event);
        let comes = added().any(|d| ready(d).is_some_and(|ready| ready.method.is_some()));
        let first = || added().find_map(|definition| ready(definition)?.failure.clone());
        if comes { None } else { Some(first().unwrap_or_default()) }
    }

    /// The hooks that a higher level would attach.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &'static Hook> {
        let left_out =
            self.outcomes.iter().filter(|outcome| outcome.failure.as_ref().is_some_and(|f| f.level.is_some()));
        left_out.flat_map(|outcome| {
            let ready = self.ready.iter().find(|ready| ready.event == outcome.definition.event);
            let method = ready.and_then(|ready| ready.method).map(|at| &outcome.definition.methods[at]);
            method.into_iter().flat_map(|method| method.hooks)
        })
    }

    /// Detaches what a lower level does not need.
    pub(crate) fn lower(&mut self, programs: &mut impl Programs, level: Level) {
        for outcome in self.outcomes.iter_mut().filter(|outcome| outcome.definition.level > level) {
            outcome.hooks.iter().for_each(|hook| programs.detach(hook));
            *outcome = left_out(outcome.definition);
        }
    }

    /// Attaches what a higher level needs, in the order of the start. An event whose hooks are refused stays without,
    /// as at a start.
    ///
    /// # Errors
    /// If a right is missing: then nothing has changed.
    pub(crate) fn raise(&mut self, programs: &mut impl Programs, level: Level) -> Result<(), Refusal> {
        let mut brought = Vec::new();
        for (at, outcome) in self.outcomes.iter().enumerate() {
            let definition = outcome.definition;
            let is_left_out = outcome.failure.as_ref().is_some_and(|failure| failure.level.is_some());
            let Some(ready) = self.ready.iter().find(|ready| ready.event == definition.event) else { continue };
            if !is_left_out || definition.level > level {
                continue;
            }
            let outcome = match ready.method {
                None => Outcome { definition, method: None, hooks: Vec::new(), failure: ready.failure.clone() },
                Some(method) => match bring(programs, definition, method, &mut self.trials) {
                    Ok(outcome) => outcome,
                    Err(refusal) => {
                        let hooks = brought.iter().flat_map(|(_, outcome): &(usize, Outcome)| &outcome.hooks);
                        hooks.for_each(|hook| programs.detach(hook));
                        return Err(refusal);
                    }
                },
            };
            brought.push((at, outcome));
        }
        for (at, outcome) in brought {
            self.outcomes[at] = outcome;
        }
        Ok(())
    }
}

/// Attaches the hooks of a method, or none of them.
///
/// # Errors
/// If a right is missing.
fn bring(
    programs: &mut impl Programs,
    definition: &'static Definition,
    index: usize,
    trials: &mut Vec<Trial>,
) -> Result<Outcome, Refusal> {
    let method = &definition.methods[index];
    let mut hooks: Vec<&'static Hook> = Vec::new();
    for hook in method.hooks {
        // A hook that was refused before, and that the method works without, stays away.
        let is_same = |trial: &&Trial| {
            (trial.event, trial.program, trial.target) == (definition.event, hook.program, hook.target)
        };
        let before = trials.iter().rev().find(is_same).map(|trial| trial.outcome.is_ok());
        if !programs.is_loaded(hook) || before == Some(false) {
            continue;
        }
        let outcome = programs.attach(hook);
        if before.is_none() && (outcome.is_ok() || hook.loss().is_some()) {
            let (event, kind, outcome) = (definition.event, method.kind, outcome.clone());
            let (program, target, measures) = (hook.program, hook.target, definition.carries);
            trials.push(Trial { event, method: index, program, target, kind, outcome, measures });
        }
        match outcome {
            Ok(()) => hooks.push(hook),
            Err(_) if hook.loss().is_some() => {}
            Err(refusal) => {
                hooks.iter().for_each(|hook| programs.detach(hook));
                if matches!(refusal, Refusal::NotPermitted(_)) {
                    return Err(refusal);
                }
                let failure = Failure { refusals: vec![(hook.target, refusal)], ..Failure::default() };
                return Ok(Outcome { definition, method: None, hooks: Vec::new(), failure: Some(failure) });
            }
        }
    }
    Ok(Outcome { definition, method: Some(method), hooks, failure: None })
}
