use listentop_model::{fixtures, model::Model, tracker::Tracker};

use super::*;

const HANDLE: u64 = 0x1000;
const FSYNC: u64 = 0x2000;
const SCHEDULE: u64 = 0xffff_0000;
const HOOK: u64 = 0xffff_1000;

fn acceptor(tid: u32) -> Acceptor {
    Acceptor { pid: 900, tid, initial_pid: 900, initial_tid: tid, start_ns: 1, comm: "worker".to_owned(), ended: false }
}

fn names() -> Names {
    let mut names = Names::default();
    let user = |name: &str, module: &str| vec![Frame::named(name.to_owned(), Some(module.to_owned()), false)];
    names.user.insert((900, HANDLE), user("handle", "shop"));
    names.user.insert((900, FSYNC), user("fsync", "libc.so.6"));
    names.kernel.insert(SCHEDULE, vec![Frame::named("schedule".to_owned(), None, true)]);
    names.kernel.insert(HOOK, vec![Frame::named("bpf_trace_run4".to_owned(), None, true)]);
    names
}

fn model() -> Model {
    Tracker::new(&fixtures::quiet()[0]).model().clone()
}

/// Of ten seconds six asleep in fsync, two at work in `handle`, one without a sample, one while nobody was there.
fn blamed() -> Blamed {
    let model = model();
    let listener = model.listeners[0].id;
    let charge = |tid: u32, state, kernel, user, ms: u64| Charge {
        listener,
        acceptor: acceptor(tid),
        state,
        kernel,
        user,
        callers: Callers::FramePointers,
        cut: None,
        wait_ns: ms * 1_000_000,
        variance: 0.0,
    };
    let known = |addresses: &[u64]| Stack::Known(addresses.to_vec());
    let charges = vec![
        charge(901, State::Running, Stack::Missing, known(&[HANDLE]), 2_000),
        charge(901, State::Running, Stack::None, Stack::None, 500),
        charge(902, State::Asleep, known(&[1, HOOK, SCHEDULE]), known(&[FSYNC, HANDLE]), 4_000),
        charge(902, State::Asleep, known(&[2, HOOK, SCHEDULE]), known(&[FSYNC, HANDLE]), 2_000),
    ];
    let waited =
        Waited { listener, total_ns: 10_000_000_000, nobody_ns: 1_000_000_000, untold_ns: [0, 0, 500_000_000] };
    let measured = Measured { elapsed_ns: 5_000_000_000, listeners: vec![waited], charges, ..Measured::default() };
    Blamed::new(measured, &model, &names())
}

#[test]
fn the_charges_add_up() {
    let blamed = blamed();
    let listener = &blamed.listeners[0];
    let threads: u64 = listener.threads.iter().map(|(_, states)| states.total()).sum();
    let stacks: u64 = listener.stacks.iter().map(|charged| charged.wait_ns).sum();
    assert_eq!((blamed.total_ns, blamed.states.total(), stacks), (10_000_000_000, 10_000_000_000, 10_000_000_000));
    assert_eq!(threads, 8_500_000_000, "what nobody did, and what the table had no room for, is no thread's");
    let states: [u64; 4] = Doing::ALL.map(|doing| blamed.states.wait_ns(doing) / 1_000_000);
    assert_eq!(states, [2_500, 0, 6_500, 1_000]);
    assert_eq!(blamed.unsampled_ns, 500_000_000);
}

#[test]
fn stacks_of_the_same_functions_are_one_without_the_probe() {
    let blamed = blamed();
    let stacks = &blamed.listeners[0].stacks;
    let functions: Vec<&str> = stacks[0].frames.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!((stacks[0].wait_ns, functions), (6_000_000_000, vec!["schedule", "fsync", "handle"]));
    assert_eq!(stacks.len(), 5);
}

#[test]
fn the_frame_that_tells_most_is_the_programs_own() {
    let frames = names().frames(&Charge {
        listener: 1,
        acceptor: acceptor(1),
        state: State::Asleep,
        kernel: Stack::Known(vec![SCHEDULE]),
        user: Stack::Known(vec![FSYNC, HANDLE]),
        callers: Callers::FramePointers,
        cut: None,
        wait_ns: 1,
        variance: 0.0,
    });
    assert_eq!(listentop_model::blame::telling(&frames), Some(2));
    assert_eq!(frames::way(&frames), "fsync \u{2190} handle");
    assert_eq!(frames::way(&frames[..2]), "fsync");
    assert_eq!(frames::way(&frames[..1]), "schedule");
    assert_eq!(frames::way(&[Frame::remark("no stack")]), "[no stack]");
    assert_eq!(frames::way(&[Frame::unnamed(0x12, Some("shop".to_owned()), false)]), "0x12 in shop");
}

#[test]
fn a_stack_that_cannot_be_followed_ends_there() {
    let mut names = names();
    names.user.insert((900, 7), vec![Frame { is_code: false, ..Frame::unnamed(7, None, false) }]);
    let charge = Charge {
        listener: 1,
        acceptor: acceptor(1),
        state: State::Running,
        kernel: Stack::Missing,
        user: Stack::Known(vec![HANDLE, 7, FSYNC]),
        callers: Callers::FramePointers,
        cut: None,
        wait_ns: 1,
        variance: 0.0,
    };
    assert_eq!(names.frames(&charge).len(), 1);
}

#[test]
fn the_table_has_the_guilty_function_first() {
    let table = table(&blamed(), 100);
    let first = table.lines().find(|line| line.contains('%') && line.starts_with("   ")).expect("a row");
    assert!(first.contains("60.0 %") && first.contains("asleep") && first.contains("fsync \u{2190} handle"), "{table}");
    assert!(table.starts_with("Connections waited 10.0s in 5.00s."), "{table}");
    assert!(table.lines().all(|line| listentop_model::words::width(line) <= 100), "{table}");
}

#[test]
fn a_share_that_is_sampled_has_its_error_beside_it() {
    let exact = table(&blamed(), 100);
    assert!(!exact.contains('±'), "{exact}");
    let mut blamed = blamed();
    let asleep = blamed.listeners[0].stacks.iter_mut().find(|charged| charged.doing == Doing::Asleep);
    // A standard deviation of 0.2 of 10 seconds.
    asleep.expect("one").variance = 200_000_000.0_f64.powi(2);
    let table = table(&blamed, 100);
    let row = table.lines().find(|line| line.contains("60.0 %") && line.contains('\u{2190}')).expect("a row");
    assert!(row.starts_with("   60.0 %    3.9     6.00s  asleep"), "{table}");
    assert!(table.contains("95 times of 100"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&json(&blamed).expect("text")).expect("JSON");
    let errors = json["listeners"][0]["stacks"].as_array().expect("a list").iter().map(|stack| &stack["error_us"]);
    assert_eq!(errors.filter(|error| **error == 392_000).count(), 1, "{json}");
}

#[test]
fn a_row_that_is_not_shown_has_no_column_for_its_error() {
    let mut blamed = blamed();
    let listener = &mut blamed.listeners[0];
    let hidden = Charged {
        wait_ns: 1,
        variance: 200_000_000.0_f64.powi(2),
        frames: vec![Frame::remark("elsewhere")],
        ..listener.stacks[0].clone()
    };
    listener.stacks.push(hidden);
    let table = table(&blamed, 100);
    assert!(!table.contains('±') && table.contains("in 1 other place"), "{table}");
}

#[test]
fn without_waiting_nobody_is_to_blame() {
    let measured = Measured { elapsed_ns: 1_000_000_000, ..Measured::default() };
    let blamed = Blamed::new(measured, &model(), &Names::default());
    assert_eq!(table(&blamed, 80), "No connection waited in 1.00s: nobody is to blame.\n");
    assert_eq!(folded(&blamed), "");
    assert!(svg(&blamed).ends_with("</svg>\n"));
}

#[test]
fn folded_stacks_begin_outside() {
    let blamed = blamed();
    let endpoint = &blamed.listeners[0].endpoint;
    let folded = folded(&blamed);
    let line = format!("{endpoint};asleep;worker (902);handle;fsync;schedule_[k] 6000000");
    assert!(folded.lines().any(|found| found == line), "{folded}");
    let sum: u64 = folded.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(sum, 10_000_000);
}

#[test]
fn the_image_has_every_function_and_no_markup_of_names() {
    let mut blamed = blamed();
    blamed.listeners[0].stacks[0].frames[2].function = "operator<<".to_owned();
    let svg = svg(&blamed);
    assert!(svg.contains("operator&lt;&lt;: 6.00s, 60.00 %") && !svg.contains("operator<<"), "{svg}");
    for doing in Doing::ALL {
        assert!(svg.contains(&format!("{} ", doing.name())), "{doing:?}");
    }
}

#[test]
fn what_json_says_can_be_compared_with() {
    let blamed = blamed();
    let text = json(&blamed).expect("it can be written");
    let before: json::Report = serde_json::from_str(&text).expect("it can be read");
    assert_eq!((before.total_wait_us, before.states["asleep"].share), (10_000_000, 0.65));
    let mut now = blamed.clone();
    now.listeners[0].stacks[0].wait_ns /= 2;
    now.total_ns -= 3_000_000_000;
    let versus = versus(&now, &before, 100);
    let row = versus.lines().nth(3).expect("a row");
    assert!(row.contains("60.0 %") && row.contains("42.9 %") && row.contains("-17.1 %"), "{versus}");
    assert!(row.contains("fsync \u{2190} handle"), "{versus}");
}

#[test]
fn programs_without_frame_pointers_are_noticed() {
    let mut blamed = blamed();
    assert_eq!(blamed.short_stacks(), Some(1.0), "all have one frame or two");
    assert!(table(&blamed, 100).contains("without frame"));
    let frame = Frame::named("main".to_owned(), Some("shop".to_owned()), false);
    for charged in blamed.listeners[0].stacks.iter_mut().filter(|charged| !charged.frames[0].is_remark) {
        charged.frames.extend([frame.clone(), frame.clone()]);
    }
    assert_eq!(blamed.short_stacks(), Some(0.0));
    assert!(!table(&blamed, 100).contains("without frame"));
}

#[test]
fn threads_are_shown_with_their_ids() {
    let mut blamed = blamed();
    for stack in &mut blamed.listeners[0].stacks {
        if let Some(acceptor) = &mut stack.acceptor {
            (acceptor.comm, acceptor.tid) = ("a-longest-name".to_owned(), 4_194_303);
        }
    }
    let table = table(&blamed, 80);
    assert!(table.contains("a-longest-name (4194303)  fsync"), "{table}");
    let mut rows = table.lines().skip_while(|line| !line.contains("SHARE")).take_while(|line| !line.is_empty());
    assert!(rows.all(|line| listentop_model::words::width(line) <= 80), "{table}");
}
