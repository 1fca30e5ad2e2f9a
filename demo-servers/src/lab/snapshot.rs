//! What is known at one moment, and the figures in it.

use super::counters::Processes;
use super::sampler::Queue;
use crate::stress::summary::Distribution;
use lessons::Lesson;
use lessons::figure::{Figure, Key, Pick, Source};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// All figures at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    /// Seconds since the measuring began.
    pub(super) seconds: f64,
    /// listentop's report.
    pub(super) report: Option<Value>,
    /// What `listentop blame` printed, or why it printed nothing; `None` before its end.
    pub(super) blame: Option<Result<Value, String>>,
    /// What each server printed last.
    pub(super) servers: BTreeMap<String, Value>,
    /// What each server had printed before listentop's report was made.
    pub(super) servers_before: BTreeMap<String, Value>,
    /// What each load printed last.
    pub(super) loads: BTreeMap<String, Value>,
    /// The namespace's counters.
    pub(super) kernel: BTreeMap<String, u64>,
    /// The accept queues by port.
    pub(super) queues: BTreeMap<u16, Queue>,
    /// The processes of servers and loads by name.
    pub(super) processes: BTreeMap<String, Processes>,
    /// How late the lab's own thread, which sleeps for 2 ms again and again, got a CPU.
    pub(super) late_us: Distribution,
}

impl Snapshot {
    /// The values of a figure; NaN for what is there and is no number.
    ///
    /// # Errors
    /// Why it is unknown.
    pub(super) fn values(&self, lesson: &Lesson, figure: &Figure) -> Result<Vec<f64>, String> {
        let name = figure.name.as_deref().unwrap_or_default();
        let missing = |what: &str| format!("{what} of {name}");
        let root = match figure.source {
            Source::Listentop => self.of_listentop(lesson, figure.name.as_deref())?,
            Source::Blame => self.of_blame(lesson, figure.name.as_deref())?,
            Source::Server => self.servers.get(name).cloned().ok_or_else(|| missing("no counters"))?,
            Source::Load => self.loads.get(name).cloned().ok_or_else(|| missing("no summary"))?,
            Source::Kernel => json!(self.kernel),
            Source::Queue => {
                let port = lesson.setup.servers.iter().find(|server| server.name == name).map(|server| server.port);
                json!(port.and_then(|port| self.queues.get(&port)).ok_or_else(|| missing("no accept queue"))?)
            }
            Source::Process => json!(self.processes.get(name).ok_or_else(|| missing("no process"))?),
            Source::Run => {
                let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                json!({ "seconds": self.seconds, "cpus": cpus, "late_us": self.late_us })
            }
        };
        let mut values = vec![&root];
        for key in &figure.path {
            let mut next = Vec::new();
            for value in values {
                next.extend(step(value, key)?);
            }
            values = next;
        }
        Ok(values.into_iter().map(number).collect())
    }

    /// The report as a whole, or a server's part of it.
    fn of_listentop(&self, lesson: &Lesson, name: Option<&str>) -> Result<Value, String> {
        match name {
            Some(name) => self.of_server(lesson, name),
            None => self.report.clone().ok_or_else(|| "no report of listentop".to_owned()),
        }
    }

    /// What was blamed as a whole, or for a server's listener.
    fn of_blame(&self, lesson: &Lesson, name: Option<&str>) -> Result<Value, String> {
        let blame = self.blame.as_ref().ok_or("the last step is not over")?.as_ref().map_err(Clone::clone)?;
        let Some(name) = name else { return Ok(blame.clone()) };
        let port = lesson.setup.servers.iter().find(|server| server.name == name).map(|server| server.port);
        let its = |listener: &&Value| port.is_some_and(|port| listener["port"] == port);
        let found: Vec<&Value> = blame["listeners"].as_array().into_iter().flatten().filter(its).collect();
        let [one] = found[..] else { return Err(format!("blame has {} listeners of {name}", found.len())) };
        let mut one = one.clone();
        one["functions"] = functions(&one["stacks"]);
        Ok(one)
    }

    /// A server's listener in the report, or its group.
    ///
    /// # Errors
    /// Why it is unknown.
    pub(super) fn of_server(&self, lesson: &Lesson, name: &str) -> Result<Value, String> {
        let report = self.report.as_ref().ok_or("no report of listentop")?;
        let server = lesson.setup.servers.iter().find(|server| server.name == name).ok_or("no such server")?;
        let shared = lesson.setup.servers.iter().filter(|other| other.port == server.port).count() > 1;
        // The kernel keeps 15 bytes of a process's name.
        let comm = &name[..name.len().min(15)];
        let its =
            |listener: &&Value| listener["port"] == server.port && (!shared || listener["process"]["comm"] == comm);
        let listeners: Vec<&Value> = report["listeners"].as_array().into_iter().flatten().filter(its).collect();
        match listeners[..] {
            [] => Err(format!("listentop shows no listener of {name}")),
            [one] => {
                let mut one = one.clone();
                one["shards"] = json!([one.clone()]);
                Ok(one)
            }
            ref several => {
                let id = |listener: &Value| listener["id"].as_u64();
                let is_group = |group: &&Value| {
                    let shards = group["shards"].as_array().map_or(&[][..], Vec::as_slice);
                    several.iter().any(|shard| shards.iter().any(|id_| id_.as_u64() == id(shard)))
                };
                let group = report["groups"].as_array().into_iter().flatten().find(is_group);
                let mut group = group.cloned().ok_or_else(|| format!("{} listeners of {name}", several.len()))?;
                group["shards"] = json!(several);
                let threads = several.iter().filter_map(|shard| shard["threads"].as_array()).flatten();
                group["threads"] = Value::Array(threads.cloned().collect());
                Ok(group)
            }
        }
    }
}

/// Each function of stacks, by state: its name without the path, and what the stacks that it is in are charged with.
fn functions(stacks: &Value) -> Value {
    let mut all: BTreeMap<(&str, &str), (f64, u64)> = BTreeMap::new();
    for stack in stacks.as_array().into_iter().flatten() {
        let names = stack["frames"].as_array().into_iter().flatten().filter_map(|frame| frame["function"].as_str());
        // One that calls itself is charged once.
        let names: BTreeSet<&str> = names.map(|name| name.rsplit("::").next().unwrap_or(name)).collect();
        for name in names {
            let (share, wait_us) = all.entry((name, stack["state"].as_str().unwrap_or_default())).or_default();
            *share += stack["share"].as_f64().unwrap_or_default();
            *wait_us += stack["wait_us"].as_u64().unwrap_or_default();
        }
    }
    all.into_iter()
        .map(|((name, state), (share, wait_us))| {
            json!({ "name": name, "state": state, "share": share, "wait_us": wait_us })
        })
        .collect()
}

/// The values behind a key.
fn step<'a>(value: &'a Value, key: &Key) -> Result<Vec<&'a Value>, String> {
    let member = match value.get(&key.member) {
        None => return Err(format!("there is no {}", key.member)),
        Some(Value::Null) => return Err(format!("{} is not known", key.member)),
        Some(member) => member,
    };
    let Some(pick) = &key.pick else { return Ok(vec![member]) };
    let list = match member {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    };
    Ok(match pick {
        Pick::All => list,
        Pick::At(place) => list.get(*place).copied().into_iter().collect(),
        Pick::Named(name) => list.into_iter().filter(|element| is_named(element, name)).collect(),
    })
}

fn is_named(element: &Value, name: &str) -> bool {
    let matches = |text: &str| text == name || text.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    if let Some(text) = element.as_str() {
        return matches(text);
    }
    ["id", "name", "role", "comm"].iter().any(|member| element[*member].as_str().is_some_and(matches))
        || element["roles"].as_array().is_some_and(|roles| roles.iter().any(|role| role == name))
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        other => other.as_f64().unwrap_or(f64::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lessons::figure::parse;

    fn value(snapshot: &Snapshot, text: &str) -> Result<f64, String> {
        let lesson = lessons::find("patterns").unwrap();
        parse(text).unwrap().value(&mut |figure| snapshot.values(lesson, figure))
    }

    fn snapshot() -> Snapshot {
        let single = json!({
            "id": 1, "port": 7001, "accepts": {"total": 5}, "drops": {"total": null}, "pattern": {"name": "single_thread"},
            "findings": [{"id": "slow_accept"}],
            "threads": [
                {"comm": "reader-1", "roles": ["reader"], "accepts": 0, "reads": 3},
                {"comm": "acceptor", "roles": ["acceptor"], "accepts": 5, "reads": 0},
            ],
        });
        let shard = |id, depth| json!({"id": id, "port": 7005, "accept_queue": {"depth": depth}, "threads": [{"comm": format!("shard-{id}")}]});
        Snapshot {
            seconds: 4.0,
            report: Some(json!({
                "listeners": [single, shard(7, 1), shard(8, 6)],
                "groups": [{"id": "tcp/x:7005", "shards": [7, 8], "accept_queue": {"depth": 7}}],
                "own_cost": {"lost_events": 2},
            })),
            blame: Some(Ok(json!({ "total_wait_us": 20, "listeners": [{
                "port": 7001, "total_wait_us": 20, "states": {"asleep": {"wait_us": 15, "share": 0.75}},
                "stacks": [
                    {"state": "asleep", "wait_us": 10, "share": 0.5,
                     "frames": [{"function": "lock"}, {"function": "shop::reserve"}, {"function": "shop::reserve"}]},
                    {"state": "asleep", "wait_us": 5, "share": 0.25, "frames": [{"function": "shop::reserve"}]},
                    {"state": "running", "wait_us": 5, "share": 0.25, "frames": [{"function": null}]},
                ],
            }]}))),
            servers: [("sharded".to_owned(), json!({"total": {"accepts": 9}}))].into(),
            kernel: [("TcpExtListenDrops".to_owned(), 3)].into(),
            queues: [(7001, Queue { mean: 1.5, ..Queue::default() })].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn figures_are_found_by_their_paths() {
        let snapshot = snapshot();
        for (text, expected) in [
            ("listentop:single_thread:accepts.total", 5.0),
            ("listentop:own_cost.lost_events", 2.0),
            ("listentop:sharded:accept_queue.depth", 7.0),
            ("max(listentop:sharded:shards[*].accept_queue.depth)", 6.0),
            ("count(listentop:sharded:threads[shard])", 2.0),
            ("sum(listentop:single_thread:threads[*].reads)", 3.0),
            ("sum(listentop:single_thread:threads[acceptor].accepts)", 5.0),
            ("sum(listentop:single_thread:threads[reader].reads)", 3.0),
            ("listentop:single_thread:threads[1].accepts", 5.0),
            ("count(listentop:single_thread:findings[slow_accept])", 1.0),
            ("count(listentop:single_thread:findings[dead_shard])", 0.0),
            ("count(listentop:single_thread:pattern[single_thread])", 1.0),
            ("count(listentop:single_thread:pattern.name[single_thread])", 1.0),
            ("count(listentop:single_thread:pattern[sharded])", 0.0),
            ("count(listentop:single_thread:shards[*])", 1.0),
            ("server:sharded:total.accepts", 9.0),
            ("kernel:TcpExtListenDrops", 3.0),
            ("queue:single_thread:mean", 1.5),
            ("blame:total_wait_us", 20.0),
            ("blame:single_thread:states.asleep.share", 0.75),
            ("sum(blame:single_thread:functions[reserve].wait_us)", 15.0),
            ("sum(blame:single_thread:functions[elsewhere].wait_us)", 0.0),
            ("run:seconds", 4.0),
        ] {
            assert_eq!(value(&snapshot, text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_0() {
        let snapshot = snapshot();
        for text in [
            "listentop:single_thread:drops.total",
            "listentop:single_thread:pattern.name",
            "listentop:multi_acceptor:accepts.total",
            "server:single_thread:total.accepts",
            "load:sharded:due",
            "kernel:TcpExtNothing",
            "queue:sharded:mean",
            "process:sharded:cpu_ms",
            "blame:sharded:total_wait_us",
        ] {
            assert!(value(&snapshot, text).is_err(), "{text}");
        }
        let early = Snapshot { blame: None, ..snapshot.clone() };
        let refused = Snapshot { blame: Some(Err("so".to_owned())), ..snapshot };
        for blamed in [early, refused] {
            assert!(value(&blamed, "blame:total_wait_us").is_err());
        }
    }
}
