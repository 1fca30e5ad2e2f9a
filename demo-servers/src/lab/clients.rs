//! The clients' side while a lesson runs: what they got, beside the depth of their server's queue at the same moments.

use super::snapshot::Snapshot;
use lab_control::{Client, Tick};
use lessons::Lesson;
use serde_json::Value;
use std::collections::BTreeMap;

/// Moments that are kept: the last half minute.
const KEPT: usize = 60;

/// What is remembered of each load.
#[derive(Debug, Default)]
pub(super) struct Clients(BTreeMap<&'static str, Course>);

#[derive(Debug, Default)]
struct Course {
    /// What it was at the last moment.
    last: Client,
    answers: u64,
    ticks: Vec<Tick>,
}

impl Clients {
    /// Takes the figures of a moment. Loads without a summary are left out.
    pub(super) fn take(&mut self, lesson: &Lesson, now: &Snapshot, monotonic_ns: u64) -> Vec<Client> {
        let mut clients = Vec::new();
        for load in lesson.setup.loads {
            let Some(summary) = now.loads.get(load.name) else { continue };
            let port = lesson.setup.servers.iter().find(|server| server.name == load.server).map_or(0, |one| one.port);
            let mut client = read(load.name, port, summary);
            let course = self.0.entry(load.name).or_default();
            let answers = summary["responses"].as_u64().unwrap_or(0);
            let failed = more(&client.failed, &course.last.failed);
            let syn_again = client.syn_again.saturating_sub(course.last.syn_again);
            // A load that has ended says the same for ever.
            let is_new = answers > course.answers;
            let recent = |quantile: &str| {
                let micros = summary["recent_answers_us"][quantile].as_u64().filter(|_| is_new);
                micros.map(|micros| micros as f64 / 1000.0)
            };
            course.ticks.push(Tick {
                monotonic_ns,
                answers: answers.saturating_sub(course.answers),
                p50_ms: recent("p50"),
                p99_ms: recent("p99"),
                syn_again,
                syn_twice: client.syn_twice.saturating_sub(course.last.syn_twice),
                trouble: syn_again + failed.iter().map(|(_, count)| count).sum::<u64>(),
                failed,
                depth: now.queues.get(&port).map_or(0, |queue| queue.last),
            });
            course.answers = answers;
            course.last = client.clone();
            let spare = course.ticks.len().saturating_sub(KEPT);
            course.ticks.drain(..spare);
            client.ticks.clone_from(&course.ticks);
            clients.push(client);
        }
        clients
    }
}

/// What was added to each kind.
fn more(now: &[(String, u64)], before: &[(String, u64)]) -> Vec<(String, u64)> {
    let before = |kind: &str| before.iter().find(|(known, _)| known == kind).map_or(0, |(_, count)| *count);
    let added = now.iter().map(|(kind, count)| (kind.clone(), count.saturating_sub(before(kind))));
    added.filter(|(_, count)| *count > 0).collect()
}

fn read(name: &str, port: u16, summary: &Value) -> Client {
    let number = |path: &str| summary.pointer(path).and_then(Value::as_u64);
    let milliseconds = |path: &str| number(path).map(|micros| micros as f64 / 1000.0);
    let [one, two, more] =
        ["one", "two", "three_or_more"].map(|times| number(&format!("/syn_retries/{times}")).unwrap_or(0));
    let mut failed = Vec::new();
    failures(&summary["failures"], &mut failed);
    Client {
        name: name.to_owned(),
        port,
        due: number("/due").unwrap_or(0),
        served: number("/completed").unwrap_or(0),
        answers: number("/delay_us/count").max(number("/responses")).unwrap_or(0),
        p50_ms: milliseconds("/first_response_us/p50"),
        p99_ms: milliseconds("/first_response_us/p99"),
        syn_again: one + two + more,
        syn_twice: two + more,
        failed,
        ticks: Vec::new(),
    }
}

/// Kinds of failures with their numbers, those that happened: `timeout` of a connect and of a response are one kind.
fn failures(value: &Value, into: &mut Vec<(String, u64)>) {
    for (kind, value) in value.as_object().into_iter().flatten() {
        match value.as_u64() {
            None => failures(value, into),
            Some(0) => {}
            Some(count) => match into.iter_mut().find(|(known, _)| known == kind) {
                Some((_, sum)) => *sum += count,
                None => into.push((kind.clone(), count)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sampler::Queue;
    use super::*;
    use serde_json::json;

    fn moment(answers: u64, retries: u64, timeouts: u64, depth: u64) -> Snapshot {
        let summary = json!({
            "due": 100, "completed": answers / 5, "responses": answers,
            "syn_retries": {"one": retries, "two": 1, "three_or_more": 0},
            "failures": {"connect": {"timeout": timeouts, "reset": 0}, "response": {"timeout": 2}},
            "first_response_us": {"p50": 1500, "p99": null},
            "recent_answers_us": {"p50": 1000 * answers, "p99": null},
        });
        Snapshot {
            loads: [("slow_acceptor".to_owned(), summary)].into(),
            queues: [(7001, Queue { last: depth, ..Queue::default() })].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_tick_is_what_was_added_since_the_last_one() {
        let lesson = lessons::find("overflow").unwrap();
        let mut clients = Clients::default();
        assert!(clients.take(lesson, &Snapshot::default(), 1).is_empty(), "no load has printed anything");
        clients.take(lesson, &moment(10, 3, 0, 4), 2);
        let seen = clients.take(lesson, &moment(25, 5, 1, 9), 3).remove(0);
        assert_eq!((seen.due, seen.served, seen.syn_again, seen.syn_twice, seen.port), (100, 5, 6, 1, 7001));
        assert_eq!((seen.p50_ms, seen.p99_ms), (Some(1.5), None));
        assert_eq!(seen.failed, [("timeout".to_owned(), 3)]);
        let [first, second] = &seen.ticks[..] else { panic!("{seen:?}") };
        assert_eq!((first.answers, first.trouble, first.depth), (10, 6, 4));
        assert_eq!((second.answers, second.trouble, second.depth), (15, 3, 9));
        assert_eq!((second.monotonic_ns, second.p50_ms, second.p99_ms), (3, Some(25.0), None));
        assert_eq!((first.syn_again, first.syn_twice), (4, 1));
        assert_eq!((second.syn_again, second.syn_twice), (2, 0), "what came after the first");
        assert_eq!(first.failed, [("timeout".to_owned(), 2)]);
        assert_eq!(second.failed, [("timeout".to_owned(), 1)], "of a connect; the answers' are as they were");
        for _ in 0..200 {
            clients.take(lesson, &moment(25, 5, 1, 9), 4);
        }
        assert_eq!(clients.take(lesson, &moment(25, 5, 1, 9), 4)[0].ticks.len(), KEPT);
    }
}
