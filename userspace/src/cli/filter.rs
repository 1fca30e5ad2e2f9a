//! Which listeners are shown.

use clap::Args;
use listentop_model::model::{ListenerModel, Model};

use super::values;
use crate::source;

/// A listener is shown if it passes every filter that is given; of each filter, any value is enough.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Filter {
    /// Only listeners on this port (repeatable)
    #[arg(long, global = true, value_name = "PORT", value_parser = values::port)]
    pub(super) port: Vec<u16>,
    /// Only listeners that this process holds, that its threads accepted from, or whose connections they read or wrote
    /// (repeatable)
    #[arg(long, global = true, value_name = "PID", value_parser = values::pid)]
    pub(super) pid: Vec<u32>,
    /// Only listeners of processes or threads with this name (repeatable)
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) comm: Vec<String>,
    /// Only listeners in this network namespace, by name or inode number (repeatable)
    #[arg(long, global = true, value_name = "NAME|INODE")]
    pub(super) netns: Vec<String>,
}

/// A process that a filter names, as it was at the start.
#[derive(Debug)]
pub(super) struct NamedProcess {
    pid: u32,
    /// In clock ticks since boot: the id may later belong to another process.
    started: u64,
}

impl Filter {
    /// Keeps only what passes.
    pub(super) fn apply(&self, model: &mut Model) {
        if self.is_empty() {
            return;
        }
        model.retain(|listener| self.passes(listener));
        if !self.netns.is_empty() {
            model.namespaces.retain(|namespace| self.passes_netns(namespace.id.inode, namespace.name.as_deref()));
        }
    }

    /// Checks that the processes and namespaces that the filters name exist. Returns the processes.
    ///
    /// # Errors
    /// One does not exist, so that no listener can pass: in one line, which.
    pub(super) fn check(&self) -> Result<Vec<NamedProcess>, String> {
        for netns in &self.netns {
            if !source::namespace_is_shown(netns) {
                return Err(format!(
                    "--netns {netns}: neither /run/netns nor a process visible here has such a network namespace"
                ));
            }
        }
        let named = |&pid: &u32| match (source::process_of(pid), source::start_ticks(pid)) {
            (Some(process), _) if process != pid => {
                Err(format!("--pid {pid}: that is a thread; its process is --pid {process}"))
            }
            (Some(_), Some(started)) => Ok(NamedProcess { pid, started }),
            _ => Err(format!("--pid {pid}: there is no such process, or it is not visible")),
        };
        self.pid.iter().map(named).collect()
    }

    /// What a reader must know about the filters at the end of a report, in lines. `named` are the processes that
    /// existed at its start.
    pub(super) fn remarks(&self, model: &Model, named: &[NamedProcess]) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.is_empty() && model.listeners.is_empty() {
            remarks.push(format!("no listener passed the filter: {self}"));
        }
        let ended = named.iter().filter(|process| source::start_ticks(process.pid) != Some(process.started));
        remarks.extend(ended.map(|process| format!("process {} ended while it was measured", process.pid)));
        remarks
    }

    /// Whether there is no filter.
    pub(super) fn is_empty(&self) -> bool {
        self.port.is_empty() && self.pid.is_empty() && self.comm.is_empty() && self.netns.is_empty()
    }

    fn passes(&self, listener: &ListenerModel) -> bool {
        let process = listener.process.as_ref();
        let any_pid = |pid: &u32| {
            process.is_some_and(|p| p.pid == *pid)
                || listener.holders.contains(pid)
                || listener.threads.iter().any(|t| t.pid == *pid)
        };
        let any_comm = |comm: &String| {
            process.is_some_and(|p| p.comm == *comm) || listener.threads.iter().any(|t| t.comm == *comm)
        };
        (self.port.is_empty() || self.port.contains(&listener.port))
            && (self.pid.is_empty() || self.pid.iter().any(any_pid))
            && (self.comm.is_empty() || self.comm.iter().any(any_comm))
            && (self.netns.is_empty() || self.passes_netns(listener.netns, listener.netns_name.as_deref()))
    }

    fn passes_netns(&self, inode: u32, name: Option<&str>) -> bool {
        self.netns.iter().any(|wanted| name == Some(wanted) || wanted.parse() == Ok(inode))
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        words.extend(self.port.iter().map(|port| format!("--port {port}")));
        words.extend(self.pid.iter().map(|pid| format!("--pid {pid}")));
        words.extend(self.comm.iter().map(|comm| format!("--comm {comm}")));
        words.extend(self.netns.iter().map(|netns| format!("--netns {netns}")));
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;

    fn ports(filter: &Filter) -> Vec<u16> {
        let mut samples = fixtures::quiet();
        samples.iter_mut().for_each(|sample| sample.listeners[1].holders = vec![77, 78]);
        let mut tracker = Tracker::new(&samples[0]);
        for sample in &samples[1..] {
            tracker.push(sample);
        }
        let mut model = tracker.model().clone();
        filter.apply(&mut model);
        model.listeners.iter().map(|listener| listener.port).collect()
    }

    #[test]
    fn each_filter_narrows_and_its_values_widen() {
        let all = ports(&Filter::default());
        assert!(all.len() >= 3, "{all:?}");
        let (first, second) = (all[0], all[1]);
        assert_eq!(ports(&Filter { port: vec![first], ..Filter::default() }), [first]);
        assert_eq!(ports(&Filter { port: vec![first, second], ..Filter::default() }).len(), 2);
        assert_eq!(ports(&Filter { port: vec![first], pid: vec![u32::MAX], ..Filter::default() }), [] as [u16; 0]);
        // Not only the process that is shown counts: so does another holder, and one that only works for it.
        let held = fixtures::quiet()[0].listeners[1].port;
        assert_eq!(ports(&Filter { pid: vec![78], ..Filter::default() }), [held]);
        let (worker, worked) = fixtures::quiet()[0]
            .listeners
            .iter()
            .find_map(|l| {
                l.threads.iter().find(|t| l.process.as_ref().is_some_and(|p| p.pid != t.pid)).map(|t| (t.pid, l.port))
            })
            .expect("the fixture has workers");
        assert_eq!(ports(&Filter { pid: vec![worker], ..Filter::default() }), [worked]);
        assert_eq!(ports(&Filter { comm: vec!["no such name".to_owned()], ..Filter::default() }), [] as [u16; 0]);
        assert_eq!(ports(&Filter { netns: vec!["1".to_owned()], ..Filter::default() }), [] as [u16; 0]);
    }
}
