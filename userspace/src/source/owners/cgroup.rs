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
    /// The container around that, likewise.
    pub outer: Option<String>,
    /// The pod around the innermost container.
    pub pod: Option<String>,
    /// The innermost systemd service.
    pub service: Option<String>,
    /// The user whose service manager runs that service.
    pub service_uid: Option<u32>,
    /// What its runtime's files may name.
    pub key: Option<Key>,
}

/// The container whose runtime runs on the host itself: the outermost one. Files of other runtimes are inside it, where
/// it could write them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::source) struct Key {
    /// Its id, whole.
    pub id: String,
    /// The user whose session it runs in (rootless), and who may therefore make such cgroups of any name.
    pub user: Option<u32>,
    /// The unique id of its pod in Kubernetes.
    pub pod: Option<String>,
    /// It is the innermost one, too.
    pub innermost: bool,
}

impl Names {
    /// Reads /proc/PID/cgroup: one line for each hierarchy (one line in all with cgroup v2).
    pub(super) fn of(cgroups: &str) -> Self {
        let mut names = Self::default();
        for path in cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
            let of_path = Self::of_path(path);
            if names.container.is_none() {
                (names.container, names.outer, names.key) = (of_path.container, of_path.outer, of_path.key);
            }
            names.pod = names.pod.or(of_path.pod);
            if names.service.is_none() {
                (names.service, names.service_uid) = (of_path.service, of_path.service_uid);
            }
        }
        names
    }

    fn of_path(path: &str) -> Self {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // A helper of the runtime that runs beside the container, in a cgroup that is named after it.
        let is_helper = |at: usize| is_helper(parts[at], at.checked_sub(1).map(|before| parts[before]));
        let at = (0..parts.len()).rfind(|at| is_helper(*at) || container(&parts, *at).is_some());
        let at = at.filter(|at| !is_helper(*at));
        let pod_of = |at: usize| parts[..=at].iter().rev().find_map(|part| pod(part));
        let outside = |at: usize| (0..at).filter(|at| !is_helper(*at) && container(&parts, *at).is_some());
        let outermost = at.map(|at| outside(at).next().unwrap_or(at));
        let service = (0..parts.len()).rfind(|at| service(parts[*at]).is_some());
        Self {
            container: at.and_then(|at| container(&parts, at)).as_deref().map(short),
            outer: at.and_then(|at| container(&parts, outside(at).next_back()?)).as_deref().map(short),
            pod: at.and_then(pod_of),
            service: service.and_then(|at| self::service(parts[at])),
            service_uid: service.and_then(|at| user(&parts[..at])),
            key: outermost.and_then(|outermost| {
                let id = container(&parts, outermost).filter(|id| is_hexadecimal(id, ID))?;
                let innermost = at == Some(outermost);
                Some(Key { id, user: user(&parts[..outermost]), pod: pod_of(outermost), innermost })
            }),
        }
    }

    /// A process with these names.
    pub(super) fn describe(self, pid: u32, comm: String, cgroup: Option<String>) -> Process {
        let container = self.container.or_else(|| self.service.clone());
        Process {
            pid,
            comm,
            container,
            pod: self.pod,
            service: self.service,
            container_outer: self.outer,
            service_uid: self.service_uid,
            cgroup,
            ..Process::default()
        }
    }
}

/// The path that says most, of /proc/PID/cgroup: that of the unified hierarchy; where it is in that one's root, that of
/// systemd's, or any other.
pub(super) fn path(cgroups: &str) -> Option<String> {
    let lines = || cgroups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let unified = lines().find(|(controllers, _)| controllers.is_empty());
    let beyond_root = |(_, path): &(&str, &str)| *path != "/";
    let of_systemd = lines().find(|(controllers, _)| *controllers == "name=systemd").filter(beyond_root);
    let chosen = unified.filter(beyond_root).or(of_systemd).or_else(|| lines().find(beyond_root)).or(unified);
    chosen.or_else(|| lines().next()).map(|(_, path)| path.to_owned())
}

/// The user whose service manager (`user@UID.service`) the cgroup below these parts belongs to.
fn user(parts: &[&str]) -> Option<u32> {
    parts.iter().rev().find_map(|part| part.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok())
}

/// `libpod-conmon-ID.scope`, `crio-conmon-ID.scope`, `lxc.monitor.NAME`, and nspawn's own cgroup beside the payload.
fn is_helper(part: &str, before: Option<&str>) -> bool {
    let of_machine = |part: &str| part.starts_with("machine-") || part.starts_with("systemd-nspawn@");
    part.split(['-', '.']).any(|word| word == "conmon")
        || part.starts_with("lxc.monitor.")
        || part == "supervisor" && before.is_some_and(of_machine)
}

/// The container that the cgroup at this place is the root of: its whole id, or its name.
fn container(parts: &[&str], at: usize) -> Option<String> {
    let part = parts[at];
    let before = |n: usize| at.checked_sub(n).map(|at| parts[at]);
    // docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope; kubepods-….slice:cri-containerd:ID; ID.
    let id = part.strip_suffix(".scope").unwrap_or(part).rsplit(['-', ':']).next().unwrap_or(part);
    if is_hexadecimal(id, ID) {
        // A pod of Podman is a slice, and holds containers.
        return Some(id.to_owned());
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
        return is_hexadecimal(id, ID).then(|| short(id));
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

/// Digits of an id.
const ID: usize = 64;

/// An id as the runtimes' own lists show it; a name as it is.
fn short(id: &str) -> String {
    let shown = if is_hexadecimal(id, ID) { 12 } else { id.len() };
    id[..shown].to_owned()
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
        let Names { container, pod, service, .. } = Names::of(&format!("0::{path}\n"));
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
    fn a_key_is_that_of_the_outermost_container() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let key = |path: &str| Names::of(&format!("0::{path}\n")).key;
        let of = |user, pod: Option<&str>, innermost| {
            Some(Key { id: a.clone(), user, pod: pod.map(str::to_owned), innermost })
        };
        assert_eq!(key(&format!("/system.slice/docker-{a}.scope")), of(None, None, true));
        assert_eq!(key(&format!("/system.slice/docker-{a}.scope/init.scope/docker/{b}")), of(None, None, false));
        assert_eq!(key(&format!("/kubepods/pod1-2/{a}")), of(None, Some("1-2"), true));
        let rootless = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{a}.scope/container");
        assert_eq!(key(&rootless), of(Some(1000), None, true));
        assert_eq!(key("/lxc.payload.web1"), None, "its name is known");
        let nested = Names::of(&format!("0::/docker/{a}/docker/{b}/docker/{}", "c".repeat(64)));
        assert_eq!(nested.outer.as_deref(), Some("bbbbbbbbbbbb"));
        assert_eq!(Names::of(&format!("0::/lxc.payload.box/docker/{a}")).outer.as_deref(), Some("box"));
    }

    #[test]
    fn services_of_users_are_theirs() {
        let uid = |path: &str| Names::of(&format!("0::{path}")).service_uid;
        assert_eq!(uid("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"), Some(1000));
        assert_eq!(uid("/system.slice/nginx.service"), None);
        assert_eq!(uid("/user.slice/user-1000.slice/user@1000.service/init.scope"), None, "it is in none");
    }

    #[test]
    fn the_path_is_the_one_that_says_most() {
        assert_eq!(path("0::/system.slice/nginx.service\n").as_deref(), Some("/system.slice/nginx.service"));
        let hybrid = "9:name=systemd:/a.service\n4:memory:/m\n0::/\n";
        assert_eq!(path(hybrid).as_deref(), Some("/a.service"));
        assert_eq!(path("9:name=systemd:/\n4:memory:/m:x\n0::/\n").as_deref(), Some("/m:x"));
        assert_eq!(path("0::/\n").as_deref(), Some("/"));
        assert_eq!(path("4:memory:/\n").as_deref(), Some("/"));
        assert_eq!((path(""), path("garbage\n")), (None, None));
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
        let service = Names::of("0::/system.slice/nginx.service").describe(7, "nginx".to_owned(), None);
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
