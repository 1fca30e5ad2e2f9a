//! A kernel that refuses a hook, or does not have it. What is lost follows from the declaration of the hooks: coverage
//! names the loss with its reason, and nothing else changes.

use listentop::source::{
    Source as _,
    live::{
        Kind, LiveSource, Options, StartError, Target,
        events::{Definition, EVENTS, Hook, Loss, all_hooks},
    },
};
use listentop_model::coverage::{Coverage, Measure, Status};

use crate::{
    command_line::held,
    support::{
        Lab, Test, Watch,
        lab::PORT,
        skip,
        sockets::{accept, connect, listen, receive, send_all},
    },
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "refused::tracepoints_one_by_one", needs: &[], run: tracepoints },
    Test { name: "refused::several_at_once", needs: &[], run: several },
    Test { name: "refused::what_nothing_can_do_without", needs: &[], run: essential },
];

/// Tests that need a kernel that accepts probes on functions. Some machines refuse such probes. `cargo xtask kernels`
/// runs these tests: it knows what each kernel must accept.
pub(crate) const OF_FUNCTIONS: &[Test] = &[
    Test { name: "refused::functions_one_by_one", needs: &[], run: functions },
    Test { name: "refused::functions_fall_back_to_tracepoints", needs: &[], run: fall_back },
    Test { name: "refused::functions_do_without_slow_tracepoints", needs: &[], run: no_slow_tracepoints },
];

use Measure::{Accepts, DropCause, DropClients, Drops, Reads, SynackRetransmits, Writes};

/// The measures that show a refused final ACK.
const REFUSING: &[Measure] = &[Drops, DropCause, DropClients];

fn options(kind: Option<Kind>, refuse: &[String]) -> Options {
    Options { kind, refuse: refuse.to_vec(), ..Options::default() }
}

/// Probes without any hook that the test refuses, and their coverage. Skips the test if they do not run.
fn whole(kind: Kind) -> (LiveSource, Vec<Coverage>) {
    match LiveSource::start(&options(Some(kind), &[])) {
        Ok(mut source) => {
            let coverage = source.sample().expect("a sample").coverage;
            (source, coverage)
        }
        Err(error) => skip(error.to_string()),
    }
}

fn find(coverage: &[Coverage], measure: Measure) -> &Coverage {
    coverage.iter().find(|entry| entry.measure == measure).expect("every measure has its coverage")
}

/// Every target of a hook, once.
fn targets() -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for hook in all_hooks() {
        if !targets.contains(&hook.target) {
            targets.push(hook.target);
        }
    }
    targets
}

/// What is declared to be missing of a measure where `gone` is not attached. Other hooks that are not attached either
/// do not exist on this kernel.
fn declared_losses(source: &LiveSource, gone: &[Target], measure: Measure) -> Vec<&'static str> {
    let mut losses: Vec<Loss> = Vec::new();
    for definition in EVENTS {
        let Some(method) = source.method(definition.event) else {
            if !source.brings(definition.event) {
                losses.extend(definition.without);
            }
            continue;
        };
        losses.extend(method.limits);
        let optional = method.hooks.iter().filter(|hook| gone.contains(&hook.target)).filter_map(Hook::loss);
        let relied_on = method.relies_on.iter().filter(|(target, _)| gone.contains(target)).map(|(_, loss)| *loss);
        losses.extend(optional.chain(relied_on));
    }
    losses.into_iter().filter(|loss| loss.measures.contains(&measure)).map(|loss| loss.without).collect()
}

/// Coverage claims no hook that is not attached.
fn assert_via(source: &LiveSource, coverage: &[Coverage], refused: Target) {
    for entry in coverage {
        let words = entry.via.split([',', ' ', ':', ';', '→']);
        let names: Vec<&str> = words.filter(|word| word.contains('/')).collect();
        for target in targets() {
            let claimed = names.contains(&target.to_string().as_str());
            let measure = entry.measure;
            assert!(
                !claimed || source.is_attached(target),
                "{measure} claims {target} without {refused}: {}",
                entry.via
            );
        }
        assert_eq!(entry.reason.is_empty(), entry.status == Status::Measured, "{} without {refused}", entry.measure);
    }
}

/// What the refused hook carries alone is unavailable, and says which hook is missing. What it, or its method, brings
/// better than what is left is sampled, and says what is missing. No other measure is worse off than before.
fn assert_lost(before: (&LiveSource, &[Coverage]), now: (&LiveSource, &[Coverage]), refused: Target) {
    let name = refused.to_string();
    let is_lost = |definition: &&Definition| before.0.brings(definition.event) && !now.0.brings(definition.event);
    let lost: Vec<&Definition> = EVENTS.iter().filter(is_lost).collect();
    // A method that failed gave up its other hooks too.
    let is_gone = |target: &Target| before.0.is_attached(*target) && !now.0.is_attached(*target);
    let gone: Vec<Target> = targets().into_iter().filter(is_gone).collect();
    for measure in Measure::ALL {
        let (was, is) = (find(before.1, *measure), find(now.1, *measure));
        let carried = lost.iter().any(|definition| definition.carries.contains(measure));
        let old = declared_losses(before.0, &[], *measure);
        let new: Vec<_> =
            declared_losses(now.0, &gone, *measure).into_iter().filter(|loss| !old.contains(loss)).collect();
        if carried {
            assert_eq!(is.status, Status::Unavailable, "{measure} without {name}");
            assert!(is.reason.contains(&name), "{measure} without {name}: {}", is.reason);
        } else if was.status != Status::Unavailable && !new.is_empty() {
            assert_eq!(is.status, Status::Sampled, "{measure} without {name}: {}", is.reason);
            assert!(new.iter().all(|loss| is.reason.contains(loss)), "{measure} without {name}: {}", is.reason);
        } else {
            assert!(is.status <= was.status, "{measure} without {name}: {}", is.reason);
        }
    }
}

/// A connection, a request and an answer: counted by what is left, and unknown, not 0, where the hook is missing.
fn assert_counts(watch: &mut Watch, hook: &str) {
    let listener = listen(PORT, 16);
    let client = connect(PORT);
    let server = accept(&listener).expect("a connection");
    send_all(&client, b"hello");
    assert_eq!(receive(&server, 10), 5);
    send_all(&server, b"ok");
    watch.sample();
    let coverage = watch.model().coverage.clone();
    let measured = |measure| find(&coverage, measure).status != Status::Unavailable;
    let seen = &watch.listener(PORT).total;
    let expected = |measure, n| measured(measure).then_some(n);
    assert_eq!(seen.enqueued, Some(1), "without {hook}");
    assert_eq!(seen.accepts, expected(Accepts, 1), "without {hook}");
    assert_eq!((seen.reads, seen.read_bytes), (expected(Reads, 1), expected(Reads, 5)), "without {hook}");
    assert_eq!((seen.writes, seen.write_bytes), (expected(Writes, 1), expected(Writes, 2)), "without {hook}");
}

/// A number below 3 that differs between one kernel's version and the next.
fn third_of_this_kernel() -> usize {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("every Linux has it");
    let numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<usize>().ok());
    numbers.sum::<usize>() % 3
}

/// Refuses every hook that is attached where nothing is refused, one at a time. In a virtual machine of ours, where
/// each start takes long, every third: which, depends on the kernel.
fn one_by_one(lab: &Lab, kind: Kind) {
    let (source, coverage) = whole(kind);
    let attached: Vec<Target> = targets().into_iter().filter(|target| source.is_attached(*target)).collect();
    assert!(attached.len() >= EVENTS.iter().filter(|definition| definition.essential).count());
    let (first, step) = if test_harness::own_machine() { (third_of_this_kernel(), 3) } else { (0, 1) };
    for refused in attached.into_iter().skip(first).step_by(step) {
        let name = refused.to_string();
        match LiveSource::start(&options(Some(kind), std::slice::from_ref(&name))) {
            Ok(mut now) => {
                let covered = now.sample().expect("a sample").coverage;
                assert!(!now.is_attached(refused), "{name} is refused");
                assert_via(&now, &covered, refused);
                assert_lost((&source, &coverage), (&now, &covered), refused);
                assert_counts(&mut Watch::by(lab, now), &name);
            }
            Err(StartError::Refused { event, failure }) => {
                let definition = EVENTS.iter().find(|definition| definition.event == event);
                assert!(definition.is_some_and(|definition| definition.essential), "without {name}: {failure}");
                assert!(failure.to_string().contains(&name), "{failure}");
            }
            Err(other) => panic!("without {name}: {other}"),
        }
    }
}

fn tracepoints(lab: &Lab) {
    one_by_one(lab, Kind::Tracepoint);
}

fn functions(lab: &Lab) {
    one_by_one(lab, Kind::Fentry);
}

/// If both kinds of probes run, a refused function costs only what no tracepoint shows.
fn fall_back(lab: &Lab) {
    drop(whole(Kind::Fentry));
    let (source, whole) = whole(Kind::Tracepoint);
    drop(source);
    let functions = targets().into_iter().filter(|target| target.is_function());
    let refuse: Vec<String> = functions.map(|target| target.to_string()).collect();
    let mut watch = Watch::with(lab, &options(None, &refuse));
    for measure in Measure::ALL {
        let (tracepoints, now) = (find(&whole, *measure), find(&watch.model().coverage, *measure));
        assert!(
            now.status != Status::Unavailable || tracepoints.status == Status::Unavailable,
            "{}: {}",
            measure.name(),
            now.reason
        );
    }
    assert_counts(&mut watch, "functions");
}

/// The tracepoint of a system call slows every call of every process. That of socket states runs eight times for each
/// connection.
fn no_slow_tracepoints(_: &Lab) {
    let (source, _) = whole(Kind::Fentry);
    let refused: Vec<_> = source.trials().iter().filter(|trial| trial.outcome.is_err()).collect();
    for target in targets().into_iter().filter(|target| source.is_attached(*target)) {
        let slow = matches!(target, Target::Syscall(_) | Target::Tracepoint("inet_sock_set_state", _));
        assert!(!slow, "{target} is in use, because of {refused:?}");
    }
}

/// Losses add up.
fn several(lab: &Lab) {
    let (source, whole) = whole(Kind::Tracepoint);
    drop(source);
    let refuse = ["tp_btf/sock_send_length", "tp_btf/kfree_skb", "tp_btf/tcp_retransmit_synack"].map(str::to_owned);
    let mut watch = Watch::with(lab, &options(Some(Kind::Tracepoint), &refuse));
    for measure in Measure::ALL {
        let lost = [Writes, Measure::Answer, SynackRetransmits].contains(measure) || REFUSING.contains(measure);
        let (before, after) = (find(&whole, *measure), find(&watch.model().coverage, *measure));
        let expected = if lost { Status::Unavailable } else { before.status };
        assert_eq!(after.status, expected, "{}: {}", measure.name(), after.reason);
    }
    assert_counts(&mut watch, "three hooks");
}

/// An error that names the hook, and nothing is left of what was attached before it.
fn essential(_: &Lab) {
    drop(whole(Kind::Tracepoint));
    let ours = || ["prog_id:", "link_id:", "map_id:"].map(|kind| held(std::process::id(), kind));
    let before = ours();
    let mut tried = 0;
    for definition in EVENTS.iter().filter(|definition| definition.essential) {
        let methods = definition.methods.iter().filter(|method| method.is_allowed(Some(Kind::Tracepoint)));
        for hook in methods.flat_map(|method| method.hooks) {
            let name = hook.target.to_string();
            let error = LiveSource::start(&options(Some(Kind::Tracepoint), std::slice::from_ref(&name)));
            let error = error.expect_err(&name);
            assert!(matches!(&error, StartError::Refused { event, .. } if *event == definition.event), "{error}");
            assert!(error.to_string().contains(&name) && error.to_string().lines().count() == 1, "{error}");
            assert_eq!(ours(), before, "left behind without {name}");
            tried += 1;
        }
    }
    assert!(tried >= 3, "ends of connections, openings and enqueues: {tried}");
}
