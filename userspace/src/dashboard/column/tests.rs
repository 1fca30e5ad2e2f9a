//! What columns show and how rows are sorted by them.

use listentop_model::{fixtures, tracker::Tracker};

use super::*;

fn model() -> Model {
    let samples = fixtures::overflow();
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    tracker.model().clone()
}

#[test]
fn labels_fit_their_columns() {
    for column in Column::ALL {
        let spec = column.spec();
        // One more for the mark of the order.
        let room = spec.width + u16::from(!spec.right);
        assert!(words::width(spec.label) < room.into() || !column.sortable(), "{}", spec.label);
        assert!(spec.max >= spec.width);
    }
}

#[test]
fn every_column_has_a_name_and_a_sentence_of_its_own() {
    for (i, column) in Column::ALL.into_iter().enumerate() {
        let spec = column.spec();
        assert!(!spec.name.is_empty() && spec.help.ends_with('.') && spec.normal.ends_with('.'), "{column:?}");
        for other in Column::ALL[..i].iter().map(|other| other.spec()) {
            assert!(other.name != spec.name && other.help != spec.help, "{column:?}");
        }
    }
}

#[test]
fn sorting_goes_round_and_skips_what_has_no_order() {
    let round = |step: isize| {
        let mut column = Column::Severity;
        let mut seen = Vec::new();
        loop {
            seen.push(column);
            column = column.beside(step);
            if column == Column::Severity {
                return seen;
            }
        }
    };
    let sortable: Vec<Column> = Column::ALL.into_iter().filter(|c| c.sortable()).collect();
    assert_eq!(sortable.len(), Column::ALL.len() - 2);
    assert_eq!(round(1), sortable);
    let mut backwards = round(-1);
    backwards[1..].reverse();
    assert_eq!(backwards, sortable);
}

#[test]
fn texts_are_of_the_figures_that_the_column_is_about() {
    let mut model = model();
    model.coverage.iter_mut().for_each(|coverage| coverage.status = Status::Measured);
    let listener = &mut model.listeners[0];
    listener.findings.truncate(1);
    listener.findings[0].summary = "It is full.".to_owned();
    (listener.address, listener.port) = ("127.0.0.1".parse().expect("an address"), 8080);
    listener.netns_name = Some("blue".to_owned());
    let now = &mut listener.now;
    (now.syn_depth, now.syn_young, now.accept_depth, now.limit) = (Some(11), Some(7), 12, 129);
    (now.accept_peak, now.open, now.oldest_waiting_us) = (Some(13), Some(14), Some(15_000));
    let rates = &mut listener.rate;
    (rates.accepts, rates.drops, rates.reads) = (Some(16.0), Some(17.0), Some(18.0));
    listener.recent_drops = Drops { syn_queue_full: Some(1), ..Drops::default() };
    // In units of 128 ns: 90 of 100 values, and ten that are slower.
    let wait = |fast: u64, slow: u64| {
        let mut histogram = Histogram::of_units(std::iter::repeat_n(fast * 1_000 / 128, 90));
        histogram.merge(&Histogram::of_units(std::iter::repeat_n(slow * 1_000 / 128, 10)));
        Some(histogram)
    };
    listener.recent_distributions.accept_wait = wait(100, 20_000);
    listener.recent_distributions.residency = wait(100, 30_000);
    let text = |column: Column| column.text(Item::One(&model.listeners[0]), &model);
    for (column, expected) in [
        (Column::Severity, "!"),
        (Column::Listener, "127.0.0.1:8080"),
        (Column::Process, "demo-server[2201]"),
        (Column::Netns, "blue"),
        (Column::SynQueue, "11/7"),
        (Column::AcceptQueue, "12/129"),
        (Column::Peak, "13"),
        (Column::Trend, ""),
        (Column::Accepts, "16"),
        (Column::Oldest, "15ms"),
        (Column::Drops, "17"),
        (Column::Cause, "SYN queue full"),
        (Column::Reads, "18"),
        (Column::Open, "14"),
        (Column::Finding, "accept queue overflow: It is full."),
    ] {
        assert_eq!(text(column), expected, "{column:?}");
    }
    for (column, least, most) in [(Column::WaitP50, 94, 107), (Column::WaitP99, 18, 22), (Column::ResidencyP99, 28, 32)]
    {
        let text = text(column);
        let number: u64 = text.trim_end_matches(['µ', 'm', 's']).parse().expect(&text);
        assert!((least..=most).contains(&number), "{column:?}: {text}");
    }
    model.listeners[0].now.oldest_waiting_us = Some(0);
    assert_eq!(Column::Oldest.text(Item::One(&model.listeners[0]), &model), "-");
}

#[test]
fn texts_have_the_mark_of_their_status() {
    let mut model = model();
    model.listeners[0].rate.accepts = Some(16.0);
    let text = |model: &Model| Column::Accepts.text(Item::One(&model.listeners[0]), model);
    model.coverage.iter_mut().for_each(|coverage| coverage.status = Status::Sampled);
    assert_eq!(text(&model), "~16");
    model.listeners[0].rate.accepts = None;
    model.coverage.iter_mut().for_each(|coverage| coverage.status = Status::Unavailable);
    assert_eq!(text(&model), "n/a");
}

#[test]
fn the_most_frequent_cause_of_lately_comes_before_that_of_the_interval() {
    let mut model = model();
    let cause = |recent: Drops, interval: Drops, model: &mut Model| {
        (model.listeners[0].recent_drops, model.listeners[0].drops) = (recent, interval);
        dominant_cause(Item::One(&model.listeners[0]))
    };
    let none = Drops::default();
    for (drops, name) in [
        (Drops { accept_queue_full_on_syn: Some(3), other: Some(2), ..none }, "accept full/SYN"),
        (Drops { accept_queue_full_on_ack: Some(3), other: Some(2), ..none }, "accept full/ACK"),
        (Drops { syn_queue_full: Some(3), other: Some(2), ..none }, "SYN queue full"),
        (Drops { other: Some(3), unexplained: Some(2), ..none }, "other"),
        (Drops { unexplained: Some(3), other: Some(2), ..none }, "unexplained"),
    ] {
        let earlier = Drops { other: Some(9), ..none };
        assert_eq!(cause(drops, earlier, &mut model), Some(name));
        let nothing = Drops { other: Some(0), ..none };
        assert_eq!(cause(nothing, drops, &mut model), Some(name));
    }
    assert_eq!(cause(none, none, &mut model), None);
}

#[test]
fn keys_of_one_kind_have_an_order_and_unknown_is_last() {
    use Ordering::{Equal, Greater, Less};
    for (a, b, ascending, descending) in [
        (Key::Unknown, Key::Unknown, Equal, Equal),
        (Key::Unknown, Key::Number(1.0), Greater, Greater),
        (Key::Number(1.0), Key::Unknown, Less, Less),
        (Key::Number(1.0), Key::Number(2.0), Less, Greater),
        (Key::Text("a"), Key::Text("b"), Less, Greater),
        (Key::Number(9.0), Key::Text("a"), Less, Greater),
        (Key::Text("a"), Key::Number(9.0), Greater, Less),
    ] {
        assert_eq!((Key::compare(&a, &b, false), Key::compare(&a, &b, true)), (ascending, descending), "{a:?} {b:?}");
    }
}

#[test]
fn numbers_stand_at_the_right_and_names_at_the_left() {
    let left: Vec<Column> = Column::ALL.into_iter().filter(|column| !column.spec().right).collect();
    use Column::*;
    assert_eq!(left, [Severity, Listener, Process, Netns, Container, AcceptQueue, Trend, Cause, Pattern, Finding]);
}
