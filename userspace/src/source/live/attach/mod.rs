//! Attaching: for each event the first of its methods that works here.

pub(crate) mod coverage;
pub(crate) mod declaration;
pub mod events;
mod fitting;
pub(crate) mod levels;
pub(crate) mod links;
pub(crate) mod offsets;
pub(crate) mod preload;
pub(crate) mod programs;
pub(crate) mod refusal;
pub(crate) mod signatures;
pub(crate) mod silence;
pub(crate) mod tracefs;

#[cfg(test)]
mod tests;

use listentop_abi::settings;
use listentop_model::coverage::Measure;

use events::{Definition, EVENTS, Event, Hook, Kind, Level, Method, Part, Requirement, Target};
use refusal::{Failure, Refusal};

use super::error::StartError;

/// One attempt to load and attach a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// What it was to bring.
    pub event: Event,
    /// Which of the event's methods it belongs to: a place in [`Definition::methods`].
    pub method: usize,
    /// Name of the program.
    pub program: &'static str,
    /// Where it was to go.
    pub target: Target,
    /// Which kind of probes it counts as; `None`: either.
    pub kind: Option<Kind>,
    /// Whether the kernel took it, or why not.
    pub outcome: Result<(), Refusal>,
    /// Measures that the event carries.
    pub measures: &'static [Measure],
}

/// The outcome for one event.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub definition: &'static Definition,
    /// The method in use; `None` if none works, or another event's hooks bring this one.
    pub method: Option<&'static Method>,
    /// The hooks of that method that are attached.
    pub hooks: Vec<&'static Hook>,
    /// Why nothing brings it.
    pub failure: Option<Failure>,
}

/// The outcome of attaching.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub outcomes: Vec<Outcome>,
    pub trials: Vec<Trial>,
    /// What is loaded of every event, where the level may change; empty where it stays.
    ready: Vec<Ready>,
}

/// What is loaded of an event. Its hooks come and go with the level.
#[derive(Debug)]
struct Ready {
    event: Event,
    /// Which of its methods; `None` if none could be loaded, or another event's hooks bring this one.
    method: Option<usize>,
    /// Why none could be loaded.
    failure: Option<Failure>,
}

impl Attached {
    fn outcome(&self, event: Event) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.definition.event == event)
    }

    /// What brings an event: its own method, or another event's that brings it too.
    pub(crate) fn source(&self, event: Event) -> Option<&Outcome> {
        let own = self.outcome(event)?;
        match (own.method, &own.failure) {
            (Some(_), _) => Some(own),
            (None, Some(_)) => None,
            (None, None) => {
                self.outcomes.iter().find(|other| other.method.is_some_and(|method| method.also == Some(event)))
            }
        }
    }

    /// The method by which an event is seen, unless another event's hooks bring it.
    pub(crate) fn method(&self, event: Event) -> Option<&'static Method> {
        self.outcome(event)?.method
    }

    /// Whether an event is seen by functions.
    pub(crate) fn is_by_function(&self, event: Event) -> bool {
        self.method(event).is_some_and(|method| method.kind == Some(Kind::Fentry))
    }

    /// Counts an event as one that nothing brings, because a hook of its method shows nothing: `target`, or else the
    /// hook that is attached last. Returns whether something brought it so far.
    pub(crate) fn silence(&mut self, event: Event, target: Option<Target>, refusal: Refusal) -> bool {
        let Some(source) = self.source(event) else { return false };
        let attached = |target: &Target| source.hooks.iter().any(|hook| hook.target == *target);
        let Some(target) = target.filter(attached).or_else(|| Some(source.hooks.last()?.target)) else { return false };
        let failure = Failure { refusals: vec![(target, refusal)], ..Failure::default() };
        let Some(outcome) = self.outcomes.iter_mut().find(|outcome| outcome.definition.event == event) else {
            return false;
        };
        (outcome.method, outcome.failure) = (None, Some(failure));
        outcome.hooks.clear();
        true
    }

    /// Every hook that is attached.
    pub(crate) fn hooks(&self) -> impl Iterator<Item = &'static Hook> {
        self.outcomes.iter().flat_map(|outcome| &outcome.hooks).copied()
    }

    /// Whether a hook is attached there.
    pub(crate) fn has(&self, target: Target) -> bool {
        self.hooks().any(|hook| hook.target == target)
    }

    /// Whether a function provides some event, or would at another level. Programs on functions can be preempted.
    pub(crate) fn may_use_functions(&self) -> bool {
        self.hooks().chain(self.missing()).any(|hook| hook.target.is_function())
    }

    /// Why the last attempt to attach something there failed; `None` if it did not, or if there was none.
    pub(crate) fn refusal(&self, target: Target) -> Option<&Refusal> {
        self.trials.iter().rev().find(|trial| trial.target == target)?.outcome.as_ref().err()
    }

    /// Parts of measures that are known.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let brought = self.outcomes.iter().filter_map(|outcome| Some((outcome.definition, outcome.method?)));
        brought
            .flat_map(|(definition, method)| definition.parts.iter().filter(|part| !method.lacks.contains(part)))
            .copied()
            .collect()
    }

    /// Bits of [`settings`]: what the program on io_uring's completions is to report, and what hooks show that need not
    /// be inferred.
    pub(crate) fn settings(&self) -> u64 {
        let by_tracepoints = |event| self.method(event).is_some_and(|method| method.kind == Some(Kind::Tracepoint));
        let accepts = if by_tracepoints(Event::Accepted) { settings::URING_ACCEPTS } else { 0 };
        let splices = if by_tracepoints(Event::Spliced) { settings::URING_SPLICES } else { 0 };
        let floods = if self.has(events::FLOOD) { settings::FLOODS } else { 0 };
        let is_seen = self.outcome(Event::Arrived).is_some_and(|outcome| outcome.failure.is_none());
        let arrivals = if is_seen { settings::ARRIVALS } else { 0 };
        accepts | splices | floods | arrivals
    }
}

/// The object's programs, which the kernel takes or refuses. One program may serve several targets.
pub(crate) trait Programs {
    /// Loads a hook's program, if it is not loaded yet.
    fn load(&mut self, hook: &Hook) -> Result<(), Refusal>;
    /// Attaches a hook's program, which is loaded.
    fn attach(&mut self, hook: &Hook) -> Result<(), Refusal>;
    /// Unloads a hook's program, which detaches it, if it is loaded.
    fn unload(&mut self, hook: &Hook);
    /// Detaches a hook's program, which stays loaded. Only where the level may change.
    fn detach(&mut self, hook: &Hook);
    /// Whether a hook's program is loaded.
    fn is_loaded(&self, hook: &Hook) -> bool;
    /// Whether this kernel does not have the target.
    fn lacks(&self, target: Target) -> bool;
}

/// What to attach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Probes of one kind only; `None`: any.
    pub kind: Option<Kind>,
    /// Targets that count as refused, to see what is lost with them.
    pub refuse: &'a [String],
    /// How much is measured: events of higher levels are left alone.
    pub level: Level,
    /// The level may change: events of higher levels are loaded all the same, and not attached.
    pub adjustable: bool,
}

impl Wanted<'_> {
    /// Whether an event's programs are loaded.
    fn loads(&self, definition: &Definition) -> bool {
        definition.level <= self.level || self.adjustable
    }
}

/// Loads and attaches what brings the events. What fails is left out.
///
/// # Errors
/// If no method brings an essential event. The trials show what was tried.
pub(crate) fn attach(programs: &mut impl Programs, wanted: Wanted<'_>) -> Result<Attached, (StartError, Vec<Trial>)> {
    let mut attacher = Attacher { programs, wanted, trials: Vec::new() };
    // All is loaded before anything is attached, which takes far less time: the events are to begin at one moment.
    let mut loaded = attacher.load_all();
    let mut outcomes = Vec::new();
    let mut ready = Vec::new();
    for definition in EVENTS {
        let position = loaded.iter().position(|loaded| loaded.definition.event == definition.event);
        let loaded = position.map(|position| loaded.swap_remove(position));
        let outcome = if definition.level > wanted.level {
            let method = loaded.as_ref().and_then(|loaded| loaded.method);
            let failure = loaded.map(|loaded| loaded.failure).filter(|_| method.is_none());
            ready.push(Ready { event: definition.event, method, failure });
            levels::left_out(definition)
        } else {
            let outcome = match loaded {
                Some(loaded) => attacher.bring(loaded),
                None => Outcome { definition, method: None, hooks: Vec::new(), failure: None },
            };
            let place = |method: &'static Method| definition.methods.iter().position(|one| std::ptr::eq(one, method));
            let (method, failure) = (outcome.method.and_then(place), outcome.failure.clone());
            ready.push(Ready { event: definition.event, method, failure });
            outcome
        };
        if let Some(failure) = outcome.failure.clone().filter(|_| definition.essential) {
            let error = StartError::Refused { event: definition.event, failure };
            return Err((error, attacher.trials));
        }
        outcomes.push(outcome);
    }
    if !wanted.adjustable {
        ready.clear();
    }
    Ok(Attached { outcomes, trials: attacher.trials, ready })
}

/// An event, and how far the search for its method has come.
struct Loaded {
    definition: &'static Definition,
    /// The method that is loaded; `None` if none can be.
    method: Option<usize>,
    /// What was refused on the way.
    failure: Failure,
}

struct Attacher<'a, P> {
    programs: &'a mut P,
    wanted: Wanted<'a>,
    trials: Vec<Trial>,
}

impl<P: Programs> Attacher<'_, P> {
    /// Loads the first method of each event that the kernel takes. The last event comes first, because what brings
    /// connections may bring arrivals too.
    fn load_all(&mut self) -> Vec<Loaded> {
        let mut loaded: Vec<Loaded> = Vec::new();
        for definition in EVENTS.iter().rev() {
            if !self.wanted.loads(definition) {
                continue;
            }
            let methods = loaded.iter().filter_map(|other| Some(&other.definition.methods[other.method?]));
            if methods.into_iter().any(|method| method.also == Some(definition.event)) {
                continue;
            }
            let mut failure = Failure { kind: self.wanted.kind, ..Failure::default() };
            let method = self.load(definition, 0, &mut failure);
            loaded.push(Loaded { definition, method, failure });
        }
        loaded
    }

    /// Attaches the method that is loaded, or else the next one that works.
    fn bring(&mut self, loaded: Loaded) -> Outcome {
        let Loaded { definition, mut method, mut failure } = loaded;
        while let Some(index) = method {
            match self.attach(definition, index) {
                Ok(hooks) => {
                    return Outcome { definition, method: Some(&definition.methods[index]), hooks, failure: None };
                }
                Err(refusal) => {
                    failure.add(refusal);
                    method = self.load(definition, index + 1, &mut failure);
                }
            }
        }
        Outcome { definition, method: None, hooks: Vec::new(), failure: Some(failure) }
    }

    /// Loads the first of the methods from `from` on that the kernel takes, and returns which.
    fn load(&mut self, definition: &'static Definition, from: usize, failure: &mut Failure) -> Option<usize> {
        let (mut loaded, mut refused) = (None, Vec::new());
        for (index, method) in definition.methods.iter().enumerate().skip(from) {
            if !method.is_allowed(self.wanted.kind) {
                continue;
            }
            match self.load_method(definition, index) {
                Ok(()) => {
                    loaded = Some(index);
                    break;
                }
                Err(refusal) => {
                    failure.add(refusal);
                    refused.push(method);
                }
            }
        }
        // Only now: the kernel took long to verify what a later method uses, too.
        let used = loaded.map_or(&[] as &[Hook], |index| definition.methods[index].hooks);
        let unused = |hook: &&Hook| used.iter().all(|used| used.program != hook.program);
        refused.into_iter().flat_map(|method| method.hooks).filter(unused).for_each(|hook| self.programs.unload(hook));
        loaded
    }

    fn load_method(&mut self, definition: &'static Definition, index: usize) -> Result<(), (Target, Refusal)> {
        let hooks = definition.methods[index].hooks;
        for hook in hooks {
            if self.is_spare(hook) {
                continue;
            }
            let Err(refusal) = self.load_hook(hook) else { continue };
            self.note(definition, index, hook, Err(refusal.clone()));
            if hook.loss().is_none() {
                // Without this hook the method does not work.
                return Err((hook.target, refusal));
            }
        }
        Ok(())
    }

    /// Whether the method works without a hook because this kernel does not have its function.
    fn is_spare(&self, hook: &Hook) -> bool {
        hook.requirement != Requirement::Required && hook.target.is_function() && self.programs.lacks(hook.target)
    }

    fn load_hook(&mut self, hook: &Hook) -> Result<(), Refusal> {
        if self.is_refused(hook.target) {
            return Err(Refusal::OnPurpose);
        }
        if hook.target.is_function() && self.wanted.kind == Some(Kind::Tracepoint) {
            return Err(Refusal::NotRequested);
        }
        self.programs.load(hook)
    }

    fn is_refused(&self, target: Target) -> bool {
        !self.wanted.refuse.is_empty() && self.wanted.refuse.contains(&target.to_string())
    }

    /// Attaches what was loaded of a method: all hooks that it does not work without, or none. Returns the hooks that
    /// are attached.
    fn attach(
        &mut self,
        definition: &'static Definition,
        index: usize,
    ) -> Result<Vec<&'static Hook>, (Target, Refusal)> {
        let mut attached = Vec::new();
        let hooks = definition.methods[index].hooks;
        for hook in hooks {
            // What was not loaded was refused already, and the method works without it.
            if !self.programs.is_loaded(hook) || self.is_spare(hook) || self.is_refused(hook.target) {
                continue;
            }
            let outcome = self.programs.attach(hook);
            self.note(definition, index, hook, outcome.clone());
            match outcome {
                Ok(()) => attached.push(hook),
                Err(_) if hook.loss().is_some() => {}
                Err(refusal) => {
                    // Unloading a program detaches it.
                    hooks.iter().for_each(|hook| self.programs.unload(hook));
                    return Err((hook.target, refusal));
                }
            }
        }
        Ok(attached)
    }

    fn note(&mut self, definition: &'static Definition, method: usize, hook: &Hook, outcome: Result<(), Refusal>) {
        self.trials.push(Trial {
            event: definition.event,
            method,
            program: hook.program,
            target: hook.target,
            kind: definition.methods[method].kind,
            outcome,
            measures: definition.carries,
        });
    }
}
