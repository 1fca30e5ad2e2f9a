use super::*;
use crate::source::live::blame::Callers;

const LISTENER: u64 = 5;

fn charge(tid: u32, state: State, address: u64, ms: u64) -> Charge {
    let acceptor = Acceptor {
        pid: 900,
        tid,
        initial_pid: 900,
        initial_tid: tid,
        start_ns: 1,
        comm: "worker".to_owned(),
        ended: false,
    };
    let user = if address == 0 { Stack::None } else { Stack::Known(vec![address]) };
    let (callers, cut) = (Callers::FramePointers, None);
    Charge {
        listener: LISTENER,
        acceptor,
        state,
        kernel: Stack::None,
        user,
        callers,
        cut,
        wait_ns: ms * 1_000_000,
        variance: 0.0,
    }
}

fn measured(charges: Vec<Charge>, nobody_ms: u64) -> Measured {
    let total_ns = charges.iter().map(|charge| charge.wait_ns).sum::<u64>() + nobody_ms * 1_000_000;
    let waited = Waited { listener: LISTENER, total_ns, nobody_ns: nobody_ms * 1_000_000, untold_ns: [0; 3] };
    Measured { listeners: vec![waited], charges, ..Measured::default() }
}

fn read(measured: &Measured, baseline: &Baseline) -> Blamed {
    let subjects = [Subject { listener: LISTENER, threads: Vec::new() }];
    let since = HashMap::from([(LISTENER, 100)]);
    let frames = |charge: &Charge| match &charge.user {
        Stack::Known(addresses) => addresses.iter().map(|it| Frame::unnamed(*it, None, false)).collect(),
        _ => vec![Frame::remark("none")],
    };
    let mut blame = blame(measured, baseline, (&since, 900), &subjects, &frames);
    assert_eq!(blame.listeners.len(), 1);
    blame.listeners.remove(0)
}

#[test]
fn the_parts_are_the_measured_ones() {
    let charges = vec![
        charge(1, State::Asleep, 0x10, 40),
        charge(1, State::Asleep, 0x10, 2),
        charge(2, State::Asleep, 0x10, 8),
        charge(1, State::Running, 0, 3),
    ];
    let blamed = read(&measured(charges, 7), &Baseline::default());
    assert_eq!((blamed.since_ns, blamed.until_ns, blamed.total_ns()), (100, 900, 60_000_000));
    let states = Doing::ALL.map(|doing| blamed.states().wait_ns(doing) / 1_000_000);
    assert_eq!(states, [3, 0, 50, 7]);
    assert_eq!(blamed.stacks.len(), 4, "two threads, one of them in two states, and nobody");
}

#[test]
fn begun_anew_only_what_comes_later_counts() {
    let before = measured(vec![charge(1, State::Asleep, 0x10, 40), charge(1, State::Asleep, 0x10, 2)], 7);
    let baseline = Baseline::of(&before);
    assert_eq!(read(&before, &baseline).stacks, Vec::new());
    // The open part was charged meanwhile, and another is open.
    let later =
        vec![charge(1, State::Asleep, 0x10, 45), charge(1, State::Asleep, 0x10, 1), charge(1, State::Running, 0x20, 5)];
    let blamed = read(&measured(later, 9), &baseline);
    let waits: Vec<(Doing, u64)> = blamed.stacks.iter().map(|stack| (stack.doing, stack.wait_ns / 1_000_000)).collect();
    assert_eq!(waits, [(Doing::Running, 5), (Doing::Asleep, 4), (Doing::Nobody, 2)]);
}

#[test]
fn many_stacks_are_summed_up_and_lose_nothing() {
    let charges: Vec<Charge> = (1..=1_000).map(|n| charge(1, State::Asleep, n, n)).collect();
    let all = measured(charges, 0);
    let blamed = read(&all, &Baseline::default());
    assert_eq!((blamed.stacks.len(), blamed.total_ns()), (MOST_STACKS + 1, all.listeners[0].total_ns));
    let others = blamed.stacks.iter().find(|stack| stack.frames[0].is_remark).expect("the others");
    assert_eq!(others.wait_ns / 1_000_000, (1..=744).sum::<u64>());
    let long = (0..200).map(|n| Frame::unnamed(n, None, false)).collect();
    let short = shortened(long);
    assert_eq!(
        (short.len(), short[0].label(), short[MOST_FRAMES].label()),
        (97, "0x0".to_owned(), "[104 more]".to_owned())
    );
}

/// Where only some stacks were copied, their parts change from one reading to the next: the sums do not.
#[test]
fn parts_that_change_add_up_to_what_was_charged_since() {
    let before = measured(vec![charge(1, State::Asleep, 0x10, 60), charge(1, State::Asleep, 0x20, 40)], 0);
    let later = measured(vec![charge(1, State::Asleep, 0x10, 40), charge(1, State::Asleep, 0x20, 80)], 0);
    let blamed = read(&later, &Baseline::of(&before));
    assert_eq!((blamed.stacks.len(), blamed.total_ns()), (1, 20_000_000));
}
