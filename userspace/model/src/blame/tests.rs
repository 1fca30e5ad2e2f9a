use super::*;

fn frames(functions: &[&str]) -> Vec<Frame> {
    functions.iter().map(|name| Frame::named((*name).to_owned(), Some("shop".to_owned()), false)).collect()
}

fn actor(tid: u32) -> Actor {
    Actor { pid: 900, tid: Some(tid), comm: format!("worker-{}", tid - 901) }
}

fn stack(doing: Doing, thread: Option<Actor>, functions: &[&str], ms: u64) -> BlamedStack {
    BlamedStack { doing, thread, frames: frames(functions), wait_ns: ms * 1_000_000 }
}

fn blamed(listener: u64, stacks: Vec<BlamedStack>) -> Blamed {
    Blamed { listener, since_ns: 1_000, until_ns: 9_000, stacks }
}

#[test]
fn a_sentence_names_the_worst_place() {
    let stacks = vec![
        stack(Doing::Running, Some(actor(901)), &["parse", "handle"], 500),
        stack(Doing::Asleep, Some(actor(901)), &["fsync", "sqlite3_step", "handle_order"], 11_900),
    ];
    let sentence = blamed(1, stacks.clone()).sentence();
    let says = "Of 12.4 s waited, 11.9 s while worker-0 (901) slept in fsync ← sqlite3_step ← handle_order.";
    assert_eq!(sentence.as_deref(), Some(says));
    // Two threads that do the same are one cause.
    let two = [stacks, vec![stack(Doing::Asleep, Some(actor(902)), &["fsync", "sqlite3_step", "handle_order"], 100)]]
        .concat();
    let sentence = blamed(1, two).sentence().expect("it is long");
    assert!(sentence.starts_with("Of 12.5 s waited, 12.0 s while 2 threads slept in fsync"), "{sentence}");
}

#[test]
fn what_nobody_did_what_ran_and_what_waited_for_a_cpu_have_their_words() {
    let of = |stack: BlamedStack| blamed(1, vec![stack]).sentence().expect("it is long");
    let nobody = BlamedStack { frames: vec![Frame::remark("none")], ..stack(Doing::Nobody, None, &[], 1_000) };
    assert_eq!(of(nobody), "Of 1.0 s waited, 1.0 s while no thread was there to accept.");
    let between =
        BlamedStack { frames: vec![Frame::remark("between")], ..stack(Doing::Running, Some(actor(901)), &[], 20) };
    assert_eq!(of(between), "Of 20.0 ms waited, 20.0 ms while worker-0 (901) ran.");
    assert_eq!(
        of(stack(Doing::Running, Some(actor(901)), &["f"], 20)),
        "Of 20.0 ms waited, 20.0 ms while worker-0 (901) ran f."
    );
    let starved = of(stack(Doing::Runnable, Some(actor(901)), &["f"], 20));
    assert_eq!(starved, "Of 20.0 ms waited, 20.0 ms while worker-0 (901) waited for a CPU.");
}

#[test]
fn little_waiting_and_many_small_places_are_no_cause() {
    assert_eq!(blamed(1, vec![stack(Doing::Asleep, Some(actor(901)), &["f"], 9)]).sentence(), None);
    assert_eq!(blamed(1, Vec::new()).sentence(), None);
    let many: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
    let small = many.iter().map(|name| stack(Doing::Running, Some(actor(901)), &[name], 100)).collect();
    assert_eq!(blamed(1, small).sentence(), None);
}

#[test]
fn several_listeners_are_one() {
    let blame = Blame {
        listeners: vec![
            blamed(1, vec![stack(Doing::Asleep, Some(actor(901)), &["f"], 10)]),
            Blamed { since_ns: 500, ..blamed(2, vec![stack(Doing::Asleep, Some(actor(901)), &["f"], 5)]) },
            blamed(3, vec![stack(Doing::Nobody, None, &["f"], 7)]),
        ],
        ..Blame::default()
    };
    let all = blame.of(&[1, 2]).expect("they are watched");
    assert_eq!((all.since_ns, all.stacks.len(), all.total_ns()), (500, 1, 15_000_000));
    assert_eq!(blame.of(&[1, 3]).map(|all| all.states().wait_ns(Doing::Nobody)), Some(7_000_000));
    assert_eq!(blame.of(&[4]), None);
}

#[test]
fn places_are_in_the_order_of_their_waiting() {
    let stacks = vec![
        stack(Doing::Running, Some(actor(901)), &["g"], 10),
        stack(Doing::Asleep, Some(actor(901)), &["f", "handle", "main", "start"], 10),
        // Another line of the same functions.
        stack(Doing::Asleep, Some(actor(901)), &["f", "handle", "main", "other"], 25),
    ];
    let blamed = blamed(1, stacks);
    let places: Vec<(&str, u64)> =
        blamed.places().iter().map(|place| (&*place.most.frames[0].function, place.wait_ns)).collect();
    assert_eq!(places, [("f", 35_000_000), ("g", 10_000_000)]);
    assert_eq!(blamed.places()[0].most.wait_ns, 25_000_000);
}

#[test]
fn it_is_read_as_it_was_written() {
    let unnamed = Frame { is_code: false, ..Frame::unnamed(0x12, Some("shop".to_owned()), false) };
    let stacks = vec![
        stack(Doing::Asleep, Some(actor(901)), &["f"], 10),
        BlamedStack { frames: vec![unnamed, Frame::remark("no stack")], ..stack(Doing::Nobody, None, &[], 1) },
    ];
    let blame = Blame { listeners: vec![blamed(7, stacks)], remarks: vec!["a loss".to_owned()], unavailable: None };
    let text = serde_json::to_string(&blame).expect("it can be written");
    assert_eq!(serde_json::from_str::<Blame>(&text).expect("it can be read"), blame);
}
