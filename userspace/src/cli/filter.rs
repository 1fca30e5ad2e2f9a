//! Which listeners are shown.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser as _},
};
use listentop_model::{
    model::{ListenerModel, Model},
    sample::Process,
    words::losses,
};

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
    /// Only listeners of processes or threads with this name; of a longer name its first 15 bytes, which are all that
    /// the kernel keeps (repeatable)
    #[arg(long, global = true, value_name = "NAME", value_parser = OsStringValueParser::new().map(Comm::new))]
    pub(super) comm: Vec<Comm>,
    /// Only listeners in this network namespace, by name or inode number (repeatable)
    #[arg(long, global = true, value_name = "NAME|INODE")]
    pub(super) netns: Vec<String>,
    /// Only listeners of processes in this container, or in one inside it: by name or by id, whole or its beginning
    /// (repeatable)
    #[arg(long, global = true, value_name = "ID|NAME")]
    pub(super) container: Vec<String>,
    /// Only listeners of processes in this pod: by name, by namespace/name, or by id, whole or its beginning
    /// (repeatable)
    #[arg(long, global = true, value_name = "ID|NAME")]
    pub(super) pod: Vec<String>,
    /// Only listeners of processes in this systemd service; `.service` may be left out (repeatable)
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) service: Vec<String>,
}

/// Of a shorter beginning of an id, too many containers have it by chance.
const BEGINNING: usize = 4;

/// Whether a container or a pod is the one that is wanted. Ids are known by their first 12 digits, or whole.
fn is_named(known: &str, wanted: &str) -> bool {
    let is_id =
        |text: &str| text.len() >= BEGINNING && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    known == wanted || is_id(known) && is_id(wanted) && (known.starts_with(wanted) || wanted.starts_with(known))
}

/// Whether a service is the one that is wanted.
fn is_service(known: &str, wanted: &str) -> bool {
    known == wanted || known.strip_suffix(".service") == Some(wanted)
}

/// Bytes of a name that the kernel keeps (`TASK_COMM_LEN`, include/linux/sched.h, without the 0 at the end).
const KEPT: usize = 15;

/// The name of a process or thread to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comm {
    given: OsString,
    /// What the kernel keeps of it, as samples have it: what is no UTF-8 is replaced.
    kept: String,
}

impl Comm {
    fn new(given: OsString) -> Self {
        let bytes = given.as_bytes();
        let kept = String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT)]).into_owned();
        Self { given, kept }
    }

    fn is_cut(&self) -> bool {
        self.given.len() > KEPT
    }
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

    /// What a reader must know about the filters at the start, in lines.
    pub(super) fn notes(&self) -> Vec<String> {
        let cut = self.comm.iter().filter(|comm| comm.is_cut());
        let note = |comm: &Comm| {
            let given = comm.given.to_string_lossy();
            format!("--comm {given}: the kernel keeps {KEPT} bytes of a name, so this looks for '{}'", comm.kept)
        };
        cut.map(note).collect()
    }

    /// Whether there are filters and no listener passed them. `model` is what they left.
    pub(super) fn passed_nothing(&self, model: &Model) -> bool {
        !self.is_empty() && model.listeners.is_empty()
    }

    /// What a reader must know about the filters at the end of a report, in lines. `named` are the processes that
    /// existed at its start.
    pub(super) fn remarks(&self, model: &Model, named: &[NamedProcess]) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.passed_nothing(model) {
            remarks.push(format!("no listener passed the filter: {self}"));
        }
        let ended = named.iter().filter(|process| source::start_ticks(process.pid) != Some(process.started));
        remarks.extend(ended.map(|process| format!("process {} ended while it was measured", process.pid)));
        if !self.is_empty() && !losses::of(&model.losses).is_empty() {
            remarks.push("losses are counted for the whole machine, not only for what the filter passes".to_owned());
        }
        remarks
    }

    /// Whether there is no filter.
    pub(super) fn is_empty(&self) -> bool {
        self.port.is_empty()
            && self.pid.is_empty()
            && self.comm.is_empty()
            && self.netns.is_empty()
            && self.container.is_empty()
            && self.pod.is_empty()
            && self.service.is_empty()
    }

    /// Whether a listener passes.
    pub(super) fn passes(&self, listener: &ListenerModel) -> bool {
        let process = listener.process.as_ref();
        let any_pid = |pid: &u32| {
            process.is_some_and(|p| p.pid == *pid)
                || listener.holders.contains(pid)
                || listener.threads.iter().any(|t| t.pid == *pid)
        };
        // The name of a sum over ended threads is no program's.
        let threads = || listener.threads.iter().filter(|t| t.summed.is_none());
        let any_comm =
            |comm: &Comm| process.is_some_and(|p| p.comm == comm.kept) || threads().any(|t| t.comm == comm.kept);
        (self.port.is_empty() || self.port.contains(&listener.port))
            && (self.pid.is_empty() || self.pid.iter().any(any_pid))
            && (self.comm.is_empty() || self.comm.iter().any(any_comm))
            && (self.netns.is_empty() || self.passes_netns(listener.netns, listener.netns_name.as_deref()))
            && passes_names(&self.container, process, is_container)
            && passes_names(&self.pod, process, is_pod)
            && passes_names(&self.service, process, |p, wanted| {
                p.service.as_deref().is_some_and(|known| is_service(known, wanted))
            })
    }

    fn passes_netns(&self, inode: u32, name: Option<&str>) -> bool {
        self.netns.iter().any(|wanted| name == Some(wanted) || wanted.parse() == Ok(inode))
    }
}

/// Whether nothing is wanted, or the process is in one of it.
fn passes_names(wanted: &[String], process: Option<&Process>, is: fn(&Process, &str) -> bool) -> bool {
    wanted.is_empty() || process.is_some_and(|process| wanted.iter().any(|wanted| is(process, wanted)))
}

/// Whether a process is in this container, or in one inside it.
fn is_container(process: &Process, wanted: &str) -> bool {
    let ids = [&process.container, &process.container_outer];
    process.container_name.as_deref() == Some(wanted) || ids.into_iter().flatten().any(|known| is_named(known, wanted))
}

/// Whether a process is in this pod: by id, by name, or by namespace and name.
fn is_pod(process: &Process, wanted: &str) -> bool {
    let name = process.pod_name.as_deref();
    let in_namespace = wanted
        .split_once('/')
        .is_some_and(|(namespace, pod)| process.pod_namespace.as_deref() == Some(namespace) && name == Some(pod));
    name == Some(wanted) || in_namespace || process.pod.as_deref().is_some_and(|known| is_named(known, wanted))
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        words.extend(self.port.iter().map(|port| format!("--port {port}")));
        words.extend(self.pid.iter().map(|pid| format!("--pid {pid}")));
        words.extend(self.comm.iter().map(|comm| format!("--comm {}", comm.kept)));
        words.extend(self.netns.iter().map(|netns| format!("--netns {netns}")));
        words.extend(self.container.iter().map(|container| format!("--container {container}")));
        words.extend(self.pod.iter().map(|pod| format!("--pod {pod}")));
        words.extend(self.service.iter().map(|service| format!("--service {service}")));
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use listentop_model::{fixtures, sample::ThreadSample, tracker::Tracker};

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
        assert_eq!(
            ports(&Filter { comm: vec![Comm::new("no such name".into())], ..Filter::default() }),
            [] as [u16; 0]
        );
        assert_eq!(ports(&Filter { netns: vec!["1".to_owned()], ..Filter::default() }), [] as [u16; 0]);
    }

    #[test]
    fn a_name_is_that_of_a_program_not_of_a_sum() {
        let mut samples = fixtures::quiet();
        let name = ThreadSample::sum().comm;
        for (reads, sample) in (1..).zip(&mut samples) {
            let of_program = ThreadSample { pid: 77, tid: 77, comm: name.clone(), reads, ..ThreadSample::default() };
            sample.listeners[0].threads.push(ThreadSample { reads, ..ThreadSample::sum() });
            sample.listeners[1].threads.push(of_program);
        }
        let own = samples[0].listeners[1].port;
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let mut model = tracker.model().clone();
        let named = |listener: &ListenerModel| listener.threads.iter().any(|thread| thread.comm == name);
        assert_eq!(model.listeners.iter().filter(|listener| named(listener)).count(), 2, "both are shown");
        Filter { comm: vec![Comm::new(name.clone().into())], ..Filter::default() }.apply(&mut model);
        assert_eq!(model.listeners.iter().map(|listener| listener.port).collect::<Vec<_>>(), [own]);
    }

    #[test]
    fn containers_pods_and_services_are_told_by_name_or_by_the_beginning_of_an_id() {
        let [id, pod] = ["0123456789ab", "2b8e0f6a-1111-4222-8333-444455556666"];
        let whole = format!("{id}{}", "0".repeat(52));
        for (known, wanted, expected) in [
            (id, id, true),
            (id, &whole, true),
            (id, "0123", true),
            (id, "012", false),
            (id, "0124", false),
            (pod, "2b8e0f6a", true),
            ("web", "web", true),
            ("website", "web", false),
            ("beef", "beefcake", false),
        ] {
            assert_eq!(is_named(known, wanted), expected, "{known} {wanted}");
        }
        let services = ["nginx.service", "nginx", "ngin", "nginx.socket"].map(|of| is_service("nginx.service", of));
        assert_eq!(services, [true, true, false, false]);

        let mut samples = fixtures::quiet();
        for sample in &mut samples {
            let names = [("0123456789ab", "2b8e0f6a-1111", "a.service"), ("web", "x", "nginx.service")];
            for (listener, (container, pod, service)) in sample.listeners.iter_mut().zip(names) {
                let process = listener.process.get_or_insert_default();
                process.container = Some(container.to_owned());
                (process.pod, process.service) = (Some(pod.to_owned()), Some(service.to_owned()));
            }
        }
        let [first, second] = [0, 1].map(|at| samples[0].listeners[at].port);
        let shown = |filter: Filter| {
            let mut tracker = Tracker::new(&samples[0]);
            samples[1..].iter().for_each(|sample| tracker.push(sample));
            let mut model = tracker.model().clone();
            filter.apply(&mut model);
            model.listeners.iter().map(|listener| listener.port).collect::<Vec<_>>()
        };
        let named = |name: &str| vec![name.to_owned()];
        assert_eq!(shown(Filter { container: named("0123456789"), ..Filter::default() }), [first]);
        assert_eq!(shown(Filter { pod: named("2b8e0f6a"), ..Filter::default() }), [first]);
        let service = Filter { service: named("nginx"), ..Filter::default() };
        assert_eq!(service.to_string(), "--service nginx");
        assert_eq!(shown(service), [second]);
        let mut process = samples[0].listeners[0].process.clone().expect("it was given one");
        assert!(!is_container(&process, "nginx") && !is_pod(&process, "web-0"), "without names");
        process.container_name = Some("nginx".to_owned());
        process.container_outer = Some("dind".to_owned());
        (process.pod_name, process.pod_namespace) = (Some("web-0".to_owned()), Some("shop".to_owned()));
        for (wanted, [container, pod]) in [
            ("nginx", [true, false]),
            ("dind", [true, false]),
            ("0123456789", [true, false]),
            ("web-0", [false, true]),
            ("shop/web-0", [false, true]),
            ("other/web-0", [false, false]),
            ("shop/web", [false, false]),
            ("2b8e0f6a", [false, true]),
        ] {
            assert_eq!([is_container(&process, wanted), is_pod(&process, wanted)], [container, pod], "{wanted}");
        }
        let both = Filter { container: named("web"), service: named("a"), ..Filter::default() };
        assert_eq!(shown(both), [] as [u16; 0]);
    }

    #[test]
    fn names_are_compared_as_the_kernel_keeps_them() {
        for (given, kept, cut) in [
            (&b"nginx"[..], "nginx", false),
            (b"exactly15bytes!", "exactly15bytes!", false),
            (b"a-name-of-16-byt", "a-name-of-16-by", true),
            // A character that does not fit whole is replaced, as it is where names are read.
            ("fourteen bytes\u{e9}".as_bytes(), "fourteen bytes\u{fffd}", true),
            (b"not\xffUTF-8", "not\u{fffd}UTF-8", false),
        ] {
            let comm = Comm::new(OsStr::from_bytes(given).to_owned());
            assert_eq!((comm.kept.as_str(), comm.is_cut()), (kept, cut));
            let filter = Filter { comm: vec![comm], ..Filter::default() };
            assert_eq!((filter.notes().len(), filter.to_string()), (usize::from(cut), format!("--comm {kept}")));
        }
    }
}
