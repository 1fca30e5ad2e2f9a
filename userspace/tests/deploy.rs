//! What deploy/ has for containers, Kubernetes and OpenTelemetry's collector, without any of them: the files are what
//! they claim to be, agree with each other, with docs/rights.md and with the command line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    let parse = |text: &str| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    text(name).split("\n---\n").map(parse).collect()
}

/// Names of capabilities, written in any way.
fn capabilities<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(|name| name.to_lowercase().trim_start_matches("cap_").to_owned()).collect()
}

/// Those of the table in docs/rights.md.
fn documented() -> BTreeSet<String> {
    let rights = text("docs/rights.md");
    let rows = rights.lines().filter(|line| line.starts_with("| CAP_"));
    let cells: Vec<&str> = rows.filter_map(|line| line.split('|').nth(1)).collect();
    let all = capabilities(cells.iter().flat_map(|cell| cell.split(", ")).map(str::trim));
    assert!(all.len() >= 6, "{all:?}");
    all
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap_or_else(|| panic!("no list: {list}"))
        .iter()
        .map(|item| item.as_str().expect("a text"))
        .collect()
}

/// The command line accepts these arguments: it reads them before it gets to `--help`.
fn assert_accepted(arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_listentop"));
    let output = command.args(arguments).arg("--help").stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn a_wrong_argument_would_show() {
    for wrong in [&["serve", "--otlp-protocl=grpc"][..], &["serve", "--every", "now"], &["sreve"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_listentop")).args(wrong).arg("--help").output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// What an instruction of the last stage says.
fn instruction<'a>(stage: &'a str, name: &str) -> &'a str {
    let found = stage.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name}: {stage}"))
}

fn last_stage() -> String {
    let recipe = text("deploy/container/Containerfile");
    let (_, stage) = recipe.rsplit_once("\nFROM ").expect("more than one stage");
    format!("FROM {stage}")
}

fn entry_point() -> String {
    let entry: Value = serde_json::from_str(instruction(&last_stage(), "ENTRYPOINT")).expect("a list");
    let [only] = strings(&entry)[..] else { panic!("{entry}") };
    only.to_owned()
}

#[test]
fn the_image_is_the_program_alone() {
    let stage = last_stage();
    assert!(stage.starts_with("FROM scratch\n"), "{stage}");
    let copies: Vec<&str> = stage.lines().filter_map(|line| line.strip_prefix("COPY ")).collect();
    assert_eq!(copies, [format!("--from=build /listentop {}", entry_point())], "what starts is what is there");
    let command: Value = serde_json::from_str(instruction(&stage, "CMD")).expect("a list");
    assert_accepted(&strings(&command));
    assert_eq!(instruction(&stage, "EXPOSE"), "9753");
    // What the first stage leaves is what the last takes, and the build has such a command.
    let recipe = text("deploy/container/Containerfile");
    assert!(
        recipe.contains("cargo xtask build --static")
            && recipe.contains("-unknown-linux-musl/release/listentop /listentop")
    );
}

#[test]
fn the_line_to_run_it_grants_what_is_documented() {
    let recipe = text("deploy/container/Containerfile");
    let comments =
        recipe.lines().map_while(|line| line.strip_prefix('#')).map(|line| line.trim().trim_end_matches('\\'));
    let comments: String = comments.collect::<Vec<_>>().join(" ");
    let words: Vec<&str> = comments.split_whitespace().collect();
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option).unwrap_or_else(|| panic!("{option}: {comments}"));
        words[at + 1]
    };
    assert_eq!(capabilities(after("--cap-add").split(',')), documented());
    assert_eq!(after("--cap-drop"), "all");
    assert!(words.contains(&"--read-only") && !words.contains(&"--privileged"));
    // The same mounts as on Kubernetes.
    let mounts: BTreeSet<String> = words
        .windows(2)
        .filter(|pair| pair[0] == "--volume")
        .map(|pair| {
            let [from, to, options] = pair[1].split(':').collect::<Vec<_>>()[..] else { panic!("{}", pair[1]) };
            assert_eq!(from, to);
            assert!(options.split(',').any(|option| option == "ro"), "{}", pair[1]);
            to.to_owned()
        })
        .collect();
    let (pod, container) = daemon();
    assert_eq!(mounts, host_mounts(&pod, &container));
}

/// The pod of the DaemonSet, and its only container.
fn daemon() -> (Value, Value) {
    let documents = yaml("deploy/kubernetes/daemonset.yaml");
    let kinds: Vec<&str> = documents.iter().map(|document| document["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["Namespace", "DaemonSet"]);
    assert_eq!(documents[0]["metadata"]["name"], documents[1]["metadata"]["namespace"]);
    let spec = &documents[1]["spec"];
    assert_eq!(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"], "it finds its pods");
    let pod = spec["template"]["spec"].clone();
    let containers = pod["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1);
    let container = containers[0].clone();
    (pod, container)
}

/// Where paths of the node are in the container. All are read only.
fn host_mounts(pod: &Value, container: &Value) -> BTreeSet<String> {
    let volumes = pod["volumes"].as_array().expect("volumes");
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    assert_eq!(volumes.len(), mounts.len());
    let one = |mount: &Value| {
        assert_eq!(mount["readOnly"], true, "{mount}");
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("it is declared");
        assert_eq!(volume["hostPath"]["path"], mount["mountPath"], "as on the node");
        mount["mountPath"].as_str().expect("a path").to_owned()
    };
    mounts.iter().map(one).collect()
}

#[test]
fn the_daemon_set_has_the_least_rights() {
    let (pod, container) = daemon();
    let context = &container["securityContext"];
    assert_eq!(capabilities(strings(&context["capabilities"]["add"])), documented());
    assert_eq!(strings(&context["capabilities"]["drop"]), ["ALL"]);
    assert_eq!((&context["privileged"], &context["allowPrivilegeEscalation"]), (&false.into(), &false.into()));
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!((&pod["hostPID"], &pod["automountServiceAccountToken"]), (&true.into(), &false.into()));
    for host in ["hostNetwork", "hostIPC"] {
        assert!(pod[host].is_null(), "{host} is not needed");
    }
    assert!(container["resources"]["limits"]["memory"].is_string());
    // As the systemd units.
    for unit in ["report", "recorder", "serve"] {
        let unit = text(&format!("deploy/systemd/listentop-{unit}.service"));
        let granted = unit.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).expect("it grants some");
        assert_eq!(capabilities(granted.split(' ')), documented());
    }
}

#[test]
fn the_daemon_set_starts_what_the_image_has() {
    let (_, container) = daemon();
    assert!(container["command"].is_null(), "the image's entry point");
    let arguments = strings(&container["args"]);
    assert_accepted(&arguments);
    let port = container["ports"][0]["containerPort"].as_u64().expect("a port");
    assert!(arguments.contains(&&*format!("--web.listen-address=:{port}")), "{arguments:?}");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    // Each variable is declared before it is used.
    let variables = container["env"].as_array().expect("variables");
    let names: Vec<&str> = variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    let used = |text: &str| -> Vec<String> {
        text.split("$(").skip(1).map(|rest| rest.split(')').next().expect("one at least").to_owned()).collect()
    };
    for name in arguments.iter().flat_map(|argument| used(argument)) {
        assert!(names.contains(&&*name), "{name}");
    }
    for (at, variable) in variables.iter().enumerate() {
        for name in used(variable["value"].as_str().unwrap_or_default()) {
            assert!(names[..at].contains(&&*name), "{name}");
        }
    }
    let version = format!("listentop:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], version);
}

#[test]
fn the_debug_container_has_the_same_rights() {
    let (_, container) = daemon();
    let debug: Value = serde_json::from_str(&text("deploy/kubernetes/debug.json")).expect("JSON");
    let (of_debug, of_daemon) = (&debug["securityContext"], &container["securityContext"]);
    for name in ["runAsUser", "privileged", "capabilities", "appArmorProfile"] {
        assert_eq!(of_debug[name], of_daemon[name], "{name}");
    }
    let page = text("docs/production.md");
    let lines: Vec<&str> = page.lines().map(str::trim).filter(|line| line.starts_with("kubectl debug")).collect();
    assert_eq!(lines.len(), 2, "of a node, and of a pod: {lines:?}");
    for line in lines {
        assert!(line.contains(&format!("--image={}", container["image"].as_str().expect("an image"))), "{line}");
        let (_, command) = line.split_once(" -- ").expect("a command");
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[0], entry_point(), "{line}");
        assert_accepted(&words[1..]);
        if let Some(custom) = line.split(' ').find_map(|word| word.strip_prefix("--custom=")) {
            assert!(path(custom).is_file(), "{custom}");
        }
    }
}

/// The components that a collector's pipelines name, and those that are configured.
fn assert_wired(name: &str) -> Value {
    let [config] = &yaml(name)[..] else { panic!("{name}: one document") };
    let pipelines = config["service"]["pipelines"].as_object().expect("pipelines");
    for kind in ["receivers", "processors", "exporters"] {
        let configured: BTreeSet<&str> = config[kind].as_object().expect("some").keys().map(String::as_str).collect();
        let used: BTreeSet<&str> = pipelines.values().flat_map(|pipeline| strings(&pipeline[kind])).collect();
        assert_eq!(configured, used, "{name}: {kind}");
    }
    assert!(pipelines.keys().all(|pipeline| pipeline == "metrics"), "{name}: there are metrics only");
    config.clone()
}

#[test]
fn the_collectors_have_what_they_name() {
    let pushed = assert_wired("deploy/opentelemetry/collector-otlp.yaml");
    let protocols = &pushed["receivers"]["otlp"]["protocols"];
    for (protocol, port) in [("grpc", 4317), ("http", 4318)] {
        assert_eq!(protocols[protocol]["endpoint"], format!("127.0.0.1:{port}"));
    }
    for name in ["collector-otlp", "collector-scrape"] {
        let comments = text(&format!("deploy/opentelemetry/{name}.yaml"));
        let line = comments.lines().find_map(|line| line.strip_prefix("#   listentop ")).expect("a line to run");
        assert_accepted(&line.split(' ').collect::<Vec<_>>());
    }
    let scraped = assert_wired("deploy/opentelemetry/collector-scrape.yaml");
    let jobs = &scraped["receivers"]["prometheus"]["config"];
    assert_eq!(strings(&jobs["scrape_configs"][0]["static_configs"][0]["targets"]), ["127.0.0.1:9753"]);
    // It has Prometheus' own form: its tool reads it, where it is installed.
    let Ok(folder) = tempfile::tempdir() else { panic!("a folder") };
    let config = folder.path().join("prometheus.yml");
    fs::write(&config, jobs.to_string()).expect("it can be written");
    if let Ok(output) = Command::new("promtool").args(["check", "config"]).arg(&config).output() {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
