//! Which listeners are shown.

use clap::Args;
use listentop_model::model::{ListenerModel, Model};

use super::options::number;
use crate::source;

/// A listener is shown if it fits every filter that is given, and any value of each.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Filter {
    /// Only listeners on this port (repeatable)
    #[arg(long, global = true, value_name = "PORT", value_parser = port)]
    pub(super) port: Vec<u16>,
    /// Only listeners that this process holds, or works for: that its threads accepted from, or whose connections they
    /// read or wrote (repeatable)
    #[arg(long, global = true, value_name = "PID", value_parser = pid)]
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
    /// In clock ticks since boot: an id may be given to another process.
    started: u64,
}

fn port(text: &str) -> Result<u16, String> {
    // It fits: that is what the greatest says.
    number(text, "a port", u16::MAX.into()).map(|port| port as u16)
}

fn pid(text: &str) -> Result<u32, String> {
    // The kernel's PID_MAX_LIMIT.
    number(text, "a process id", 1 << 22)
}

impl Filter {
    /// Leaves only what fits.
    pub(super) fn apply(&self, model: &mut Model) {
        if self.is_empty() {
            return;
        }
        model.retain(|listener| self.fits(listener));
        if !self.netns.is_empty() {
            model.namespaces.retain(|namespace| self.fits_netns(namespace.inode, namespace.name.as_deref()));
        }
    }

    /// Looks whether what the filters name is there. Returns the processes among it.
    ///
    /// # Errors
    /// What is not there, in one line: nothing could pass.
    pub(super) fn check(&self) -> Result<Vec<NamedProcess>, String> {
        for netns in &self.netns {
            if !source::namespace_is_shown(netns) {
                return Err(format!(
                    "--netns {netns}: neither /run/netns nor a process that may be seen shows such a network namespace"
                ));
            }
        }
        let named = |&pid: &u32| match (source::process_of(pid), source::start_ticks(pid)) {
            (Some(process), _) if process != pid => {
                Err(format!("--pid {pid}: that is a thread; its process is --pid {process}"))
            }
            (Some(_), Some(started)) => Ok(NamedProcess { pid, started }),
            _ => Err(format!("--pid {pid}: there is no such process, or none that may be seen")),
        };
        self.pid.iter().map(named).collect()
    }

    /// What a reader has to know about the filters at the end of a report, in lines; `named` is of its start.
    pub(super) fn remarks(&self, model: &Model, named: &[NamedProcess]) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.is_empty() && model.listeners.is_empty() {
            remarks.push(format!("no listener passed the filter: {self}"));
        }
        let ended = named.iter().filter(|process| source::start_ticks(process.pid) != Some(process.started));
        remarks.extend(ended.map(|process| format!("process {} ended while it was measured", process.pid)));
        remarks
    }

    /// Whether nothing is filtered.
    pub(super) fn is_empty(&self) -> bool {
        self.port.is_empty() && self.pid.is_empty() && self.comm.is_empty() && self.netns.is_empty()
    }

    fn fits(&self, listener: &ListenerModel) -> bool {
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
            && (self.netns.is_empty() || self.fits_netns(listener.netns, listener.netns_name.as_deref()))
    }

    fn fits_netns(&self, inode: u32, name: Option<&str>) -> bool {
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
        // Who holds it beside the one that is shown counts, and so does who only works for it.
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
