//! Tests of small things that everything rests on: lists, distributions, histories, losses.

use std::sync::Arc;

use listentop_abi::histogram::{BUCKETS, index, lower_bound};

use crate::{
    coverage::{Measure, Status},
    histogram::Histogram,
    history::{History, HistoryPoint},
    sample::Losses,
    shared::Shared,
};

#[test]
fn a_shared_list_is_a_list() {
    let mut list = Shared::from(vec![3, 5, 7]);
    assert_eq!((list.len(), list.is_empty(), list.get(1), list.get(3)), (3, false, Some(&5), None));
    assert!(Shared::<u8>::default().is_empty());
    list.push(9);
    list[0] = 4;
    list.iter_mut().for_each(|item| *item += 1);
    (&mut list).into_iter().for_each(|item| *item *= 2);
    assert_eq!(list.iter().copied().collect::<Vec<_>>(), [10, 12, 16, 20]);
    assert_eq!(*list.remove(1), 12);
    list.retain(|item| *item != 16);
    list.extend([Arc::new(1)]);
    assert_eq!((&list).into_iter().copied().collect::<Vec<_>>(), [10, 20, 1]);
    list.handles_mut().reverse();
    assert_eq!(list[2], 10);
}

#[test]
fn a_value_of_a_distribution_is_its_buckets_middle() {
    assert!(Histogram::default().is_empty());
    let histogram = Histogram::of_units([64]);
    assert!(!histogram.is_empty());
    // The bucket holds 64 to 71.
    assert_eq!((histogram.quantile_units(0.5), histogram.quantile_ns(0.5)), (Some(67), Some(68 * 128)));
    assert_eq!((histogram.max_units(), histogram.max_us()), (Some(71), Some(10)));
}

#[test]
fn a_bucket_beyond_the_layout_is_the_last() {
    for buckets in [vec![(5, 1), (u16::MAX, 1)], vec![(u16::MAX, 1)]] {
        let histogram = Histogram { buckets };
        let bars = histogram.bars(1_000);
        assert_eq!(bars.last().unwrap().high, lower_bound(BUCKETS));
        assert_eq!(bars.last().unwrap().low, lower_bound(BUCKETS - 1));
        assert_eq!(histogram.max_units(), Some(lower_bound(BUCKETS) - 1));
    }
}

#[test]
fn what_a_distribution_lost_is_a_new_beginning() {
    let bucket = |value| index(value) as u16;
    let earlier = Histogram { buckets: vec![(bucket(10), 1), (bucket(100), 1)] };
    let now = Histogram { buckets: vec![(bucket(100), 1), (bucket(1_000), 1)] };
    assert_eq!(now.since(&earlier), None);
    assert_eq!(Histogram::default().since(&earlier), None);
}

#[test]
fn a_history_is_steady_from_its_last_change_on() {
    let mut history = History::default();
    assert!(history.is_steady_from(0));
    history.push(5, HistoryPoint { accept_depth: 1, ..HistoryPoint::default() });
    assert_eq!([4, 5, 6].map(|step| history.is_steady_from(step)), [false, true, true]);
}

#[test]
fn skipped_runs_and_doubtful_shards_are_no_losses() {
    let losses = Losses {
        listeners: 1,
        connections: 20,
        threads: 300,
        missed_runs: 4_000,
        unseen: 50_000,
        ambiguous: 600_000,
        other: 7_000_000,
    };
    assert_eq!(losses.total(), 7_050_321);
    assert_eq!(losses.since(&Losses::default()), losses);
    let later = Losses { unseen: 50_001, other: 7_000_010, ..losses.clone() };
    assert_eq!(later.since(&losses), Losses { unseen: 1, other: 10, ..Losses::default() });
}

#[test]
fn what_is_covered_is_displayed_by_its_name() {
    let statuses = [Status::Measured, Status::Sampled, Status::Unavailable].map(|status| status.to_string());
    assert_eq!(statuses, ["measured", "sampled", "unavailable"]);
    assert_eq!(Measure::AcceptWait.to_string(), "accept_wait");
}
