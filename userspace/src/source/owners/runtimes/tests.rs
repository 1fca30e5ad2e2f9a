//! Made-up trees in each runtime's own layout.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
    time::{Duration, Instant},
};

use super::*;

/// A root directory.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn with(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    /// As runtimes do it: a new file takes the place of the old one.
    fn write(&self, path: &str, text: &str) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().expect("it is below the root")).expect("folders");
        let new = file.with_extension("new");
        fs::write(&new, text).expect("written");
        fs::rename(new, file).expect("renamed");
    }

    fn runtimes(&self) -> Runtimes {
        Runtimes::new(Host::at(self.0.path()).expect("a root"))
    }

    fn names(&self, cgroup: &str) -> Names {
        look_up(&mut self.runtimes(), cgroup)
    }

    /// Expects these names of container, pod and namespace.
    fn expect(&self, cgroup: &str, container: &str, pod: &str, namespace: &str) {
        let known = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        let expected = Names { container: known(container), pod: known(pod), namespace: known(namespace) };
        assert_eq!(self.names(cgroup), expected, "{cgroup}");
    }
}

fn key(cgroup: &str) -> Key {
    super::super::cgroup::Names::of(&format!("0::{cgroup}\n")).key.expect("a container with an id")
}

fn look_up(runtimes: &mut Runtimes, cgroup: &str) -> Names {
    let key = key(cgroup);
    runtimes.look_up(&[key.clone()]).remove(&key).unwrap_or_default()
}

fn id() -> String {
    "0123456789abcdef".repeat(4)
}

const UID: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn docker() {
    let (id, config) = (id(), r#"{"State":{"Running":true},"ID":"0","Name":"/web","Config":{"Labels":{}}}"#);
    let cgroup = format!("/system.slice/docker-{id}.scope");
    for data in ["var/lib/docker", "var/snap/docker/common/var-lib-docker"] {
        let tree = Tree::new().with(&format!("{data}/containers/{id}/config.v2.json"), config);
        tree.expect(&cgroup, "web", "", "");
        tree.expect(&format!("/docker/{id}"), "web", "", "");
    }
    let elsewhere = Tree::new()
        .with("etc/docker/daemon.json", r#"{"data-root": "/srv/docker"}"#)
        .with(&format!("srv/docker/containers/{id}/config.v2.json"), config);
    elsewhere.expect(&cgroup, "web", "", "");
    // An administrator's link stays within the root.
    let linked = Tree::new().with(&format!("srv/docker/containers/{id}/config.v2.json"), config);
    fs::create_dir_all(linked.path("var/lib")).expect("a folder");
    symlink("/srv/docker", linked.path("var/lib/docker")).expect("a link");
    linked.expect(&cgroup, "web", "", "");
    let of_kubelet = r#"{"Name":"/k8s_nginx_web-0_shop_1_0","Config":{"Labels":{"io.kubernetes.container.name":"nginx",
        "io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}}}"#;
    let tree = Tree::new().with(&format!("var/lib/docker/containers/{id}/config.v2.json"), of_kubelet);
    tree.expect(&format!("/kubepods/besteffort/pod{UID}/{id}"), "nginx", "web-0", "shop");
}

#[test]
fn containerd() {
    let id = id();
    let cri = r#"{"ociVersion":"1.1.0","process":{"args":["nginx"]},"annotations":{"io.kubernetes.cri.container-name":"nginx",
        "io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-name":"web-0",
        "io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
    let escaped = UID.replace('-', "_");
    let cgroup = format!("/kubepods.slice/kubepods-pod{escaped}.slice/cri-containerd-{id}.scope");
    for state in
        ["run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd", "run/k0s/containerd"]
    {
        let tree = Tree::new().with(&format!("{state}/io.containerd.runtime.v2.task/k8s.io/{id}/config.json"), cri);
        tree.expect(&cgroup, "nginx", "web-0", "shop");
    }
    let nerdctl = r#"{"annotations":{"nerdctl/name":"web","nerdctl/namespace":"default"}}"#;
    let path = format!("run/containerd/io.containerd.runtime.v2.task/default/{id}/config.json");
    Tree::new().with(&path, nerdctl).expect(&format!("/system.slice/nerdctl-{id}.scope"), "web", "", "");
}

#[test]
fn cri_o() {
    let id = id();
    let config = r#"{"annotations":{"io.kubernetes.container.name":"nginx","io.kubernetes.cri-o.KubeName":"web-0",
        "io.kubernetes.cri-o.Namespace":"shop","io.kubernetes.cri-o.ContainerType":"container"}}"#;
    let path = format!("run/containers/storage/overlay-containers/{id}/userdata/config.json");
    let cgroup = format!("/kubepods.slice/kubepods-podabc1.slice/crio-{id}.scope");
    Tree::new().with(&path, config).expect(&cgroup, "nginx", "web-0", "shop");
}

#[test]
fn podman() {
    let id = id();
    let list = format!(
        r#"[{{"id":"{}","names":["other"]}},{{"id":"{id}","names":["web"],"image":"x","metadata":"{{}}"}},{{"id":"x"}}]"#,
        "f".repeat(64)
    );
    let cgroup = format!("/machine.slice/libpod-{id}.scope/container");
    for file in ["overlay-containers/containers.json", "overlay-containers/volatile-containers.json"] {
        Tree::new().with(&format!("var/lib/containers/storage/{file}"), &list).expect(&cgroup, "web", "", "");
    }
    // A bundle without names is there, too.
    let both = Tree::new()
        .with("var/lib/containers/storage/overlay-containers/containers.json", &list)
        .with(&format!("run/containers/storage/overlay-containers/{id}/userdata/config.json"), r#"{"annotations":{}}"#);
    both.expect(&cgroup, "web", "", "");
}

#[test]
fn podman_of_a_user() {
    let own = nix::unistd::getuid().as_raw();
    let (id, list) = (id(), format!(r#"[{{"id":"{}","names":["web"]}}]"#, id()));
    let cgroup =
        |uid: u32| format!("/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-{id}.scope/container");
    let tree = |uid: u32| {
        Tree::new()
            .with("etc/passwd", &format!("root:x:1:0::/none:/bin/sh\nann:x:{uid}:1000:Ann:/home/ann:/bin/sh\n"))
            .with("home/ann/.local/share/containers/storage/overlay-containers/containers.json", &list)
    };
    tree(own).expect(&cgroup(own), "web", "", "");
    // It is not this user's file.
    tree(own + 1).expect(&cgroup(own + 1), "", "", "");
    // What a user calls their cgroups says nothing about the system's containers.
    let of_system = tree(own).with("var/lib/containers/storage/overlay-containers/containers.json", &list);
    fs::remove_dir_all(of_system.path("home")).expect("it was there");
    of_system.expect(&cgroup(own), "", "", "");
    // A link of the user's leads to another file of the same owner.
    let linked = tree(own).with("secret/containers.json", &list);
    let there = linked.path("home/ann/.local/share/containers/storage/overlay-containers");
    for (link, target) in [(there.join("containers.json"), "/secret/containers.json"), (there, "/secret")] {
        let _ = fs::remove_file(&link).or_else(|_| fs::remove_dir_all(&link));
        symlink(target, &link).expect("a link");
        linked.expect(&cgroup(own), "", "", "");
    }
}

#[test]
fn kubelet() {
    let id = id();
    let tree = Tree::new()
        .with(&format!("var/log/containers/web-0_shop_nginx-sidecar-{id}.log"), "")
        .with("var/log/containers/not a name.log", "")
        .with(&format!("var/log/pods/shop_web-0_{UID}/nginx/0.log"), "");
    tree.expect(&format!("/kubepods/pod{UID}/{id}"), "nginx-sidecar", "web-0", "shop");
    tree.expect(&format!("/kubepods/pod{UID}/{}", "f".repeat(64)), "", "web-0", "shop");
    tree.expect(&format!("/kubepods/podabc1/{}", "f".repeat(64)), "", "", "");
}

#[test]
fn the_outer_container_of_nested_ones_is_named() {
    let (id, inner) = (id(), "f".repeat(64));
    let tree = Tree::new()
        .with(&format!("var/lib/docker/containers/{id}/config.v2.json"), r#"{"Name":"/dind"}"#)
        .with(&format!("var/lib/docker/containers/{inner}/config.v2.json"), r#"{"Name":"/forged"}"#);
    let cgroup = format!("/system.slice/docker-{id}.scope/docker/{inner}");
    let key = key(&cgroup);
    let mut names = super::super::cgroup::Names::of(&format!("0::{cgroup}"));
    names.key = None;
    let mut process = names.describe(7, "nginx".to_owned(), None);
    tree.names(&cgroup).name(&key, &mut process);
    assert_eq!(process.container_outer.as_deref(), Some("dind"));
    assert_eq!((process.container.as_deref(), process.container_name), (Some("ffffffffffff"), None));
}

#[test]
fn what_changes_is_read_again_and_what_does_not_is_not() {
    let id = id();
    let path = format!("var/lib/docker/containers/{id}/config.v2.json");
    let tree = Tree::new().with(&path, r#"{"Name":"/before"}"#);
    let mut runtimes = tree.runtimes();
    let cgroup = format!("/docker/{id}");
    assert_eq!(look_up(&mut runtimes, &cgroup).container.as_deref(), Some("before"));
    let kept = runtimes.described.get_mut(&(id.clone(), None)).expect("it is kept");
    kept.names.container = Some("kept".to_owned());
    assert_eq!(look_up(&mut runtimes, &cgroup).container.as_deref(), Some("kept"));
    tree.write(&path, r#"{"Name":"/after"}"#);
    assert_eq!(look_up(&mut runtimes, &cgroup).container.as_deref(), Some("after"));
    fs::remove_file(tree.path(&path)).expect("it was there");
    assert_eq!(look_up(&mut runtimes, &cgroup), Names::default());
    runtimes.look_up(&[]);
    assert!(runtimes.described.is_empty() && runtimes.storages.is_empty(), "it is forgotten");
}

/// A file that is not what it should be gives no name, at once and without harm.
#[test]
fn hostile_files_give_no_name() {
    let id = id();
    let cgroup = format!("/docker/{id}");
    let path = format!("var/lib/docker/containers/{id}/config.v2.json");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!(r#"{{"Name":"/{}"}}"#, "x".repeat(300));
    let large = format!(r#"{{"Name":"/web","x":"{}"}}"#, "x".repeat(1 << 20));
    let nested = format!(r#"{{"Name":"/web","Config":{{"Labels":{deep}}}}}"#);
    for text in ["", "{", "null", "[]", "7", r#"{"Name":7}"#, r#"{"Name":"/"}"#, "\u{0}", &deep, &long, &large, &nested]
    {
        Tree::new().with(&path, text).expect(&cgroup, "", "", "");
    }
    let begin = Instant::now();
    // A FIFO without a writer, a directory, a link out of the place, and one to itself.
    let make: [fn(&Path); 4] = [
        |place| nix::unistd::mkfifo(place, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO"),
        |place| fs::create_dir(place).expect("a folder"),
        |place| symlink("/etc/passwd", place).expect("a link"),
        |place| symlink("config.v2.json", place).expect("a link"),
    ];
    for make in make {
        let tree = Tree::new().with(&format!("var/lib/docker/containers/{id}/other"), "");
        make(&tree.path(&path));
        tree.expect(&cgroup, "", "", "");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "nothing waits");
    // Links of the system lead no further than to its root.
    let tree = Tree::new();
    fs::create_dir_all(tree.path("var/lib")).expect("a folder");
    let outside = Tree::new().with(&format!("containers/{id}/config.v2.json"), r#"{"Name":"/outside"}"#);
    symlink(outside.0.path(), tree.path("var/lib/docker")).expect("a link");
    tree.expect(&cgroup, "", "", "");
    assert_eq!(fs::metadata(tree.0.path()).expect("it is there").uid(), nix::unistd::getuid().as_raw());
}
