//! Names of containers, pods and services, read from the paths in /proc/PID/cgroup.
//!
//! There is no standard; each runtime names its cgroups in its own way. A path may hold several names: a container
//! within a container, a service within either. The innermost one is the process'.

use listentop_model::sample::Process;

/// What the cgroup of a process tells about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// The innermost container: the first 12 digits of its id, or its name.
    pub container: Option<String>,
    /// The pod around that.
    pub pod: Option<String>,
    /// The innermost systemd service.
    pub service: Option<String>,
}

impl Names {
    /// Reads /proc/PID/cgroup: one line for each hierarchy (one line in all with cgroup v2).
    pub(super) fn of(cgroups: &str) -> Self {
        let mut names = Self::default();
        for path in cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
            let of_path = Self::of_path(path);
            names.container = names.container.or(of_path.container);
            names.pod = names.pod.or(of_path.pod);
            names.service = names.service.or(of_path.service);
        }
        names
    }

    fn of_path(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // A helper of the runtime that runs beside the container, in a cgroup that is named after it.
        let is_helper = |at: usize| is_helper(parts[at], at.checked_sub(1).map(|before| parts[before]));
        let at = (0..parts.len()).rfind(|at| is_helper(*at) || container(&parts, *at).is_some());
        let at = at.filter(|at| !is_helper(*at));
        Self {
            container: at.and_then(|at| container(&parts, at)),
            pod: at.and_then(|at| parts[..=at].iter().rev().find_map(|part| pod(part))),
            service: parts.iter().rev().find_map(|part| service(part)),
        }
    }

    /// A process with these names.
    pub(super) fn describe(self, pid: u32, comm: String) -> Process {
        let container = self.container.or_else(|| self.service.clone());
        Process { pid, comm, container, pod: self.pod, service: self.service }
    }
}

/// `libpod-conmon-ID.scope`, `crio-conmon-ID.scope`, `lxc.monitor.NAME`, and nspawn's own cgroup beside the payload.
fn is_helper(part: &str, before: Option<&str>) -> bool {
    let of_machine = |part: &str| part.starts_with("machine-") || part.starts_with("systemd-nspawn@");
    part.split(['-', '.']).any(|word| word == "conmon")
        || part.starts_with("lxc.monitor.")
        || part == "supervisor" && before.is_some_and(of_machine)
}

/// The container that the cgroup at this place is the root of.
fn container(parts: &[&str], at: usize) -> Option<String> {
    let part = parts[at];
    let before = |n: usize| at.checked_sub(n).map(|at| parts[at]);
    // docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope; kubepods-….slice:cri-containerd:ID; ID.
    let id = part.strip_suffix(".scope").unwrap_or(part).rsplit(['-', ':']).next().unwrap_or(part);
    if is_hexadecimal(id, 64) {
        // A pod of Podman is a slice, and holds containers.
        return Some(short(id));
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(name.to_owned());
    }
    if matches!(before(1), Some("lxc" | "lxc.payload")) {
        return Some(part.to_owned());
    }
    // A task of ECS: /ecs/CLUSTER/TASK/…, whose containers are TASK-NUMBER.
    if let Some((task, number)) = part.split_once('-')
        && is_hexadecimal(task, 32)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Some(part.to_owned());
    }
    let of_machine = part.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope"));
    let of_service = part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
    of_machine.or(of_service).map(unescape)
}

/// kubepods-besteffort-podUID.slice, podUID; machine-libpod_pod_ID.slice.
fn pod(part: &str) -> Option<String> {
    // The systemd driver of the kubelet may be followed by the container: kubepods-podUID.slice:cri-containerd:ID.
    let part = part.split(':').next().unwrap_or(part);
    let word = part.strip_suffix(".slice").unwrap_or(part).rsplit('-').next().unwrap_or(part);
    if let Some(id) = word.strip_prefix("libpod_pod_") {
        return is_hexadecimal(id, 64).then(|| short(id));
    }
    // Without systemd the id keeps its hyphens; with it they are underscores, because a hyphen nests slices.
    let id = if part.contains("kubepods") { word.strip_prefix("pod")? } else { part.strip_prefix("pod")? };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (!id.is_empty() && id.bytes().all(plain) && id.bytes().any(|byte| byte.is_ascii_digit()))
        .then(|| id.replace('_', "-"))
}

/// A service of systemd. `user@UID.service` is the manager of a user's session, not what the user runs.
fn service(part: &str) -> Option<String> {
    (part.ends_with(".service") && !part.starts_with("user@")).then(|| part.to_owned())
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An id as the runtimes' own lists show it. Ids are ASCII.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// Undoes systemd's escaping of names: `-` stands for `/`, and other bytes are `\xHH`.
fn unescape(name: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let escaped = rest.strip_prefix(b"\\x").and_then(|digits| {
            let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> [Option<String>; 3] {
        let Names { container, pod, service } = Names::of(&format!("0::{path}\n"));
        [container, pod, service]
    }

    fn expect(path: &str, container: Option<&str>, pod: Option<&str>, service: Option<&str>) {
        assert_eq!(names(path), [container, pod, service].map(|name| name.map(str::to_owned)), "{path}");
    }

    #[test]
    fn every_runtime_has_its_own_way() {
        let a = "0123456789abcdef".repeat(4);
        let id = Some("0123456789ab");
        let uid = "11111111-2222-3333-4444-555555555555";
        let escaped = uid.replace('-', "_");
        for path in [
            format!("/system.slice/docker-{a}.scope"),
            format!("/docker/{a}"),
            format!("/machine.slice/libpod-{a}.scope/container"),
            format!("/libpod_parent/libpod-{a}"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{a}.scope/container"),
            format!("/system.slice/nerdctl-{a}.scope"),
            format!("/ecs/cluster/{}/{a}", "c".repeat(32)),
            format!("/../{a}"),
        ] {
            expect(&path, id, None, None);
        }
        for path in [
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{escaped}.slice/cri-containerd-{a}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{escaped}.slice/crio-{a}.scope"),
            format!("/kubepods/burstable/pod{uid}/{a}"),
        ] {
            expect(&path, id, Some(uid), None);
        }
        let by_unit = format!("/system.slice/containerd.service/kubepods-pod{escaped}.slice:cri-containerd:{a}");
        expect(&by_unit, id, Some(uid), Some("containerd.service"));
        let of_pod = format!("/machine.slice/machine-libpod_pod_{}.slice/libpod-{a}.scope", "e".repeat(64));
        expect(&of_pod, id, Some("eeeeeeeeeeee"), None);
        let task = format!("{}-1234567890", "c".repeat(32));
        expect(&format!("/ecs/{}/{task}", "c".repeat(32)), Some(&task), None, None);
        expect("/lxc.payload.web1", Some("web1"), None, None);
        expect("/lxc.payload.web1/system.slice/nginx.service", Some("web1"), None, Some("nginx.service"));
        expect("/lxc/web2/init.scope", Some("web2"), None, None);
        expect("/machine.slice/machine-deb12.scope/payload", Some("deb12"), None, None);
        expect("/machine.slice/machine-my\\x2dbox.scope/payload", Some("my-box"), None, None);
        let unit = Some("systemd-nspawn@deb12.service");
        expect("/machine.slice/systemd-nspawn@deb12.service/payload", Some("deb12"), None, unit);
    }

    #[test]
    fn the_innermost_container_and_service_are_the_process_own() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let kind = format!(
            "/docker/{a}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-containerd-{b}.scope"
        );
        expect(&kind, Some("bbbbbbbbbbbb"), Some("1"), None);
        let kind = format!("/docker/{a}/kubelet.slice/kubepods.slice/kubepods-pod1.slice/cri-containerd-{b}.scope");
        expect(&kind, Some("bbbbbbbbbbbb"), Some("1"), None);
        let within = format!("/system.slice/docker-{a}.scope/init.scope/system.slice/nginx.service");
        expect(&within, Some("aaaaaaaaaaaa"), None, Some("nginx.service"));
        let hybrid = format!("5:cpu:/docker/{a}\n4:memory:/docker/{a}\n0::/system.slice/docker.service\n");
        let names = Names::of(&hybrid);
        assert_eq!(names.container.as_deref(), Some("aaaaaaaaaaaa"));
    }

    #[test]
    fn programs_outside_containers_are_in_none() {
        let user = "/user.slice/user-1000.slice/user@1000.service/app.slice";
        expect(&format!("{user}/app-web.scope"), None, None, None);
        expect(&format!("{user}/web.service"), None, None, Some("web.service"));
        expect("/system.slice/nginx.service", None, None, Some("nginx.service"));
        expect("/user.slice", None, None, None);
        expect("/", None, None, None);
        expect("/system.slice/pod.service", None, None, Some("pod.service"));
        assert_eq!(Names::of(""), Names::default());
        let service = Names::of("0::/system.slice/nginx.service").describe(7, "nginx".to_owned());
        assert_eq!(service.container.as_deref(), Some("nginx.service"), "where there is no container");
    }

    #[test]
    fn helpers_of_a_runtime_are_not_in_the_container() {
        let a = "a".repeat(64);
        expect(&format!("/machine.slice/libpod-conmon-{a}.scope"), None, None, None);
        expect(&format!("/system.slice/crio-conmon-{a}.scope"), None, None, None);
        expect("/lxc.monitor.web1", None, None, None);
        expect("/machine.slice/machine-deb12.scope/supervisor", None, None, None);
        let unit = Some("systemd-nspawn@deb12.service");
        expect("/machine.slice/systemd-nspawn@deb12.service/supervisor", None, None, unit);
    }

    #[test]
    fn escapes_that_are_broken_stay() {
        assert_eq!(unescape("a\\x2db\\x"), "a-b\\x");
        assert_eq!(unescape("\\xzz-\\x4"), "\\xzz-\\x4");
        assert_eq!(unescape("\\xff"), "\u{fffd}");
        assert_eq!(unescape("\\x2é"), "\\x2é");
    }
}
