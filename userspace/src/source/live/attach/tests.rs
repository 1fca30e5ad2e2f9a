//! Every event with every method and every hook refused, one at a time, on a kernel that is made up: what is attached
//! then, and what coverage says of it.

use std::time::Duration;

use std::collections::BTreeSet;

use listentop_btf::Symbol;
use listentop_model::coverage::{Measure, Status};

use super::{
    Attached, Programs, Trial, Wanted, attach,
    coverage::{self, Circumstances},
    events::{Definition, EVENTS, Event, Hook, Kind, Level, Loss, Part, Target, URING_COMPLETE, all_hooks},
    refusal::Refusal,
    silence::{self, Evidence},
};
use crate::source::{
    coverage::{Entry, Reason},
    live::{StartError, read::cost::Timing},
    owners::Sight,
};

/// When a kernel refuses a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Load,
    Attach,
}

/// A kernel that takes everything but some targets.
#[derive(Default)]
struct FakeKernel {
    refused: Vec<(Target, Refusal, Option<Stage>)>,
    loaded: BTreeSet<&'static str>,
    attached: BTreeSet<(&'static str, String)>,
    /// Every program that it took, each time.
    verified: Vec<&'static str>,
}

impl FakeKernel {
    fn without(refused: &[(Target, Refusal, Option<Stage>)]) -> Self {
        Self { refused: refused.to_vec(), ..Self::default() }
    }

    fn outcome(&self, target: Target, now: Stage) -> Result<(), Refusal> {
        let refused = self.refused.iter().find(|(refused, _, stage)| {
            *refused == target && *stage == (if now == Stage::Load { None } else { Some(Stage::Attach) })
        });
        refused.map_or(Ok(()), |(_, refusal, _)| Err(refusal.clone()))
    }
}

impl Programs for FakeKernel {
    fn load(&mut self, hook: &Hook) -> Result<(), Refusal> {
        self.outcome(hook.target, Stage::Load)?;
        if self.loaded.insert(hook.program) {
            self.verified.push(hook.program);
        }
        Ok(())
    }

    fn attach(&mut self, hook: &Hook) -> Result<(), Refusal> {
        assert!(self.loaded.contains(hook.program), "{} is attached before it is loaded", hook.program);
        self.outcome(hook.target, Stage::Attach)?;
        let new = self.attached.insert((hook.program, hook.target.to_string()));
        assert!(new, "{} is attached twice to {}", hook.program, hook.target);
        Ok(())
    }

    fn unload(&mut self, hook: &Hook) {
        self.loaded.remove(hook.program);
        self.attached.retain(|(program, _)| *program != hook.program);
    }

    fn detach(&mut self, hook: &Hook) {
        let attached = self.attached.remove(&(hook.program, hook.target.to_string()));
        assert!(attached, "{} was not attached to {}", hook.program, hook.target);
    }

    fn is_loaded(&self, hook: &Hook) -> bool {
        self.loaded.contains(hook.program)
    }

    fn lacks(&self, target: Target) -> bool {
        self.refused.iter().any(|(refused, refusal, _)| *refused == target && refusal.is_absence_of(target))
    }
}

/// The kinds of probes that can be asked for.
const KINDS: [Option<Kind>; 3] = [None, Some(Kind::Fentry), Some(Kind::Tracepoint)];

fn every_target() -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for hook in all_hooks() {
        if !targets.contains(&hook.target) {
            targets.push(hook.target);
        }
    }
    targets
}

/// The error of a kernel without the target.
fn absent(target: Target) -> Refusal {
    Refusal::Missing(match target {
        Target::Entry(name) | Target::Exit(name) => Symbol::Function(name.to_owned()),
        Target::Tracepoint(name, _) => Symbol::Tracepoint(name.to_owned()),
        Target::Syscall(_) => Symbol::Member("syscall_trace_exit.ret".to_owned()),
    })
}

fn circumstances() -> Circumstances {
    Circumstances {
        timing: Timing::All,
        addresses_known: true,
        unseen: None,
        not_walked: None,
        not_listed: None,
        no_half_open: None,
        walks_by_test_runs: false,
    }
}

fn attached(kernel: &mut FakeKernel, kind: Option<Kind>) -> Result<Attached, (StartError, Vec<Trial>)> {
    attach(kernel, Wanted { kind, refuse: &[], level: Level::All, adjustable: false })
}

/// To verify a program takes a kernel long. What several methods use stays loaded from one to the next, and what is not
/// used in the end does not.
#[test]
fn no_program_is_verified_twice_and_none_stays_in_vain() {
    let functions = every_target().into_iter().filter(|target| target.is_function());
    let refused: Vec<_> = functions.map(|target| (target, Refusal::NotPermitted("EPERM".to_owned()), None)).collect();
    let mut kernel = FakeKernel::without(&refused);
    let attached = attached(&mut kernel, None).expect("tracepoints suffice");
    let used: BTreeSet<_> = attached.hooks().map(|hook| hook.program).collect();
    assert_eq!(kernel.loaded, used);
    assert!(kernel.verified.contains(&"exit_accept_without_connection"), "a method of two was tried in vain");
    let once: BTreeSet<_> = kernel.verified.iter().copied().collect();
    assert_eq!(once.len(), kernel.verified.len(), "{:?}", kernel.verified);
}

fn covered(attached: &Attached) -> Vec<Entry> {
    coverage::of(attached, &circumstances())
}

fn entry(entries: &[Entry], measure: Measure) -> &Entry {
    entries.iter().find(|entry| entry.measure == measure).expect("every measure has its entry")
}

/// The targets that a text names.
fn named(text: &str) -> Vec<Target> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '/')
        .filter(|word| word.contains('/'))
        .collect();
    every_target().into_iter().filter(|target| words.contains(&target.to_string().as_str())).collect()
}

/// Checks what every coverage must fulfil: it names attached hooks only, and every loss has its reason.
fn assert_sound(attached: &Attached, entries: &[Entry], kernel: &FakeKernel, what: &str) {
    let really: BTreeSet<&str> = kernel.attached.iter().map(|(_, target)| target.as_str()).collect();
    let believed: BTreeSet<String> = attached.hooks().map(|hook| hook.target.to_string()).collect();
    assert_eq!(really, believed.iter().map(String::as_str).collect(), "{what}");
    for found in entries {
        let words = found.in_words();
        for target in named(&words.via) {
            assert!(attached.has(target), "{what}: {} claims {target}: {}", found.measure, words.via);
        }
        let whole = !words.via.starts_with(", ") && !words.via.ends_with(", ") && !words.via.contains(", ,");
        assert!(whole && !words.via.contains("→ ;"), "{what}: {}: {:?}", found.measure, words.via);
        assert_eq!(words.via.is_empty(), words.status == Status::Unavailable, "{what}: {}", found.measure);
        assert_eq!(words.reason.is_empty(), words.status == Status::Measured, "{what}: {}", found.measure);
    }
}

/// What is declared to be missing of a measure, given what is attached.
fn declared_losses(attached: &Attached, measure: Measure) -> Vec<&'static str> {
    let mut losses: Vec<Loss> = Vec::new();
    for outcome in &attached.outcomes {
        match outcome.method {
            None if outcome.failure.is_some() => losses.extend(outcome.definition.without),
            None => {}
            Some(method) => {
                losses.extend(method.limits);
                losses.extend(method.hooks.iter().filter(|hook| !attached.has(hook.target)).filter_map(Hook::loss));
                losses.extend(method.relies_on.iter().filter(|(on, _)| !attached.has(*on)).map(|(_, loss)| *loss));
            }
        }
    }
    losses.into_iter().filter(|loss| loss.measures.contains(&measure)).map(|loss| loss.without).collect()
}

/// Whether an event is brought, by its own method or another's.
fn is_brought(attached: &Attached, event: Event) -> bool {
    attached.source(event).is_some()
}

/// What coverage must say of a kernel that refuses one target and is whole otherwise.
fn assert_consequences(attached: &Attached, whole: &[Entry], target: Target, refusal: &Refusal, what: &str) {
    let entries = covered(attached);
    for measure in Measure::ALL.iter().copied() {
        let (before, now) = (entry(whole, measure), entry(&entries, measure));
        let carriers = || EVENTS.iter().filter(|definition| definition.carries.contains(&measure));
        let lost = carriers().any(|definition| !is_brought(attached, definition.event));
        let losses = declared_losses(attached, measure);
        let expected = match (lost, losses.is_empty()) {
            (true, _) => Status::Unavailable,
            (false, true) if !is_read_now_and_then(measure) => Status::Measured,
            (false, _) => Status::Sampled,
        };
        let reason = now.in_words().reason;
        if refusal.is_absence_of(target) && !lost {
            // A kernel does not miss a target that it lacks. But another method may be in use.
            assert!(now.status() == expected || now.status() == Status::Measured, "{what}: {measure}: {reason}");
        } else {
            assert_eq!(now.status(), expected, "{what}: {measure}: {reason}");
        }
        if now.status() == Status::Unavailable && before.status() != Status::Unavailable {
            assert!(named(&reason).contains(&target), "{what}: {measure}: {reason}");
        }
        if now.status() == Status::Sampled && !is_read_now_and_then(measure) {
            assert!(losses.iter().any(|loss| reason.contains(loss)), "{what}: {measure}: {reason}");
        }
    }
}

/// What /proc shows, whatever the hooks.
fn is_read_now_and_then(measure: Measure) -> bool {
    matches!(measure, Measure::Waiters | Measure::Descriptors)
}

#[test]
fn nothing_refused_loses_nothing() {
    for kind in [None, Some(Kind::Fentry)] {
        let mut kernel = FakeKernel::default();
        let attached = attached(&mut kernel, kind).expect("it takes everything");
        let entries = covered(&attached);
        assert_sound(&attached, &entries, &kernel, "nothing refused");
        for entry in entries.iter().filter(|entry| !is_read_now_and_then(entry.measure)) {
            assert_eq!(entry.status(), Status::Measured, "{kind:?}: {:?}", entry.in_words());
        }
        assert_eq!(
            attached.parts(),
            [Part::CookiesValidated, Part::RequestsGivenUp, Part::FailedAccepts, Part::Aborted]
        );
    }
}

#[test]
fn every_hook_refused_one_at_a_time() {
    for kind in KINDS {
        let whole = covered(&attached(&mut FakeKernel::default(), kind).expect("it takes everything"));
        for target in every_target() {
            let not_permitted = Refusal::NotPermitted("Operation not permitted (os error 1)".to_owned());
            for (refusal, stage) in
                [(not_permitted.clone(), None), (not_permitted, Some(Stage::Attach)), (absent(target), None)]
            {
                let what = format!("{kind:?} without {target} ({refusal}, {stage:?})");
                let mut kernel = FakeKernel::without(&[(target, refusal.clone(), stage)]);
                match attached(&mut kernel, kind) {
                    Ok(attached) => {
                        assert_sound(&attached, &covered(&attached), &kernel, &what);
                        assert_consequences(&attached, &whole, target, &refusal, &what);
                    }
                    Err((error, trials)) => {
                        let StartError::Refused { event, failure } = &error else { panic!("{what}: {error}") };
                        let definition = EVENTS.iter().find(|definition| definition.event == *event);
                        assert!(definition.is_some_and(|definition| definition.essential), "{what}: {error}");
                        assert!(failure.refusals.contains(&(target, refusal.clone())), "{what}: {error}");
                        assert!(error.to_string().contains(&target.to_string()), "{what}: {error}");
                        assert!(trials.iter().any(|trial| trial.outcome == Err(refusal.clone())), "{what}");
                    }
                }
            }
        }
    }
}

/// The highest level of the events that carry a measure.
fn level_of(measure: Measure) -> Level {
    let carriers = EVENTS.iter().filter(|definition| definition.carries.contains(&measure));
    carriers.map(|definition| definition.level).max().unwrap_or(Level::Queues)
}

#[test]
fn a_level_attaches_what_it_has_and_names_the_level_that_has_the_rest() {
    for (kind, level) in KINDS.iter().flat_map(|kind| [Level::Queues, Level::Accepts, Level::All].map(|l| (*kind, l))) {
        let what = format!("{kind:?}, {level:?}");
        let mut kernel = FakeKernel::default();
        let attached =
            attach(&mut kernel, Wanted { kind, refuse: &[], level, adjustable: false }).expect("it takes everything");
        let entries = covered(&attached);
        assert_sound(&attached, &entries, &kernel, &what);
        let whole = covered(&self::attached(&mut FakeKernel::default(), kind).expect("it takes everything"));
        for definition in EVENTS {
            let all = self::attached(&mut FakeKernel::default(), kind).expect("it takes everything");
            let expected = definition.level <= level && is_brought(&all, definition.event);
            assert_eq!(is_brought(&attached, definition.event), expected, "{what}: {:?}", definition.event);
        }
        for measure in Measure::ALL.iter().copied() {
            let (found, before) = (entry(&entries, measure), entry(&whole, measure));
            let left_out = level_of(measure) > level;
            assert_eq!(found.is_left_out(), left_out, "{what}: {:?}", found.in_words());
            if left_out {
                let says = format!("left out; --measure {} has it", level_of(measure).name());
                assert_eq!(found.in_words().reason, says, "{what}: {measure}");
            } else if (measure, level) == (Measure::Enqueued, Level::Queues) {
                assert!(found.in_words().reason.ends_with("; --measure accepts does"), "{:?}", found.in_words());
            } else {
                assert_eq!(found.in_words(), before.in_words(), "{what}");
            }
        }
        assert_eq!(attached.parts().contains(&Part::Aborted), level >= Level::Accepts, "{what}");
    }
}

/// Every way from level to level, there and back.
#[test]
fn a_change_of_level_attaches_what_a_start_at_it_does() {
    let at = |kind, level| {
        let mut kernel = FakeKernel::default();
        let wanted = Wanted { kind, refuse: &[], level, adjustable: false };
        let attached = attach(&mut kernel, wanted).expect("it takes everything");
        (kernel.attached, covered(&attached), attached.parts())
    };
    for (kind, start) in KINDS.iter().flat_map(|kind| Level::ALL.map(|level| (*kind, level))) {
        let mut kernel = FakeKernel::default();
        let wanted = Wanted { kind, refuse: &[], level: start, adjustable: true };
        let mut attached = attach(&mut kernel, wanted).expect("it takes everything");
        let loaded = kernel.loaded.clone();
        let mut before = start;
        for level in Level::ALL.into_iter().chain([Level::Queues, Level::All, Level::Accepts, Level::Queues, start]) {
            let what = format!("{kind:?}: from {before:?} to {level:?}");
            assert_eq!(attached.brings_nothing((before, level)).is_none(), level > before, "{what}");
            if level > before {
                attached.raise(&mut kernel, level).expect("it takes everything");
            } else {
                attached.lower(&mut kernel, level);
            }
            let (hooks, entries, parts) = at(kind, level);
            assert_eq!(kernel.attached, hooks, "{what}");
            assert_eq!(covered(&attached), entries, "{what}");
            assert_eq!(attached.parts(), parts, "{what}");
            assert_eq!(kernel.loaded, loaded, "{what}: nothing is loaded or unloaded");
            before = level;
        }
    }
}

/// What is refused for want of a right leaves all as it was; for another reason, its event is missing, as at a start.
#[test]
fn a_level_that_is_refused() {
    for target in every_target() {
        for (refusal, no_right) in
            [(Refusal::NotPermitted("EPERM".to_owned()), true), (Refusal::Failed("no".to_owned()), false)]
        {
            let mut kernel = FakeKernel::default();
            let wanted = Wanted { kind: None, refuse: &[], level: Level::Queues, adjustable: true };
            let mut attached = attach(&mut kernel, wanted).expect("it takes everything");
            let (hooks, entries) = (kernel.attached.clone(), covered(&attached));
            let needs = attached.missing().any(|hook| hook.target == target && hook.loss().is_none());
            kernel.refused = vec![(target, refusal.clone(), Some(Stage::Attach))];
            let raised = attached.raise(&mut kernel, Level::All);
            if needs && no_right {
                assert_eq!(raised, Err(refusal), "{target}");
                assert_eq!((kernel.attached.clone(), covered(&attached)), (hooks, entries), "{target}");
                kernel.refused.clear();
                attached.raise(&mut kernel, Level::All).expect("with the right it can be had");
                assert!(is_brought(&attached, Event::Read) && is_brought(&attached, Event::Accepted), "{target}");
            } else {
                assert_eq!(raised, Ok(()), "{target}");
                assert_sound(&attached, &covered(&attached), &kernel, &format!("without {target}"));
            }
        }
    }
}

/// What each level promises.
#[test]
fn queues_trace_no_system_call_and_accepts_no_read() {
    let calls = ["sys_exit_", "sys_accept", "inet_csk_accept", "io_uring"];
    let reads = ["recv_length", "recvmsg", "send_length", "sendmsg", "sendpage", "splice", "readable", "subflow"];
    for (level, never) in [(Level::Queues, [calls.as_slice(), &reads].concat()), (Level::Accepts, reads.to_vec())] {
        for kind in KINDS {
            let mut kernel = FakeKernel::default();
            attach(&mut kernel, Wanted { kind, refuse: &[], level, adjustable: false }).expect("it takes everything");
            for (program, target) in &kernel.attached {
                assert!(!never.iter().any(|part| target.contains(part)), "{level:?}, {kind:?}: {program} on {target}");
            }
        }
    }
}

/// The first hook that each method cannot do without.
fn heads(definition: &Definition, methods: usize) -> Vec<Target> {
    let methods = definition.methods.iter().take(methods);
    methods
        .filter_map(|method| method.hooks.iter().rev().find(|hook| hook.loss().is_none()))
        .map(|hook| hook.target)
        .collect()
}

#[test]
fn every_method_refused_up_to_all() {
    for kind in KINDS {
        for definition in EVENTS {
            for methods in 1..=definition.methods.len() {
                let refused: Vec<_> = heads(definition, methods)
                    .into_iter()
                    .map(|target| (target, Refusal::Failed("no".to_owned()), None))
                    .collect();
                let what = format!("{kind:?} without the first {methods} methods of {:?}", definition.event);
                let mut kernel = FakeKernel::without(&refused);
                let Ok(attached) = attached(&mut kernel, kind) else {
                    continue;
                };
                let entries = covered(&attached);
                assert_sound(&attached, &entries, &kernel, &what);
                if is_brought(&attached, definition.event) {
                    continue;
                }
                assert!(!definition.essential, "{what}: the start goes on without it");
                for measure in definition.carries {
                    let found = entry(&entries, *measure);
                    assert_eq!(found.status(), Status::Unavailable, "{what}: {measure}");
                }
                for loss in definition.without {
                    for measure in loss.measures {
                        let found = entry(&entries, *measure);
                        if !found.available && !definition.carries.contains(measure) {
                            // Another event carries it, and is not seen either.
                            continue;
                        }
                        let reason = found.in_words().reason;
                        assert!(reason.contains(loss.without), "{what}: {measure}: {reason}");
                    }
                }
            }
        }
    }
}

/// An earlier fault: coverage claimed io_uring's hook although the kernel had refused it.
#[test]
fn accepts_without_io_uring_are_sampled_and_say_so() {
    let target = Target::Tracepoint(URING_COMPLETE, 3);
    let refused = |refusal: Refusal| {
        let mut kernel = FakeKernel::without(&[(target, refusal, None)]);
        let attached = attached(&mut kernel, Some(Kind::Tracepoint)).expect("nothing essential");
        covered(&attached)
    };
    let entries = refused(Refusal::NotPermitted("no".to_owned()));
    for measure in [Measure::Accepts, Measure::WouldBlock, Measure::Reads] {
        let found = entry(&entries, measure).in_words();
        assert_eq!(found.status, Status::Sampled, "{measure}");
        assert!(found.reason.contains("through io_uring"), "{measure}: {}", found.reason);
        assert!(found.reason.contains("tp_btf/io_uring_complete: no"), "{measure}: {}", found.reason);
        assert!(!found.via.contains("io_uring"), "{measure}: {}", found.via);
    }
    let via = entry(&entries, Measure::Accepts).in_words().via;
    assert_eq!(via, "tracepoint/syscalls/sys_exit_accept4, tracepoint/syscalls/sys_exit_accept");
    // A kernel without io_uring loses nothing.
    let entries = refused(absent(target));
    assert_eq!(entry(&entries, Measure::Accepts).status(), Status::Measured);
    // A kernel whose tracepoint does not pass the request has a loss.
    let entries = refused(Refusal::NoRequest(URING_COMPLETE));
    assert_eq!(entry(&entries, Measure::Accepts).status(), Status::Sampled);
}

#[test]
fn what_completes_a_measure_is_missed_where_the_kernel_has_it() {
    let not_permitted = || Refusal::NotPermitted("no".to_owned());
    for (kind, target, measure, words) in [
        (None, Target::Exit("tcp_sendpage"), Measure::Writes, "sendfile"),
        (Some(Kind::Tracepoint), Target::Syscall("sys_exit_splice"), Measure::Reads, "splice(2)"),
        (None, Target::Exit("tcp_syn_flood_action"), Measure::DropCause, "queue depths"),
        (None, Target::Exit("inet_csk_reqsk_queue_drop"), Measure::SynRequests, "given up"),
        (None, Target::Entry("tcp_get_cookie_sock"), Measure::CookiesSent, "come back"),
    ] {
        let mut kernel = FakeKernel::without(&[(target, not_permitted(), None)]);
        let attached = attached(&mut kernel, kind).expect("nothing essential");
        let found = entry(&covered(&attached), measure).in_words();
        assert_eq!(found.status, Status::Sampled, "{target}");
        assert!(found.reason.contains(words) && found.reason.contains(&target.to_string()), "{}", found.reason);
    }
    // Functions that were not requested are missed as well.
    let tracepoints = attached(&mut FakeKernel::default(), Some(Kind::Tracepoint)).expect("it takes everything");
    let writes = entry(&covered(&tracepoints), Measure::Writes).clone();
    let Some(Reason::Without(_, target, Some(Refusal::NotRequested))) = writes.reasons.first() else {
        panic!("{:?}", writes.reasons)
    };
    assert_eq!(*target, Target::Exit("tcp_sendpage"));
    // A figure without its hook is unknown.
    let refused = [(Target::Exit("inet_csk_reqsk_queue_drop"), not_permitted(), None)];
    let attached = attached(&mut FakeKernel::without(&refused), None).expect("nothing essential");
    assert!(!attached.parts().contains(&Part::RequestsGivenUp));
}

/// Where IPv6 is a module its functions are not in the kernel's types. They are not absent: IPv6 may be in use.
#[test]
fn functions_in_a_module_are_missed() {
    let function = "cookie_v6_init_sequence";
    let refused = [(Target::Entry(function), Refusal::InModule { function, module: "ipv6" }, None)];
    let mut kernel = FakeKernel::without(&refused);
    let attached = attached(&mut kernel, Some(Kind::Fentry)).expect("nothing essential");
    let entries = covered(&attached);
    assert_sound(&attached, &entries, &kernel, "ipv6 is a module");
    let requests = entry(&entries, Measure::SynRequests).in_words();
    assert_eq!(requests.status, Status::Unavailable);
    assert!(requests.reason.contains("cookie_v6_init_sequence is in the module ipv6"), "{}", requests.reason);
    assert_eq!(entry(&entries, Measure::DropCause).status(), Status::Sampled, "from the namespace's counters");
}

#[test]
fn a_hook_that_shows_nothing_counts_as_missing() {
    let many = 100;
    let whole = Evidence { requests: many, enqueued: many, reads: many, arrived_bytes: many, ..Evidence::default() };
    // Evidence, the hook that it is against, a measure that is lost, and what is left of another.
    let cases = [
        (
            Evidence { requests: 0, completed_without_request: many, ..whole },
            "fexit/inet_csk_reqsk_queue_hash_add",
            Measure::SynRequests,
        ),
        (Evidence { requests_without_syn: many, ..whole }, "fentry/tcp_conn_request", Measure::CookiesSent),
        (Evidence { completed_without_check: many, ..whole }, "fentry/tcp_check_req", Measure::Drops),
        (Evidence { enqueued: 0, unseen: many, ..whole }, "fentry/inet_csk_complete_hashdance", Measure::Enqueued),
        (Evidence { arrived_bytes: 0, ..whole }, "tp_btf/sk_data_ready", Measure::Residency),
    ];
    for (evidence, target, lost) in cases {
        let mut attached = attached(&mut FakeKernel::default(), None).expect("it takes everything");
        assert!(!silence::note(&mut attached, &whole, 0), "nothing is silent");
        assert!(!silence::note(&mut attached, &evidence, many), "the kernel skipped as many runs");
        assert!(silence::note(&mut attached, &evidence, 0), "{target}");
        let found = entry(&covered(&attached), lost).in_words();
        assert_eq!(found.status, Status::Unavailable, "{target}");
        let reason = format!("{target}: never called while ");
        assert!(found.reason.contains(&reason), "{}", found.reason);
        for word in named(&found.via) {
            assert!(attached.has(word), "{target}: {word}");
        }
        assert!(!silence::note(&mut attached, &evidence, 0), "{target} is no news");
        let writes = entry(&covered(&attached), Measure::Writes).status();
        assert_eq!(writes, Status::Measured, "{target}");
    }
}

#[test]
fn a_method_that_fails_half_way_leaves_nothing() {
    // The last hook of the first method: what was attached before it goes again.
    let last = Target::Exit("inet_csk_accept");
    let mut kernel = FakeKernel::without(&[(last, Refusal::Failed("no".to_owned()), Some(Stage::Attach))]);
    let attached = attached(&mut kernel, None).expect("nothing essential");
    assert!(!attached.has(Target::Exit("__x64_sys_accept4")) && !attached.has(Target::Exit("__arm64_sys_accept4")));
    assert!(attached.has(Target::Syscall("sys_exit_accept4")));
    assert_eq!(attached.method(Event::Accepted).and_then(|method| method.kind), Some(Kind::Tracepoint));
}

#[test]
fn what_the_options_refuse_is_refused() {
    let refuse = ["tp_btf/sock_send_length".to_owned()];
    let wanted = Wanted { kind: Some(Kind::Tracepoint), refuse: &refuse, level: Level::All, adjustable: false };
    let attached = attach(&mut FakeKernel::default(), wanted).expect("nothing essential");
    let target = Target::Tracepoint("sock_send_length", 3);
    assert_eq!(attached.refusal(target), Some(&Refusal::OnPurpose));
    let writes = entry(&covered(&attached), Measure::Writes).in_words();
    assert_eq!(writes.status, Status::Unavailable);
    assert_eq!(writes.reason, "not attached: tp_btf/sock_send_length: refused on purpose");
}

#[test]
fn reasons_of_the_machine_are_added() {
    let attached = attached(&mut FakeKernel::default(), Some(Kind::Tracepoint)).expect("it takes everything");
    let unseen = Some(Reason::UnseenNamespaces(vec![caps::Capability::CAP_SYS_ADMIN]));
    let not_walked = Some(Reason::NotWalked("EINVAL".to_owned()));
    let timing = Timing::None("EPERM".to_owned());
    let poor = Circumstances { timing, addresses_known: false, unseen, not_walked, ..circumstances() };
    let mut entries = coverage::of(&attached, &poor);
    assert_eq!(entry(&entries, Measure::Drops).reasons, [Reason::HiddenAddresses]);
    assert_eq!(entry(&entries, Measure::ProbeTime).status(), Status::Unavailable);
    assert_eq!(entry(&entries, Measure::AcceptQueueDepth).status(), Status::Sampled);
    assert_eq!(entry(&entries, Measure::OldestUnread).status(), Status::Unavailable);
    assert_eq!(entry(&entries, Measure::QueuedBytes).status(), Status::Sampled);
    // The lists have walks of their own.
    assert_eq!(entry(&entries, Measure::UnreadConnections).status(), Status::Measured);
    assert_eq!(entry(&entries, Measure::WaitingConnections).status(), Status::Measured);
    let not_listed = Some(Reason::NotListed("EINVAL".to_owned()));
    let unlisted = coverage::of(&attached, &Circumstances { not_listed, ..circumstances() });
    for measure in [Measure::UnreadConnections, Measure::WaitingConnections, Measure::HalfOpenConnections] {
        assert_eq!(entry(&unlisted, measure).in_words().reason, "connections cannot be listed: EINVAL");
    }
    assert_eq!(entry(&unlisted, Measure::OldestUnread).status(), Status::Measured);
    let no_half_open = Some(Reason::NotListed("iter/tcp: EINVAL".to_owned()));
    let some = coverage::of(&attached, &Circumstances { no_half_open, ..circumstances() });
    let reason = entry(&some, Measure::HalfOpenConnections).in_words().reason;
    assert_eq!(reason, "connections cannot be listed: iter/tcp: EINVAL");
    assert_eq!(entry(&some, Measure::WaitingConnections).status(), Status::Measured);
    assert!(
        !coverage::note_walks(&mut entries, Measure::OldestUnread, Some(Duration::from_secs(1))),
        "it is unavailable anyway"
    );
    let hidden = Sight { hidden: 2, ..Sight::default() };
    assert!(coverage::note_sight(&mut entries, hidden) && !coverage::note_sight(&mut entries, hidden));
    assert_eq!(entry(&entries, Measure::Owners).reasons, [Reason::HiddenOwners(2)]);
    assert_eq!(entry(&entries, Measure::ThreadTimes).status(), Status::Measured);
    assert!(coverage::note_sight(&mut entries, Sight::default()));
    assert_eq!(entry(&entries, Measure::Owners).status(), Status::Measured);
    for blind in [Sight { hidepid: true, ..Sight::default() }, Sight { confined: true, ..Sight::default() }] {
        assert!(coverage::note_sight(&mut entries, blind));
        for measure in [Measure::Owners, Measure::ThreadTimes] {
            let entry = entry(&entries, measure);
            assert_eq!((entry.status(), entry.reasons.len()), (Status::Sampled, 1), "{measure}");
        }
    }
    assert!(coverage::note_forgotten_clients(&mut entries) && !coverage::note_forgotten_clients(&mut entries));
    assert!(entry(&entries, Measure::DropClients).in_words().reason.ends_with("counted again when they came back"));
}

#[test]
fn the_time_between_walks_is_said_and_taken_back() {
    let attached = attached(&mut FakeKernel::default(), None).expect("it takes everything");
    let mut entries = coverage::of(&attached, &circumstances());
    let ms = |ms| Some(Duration::from_millis(ms));
    let noted = [None, ms(520), ms(540), ms(720), None].map(|every| {
        let new = coverage::note_walks(&mut entries, Measure::OldestUnread, every);
        (new, entry(&entries, Measure::OldestUnread).in_words().reason)
    });
    let words =
        |every: &str| format!("read every {every} s, as reading takes long here: the age is that of the last reading");
    let expected = [
        (false, String::new()),
        (true, words("0.5")),
        (false, words("0.5")),
        (true, words("0.7")),
        (true, String::new()),
    ];
    assert_eq!(noted, expected);
}
