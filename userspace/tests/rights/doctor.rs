//! `listentop doctor`: its verdict and exit status, with all rights, few and none; and that it leaves nothing attached.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::{
    Test,
    support::{Program, coverage, finished, sleep_ms},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "doctor::with_all_rights", run: with_all_rights },
    Test { name: "doctor::with_some", run: with_some },
    Test { name: "doctor::with_none", run: with_none },
    Test { name: "doctor::nothing_stays_attached", run: nothing_stays },
];

fn diagnosis(command: Command) -> (Option<i32>, Value) {
    let (code, stdout, stderr) = finished(command);
    assert_eq!(stderr, "");
    let diagnosis: Value = serde_json::from_str(&stdout).expect("JSON and nothing else");
    for name in [
        "schema",
        "tool",
        "verdict",
        "source",
        "source_reason",
        "machine",
        "capabilities",
        "hooks",
        "coverage",
        "advice",
    ] {
        assert!(diagnosis.as_object().expect("an object").contains_key(name), "{name}");
    }
    (code, diagnosis)
}

fn list<'a>(diagnosis: &'a Value, name: &str) -> &'a Vec<Value> {
    diagnosis[name].as_array().unwrap_or_else(|| panic!("{name} is a list"))
}

fn fact<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    list(diagnosis, "machine").iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no fact {name}"))
}

fn held(diagnosis: &Value) -> Vec<&str> {
    let held = list(diagnosis, "capabilities").iter().filter(|right| right["held"] == true);
    held.map(|right| right["name"].as_str().expect("a name")).collect()
}

fn actions(diagnosis: &Value) -> Vec<&str> {
    list(diagnosis, "advice").iter().map(|advice| advice["action"].as_str().expect("a sentence")).collect()
}

fn with_all_rights() {
    let program = Program::copy("doctor-root");
    let (code, diagnosis) = diagnosis(program.as_root("doctor --format json"));
    let unavailable = list(&diagnosis, "coverage").iter().any(|entry| entry["status"] == "unavailable");
    let expected = if unavailable { ("partial", Some(4)) } else { ("complete", Some(0)) };
    assert_eq!((diagnosis["verdict"].as_str().expect("a word"), code), expected);
    assert_eq!((&diagnosis["source"], &diagnosis["source_reason"]), (&"probes".into(), &Value::Null));
    assert_eq!(held(&diagnosis).len(), list(&diagnosis, "capabilities").len(), "root has them all");
    assert!(fact(&diagnosis, "BTF")["value"].as_str().expect("known").contains("valid"));
    // The fact about fentry agrees with the outcomes of the hooks.
    let functions =
        || list(&diagnosis, "hooks").iter().filter(|hook| hook["hook"].as_str().is_some_and(|it| it.starts_with('f')));
    assert!(functions().count() > 0, "functions are tried");
    let works = functions().any(|hook| hook["attached"] == true);
    let fentry = fact(&diagnosis, "fentry");
    assert_eq!(fentry["value"] == "works", works, "{fentry}");
    let refused = functions().all(|hook| hook["reason"].as_str().is_some_and(|it| it.contains("not permitted")));
    if refused {
        assert!(fentry["effect"].as_str().expect("a reason").contains("security policy"), "{fentry}");
        assert!(actions(&diagnosis).iter().any(|action| action.contains("security policy")));
    }
    for hook in list(&diagnosis, "hooks") {
        assert_eq!(hook["attached"] == false, hook["reason"].is_string(), "{hook}");
    }
    // And the fact about iterators with where the depth comes from.
    let walks = fact(&diagnosis, "map iterators");
    let depth = list(&diagnosis, "coverage").iter().find(|entry| entry["measure"] == "accept_queue_depth");
    let by_test_runs = depth.and_then(|entry| entry["via"].as_str()).expect("measured").starts_with("test runs");
    assert_eq!(walks["value"], if by_test_runs { "refused" } else { "work" }, "{walks}");
    // The dashboard would say the same.
    let (_, stdout, _) = finished(program.as_root("report --for 200ms --format json"));
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    for entry in list(&diagnosis, "coverage") {
        let measure = entry["measure"].as_str().expect("a name");
        // Owners depend on the processes that are there, timing on what others ask of the kernel.
        if !["owners", "probe_time"].contains(&measure) {
            assert_eq!(entry["status"], coverage(&report, measure).0, "{measure}");
        }
    }
}

fn with_some() {
    let program = Program::copy("doctor-some");
    let (code, diagnosis) = diagnosis(program.with(&["bpf", "perfmon"], "doctor --format json"));
    assert_eq!((code, &diagnosis["verdict"], &diagnosis["source"]), (Some(4), &"partial".into(), &"probes".into()));
    assert_eq!(held(&diagnosis), ["CAP_BPF", "CAP_PERFMON"]);
    let actions = actions(&diagnosis);
    let place = |name: &str| actions.iter().position(|action| action.contains(name));
    assert!(place("CAP_BPF").is_none(), "{actions:#?}");
    let (owners, namespaces) = (place("CAP_SYS_PTRACE"), place("CAP_SYS_ADMIN"));
    assert!(owners.is_some() && owners < namespaces, "{actions:#?}");
    // With only one of the two capabilities that probes need, no probes run, and the missing one is named.
    for (granted, missing) in [("bpf", "CAP_PERFMON"), ("perfmon", "CAP_BPF")] {
        let (code, diagnosis) = self::diagnosis(program.with(&[granted], "doctor --format json"));
        assert_eq!((code, &diagnosis["source"]), (Some(3), &"sock_diag".into()));
        assert!(diagnosis["source_reason"].as_str().expect("a reason").contains(missing));
        assert!(self::actions(&diagnosis)[0].contains(&format!("grant {missing}:")));
    }
}

fn with_none() {
    let program = Program::copy("doctor-none");
    let (code, diagnosis) = diagnosis(program.with(&[], "doctor --format json"));
    assert_eq!(
        (code, &diagnosis["verdict"], &diagnosis["source"]),
        (Some(3), &"impossible".into(), &"sock_diag".into())
    );
    assert_eq!(held(&diagnosis), [""; 0]);
    assert_eq!(diagnosis["hooks"], serde_json::json!([]));
    assert!(fact(&diagnosis, "kernel")["value"].is_string());
    assert!(actions(&diagnosis)[0].contains("CAP_BPF and CAP_PERFMON"));
    let (code, table, stderr) = finished(program.with(&[], "doctor"));
    assert_eq!((code, stderr.as_str()), (Some(3), ""));
    for words in ["impossible", "What to do", "CAP_BPF and CAP_PERFMON", "BTF", "lockdown", "MISSING", "UNAVAILABLE"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

/// Ids of the BPF programs that a process holds now.
fn programs(pid: u32) -> BTreeSet<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let id = |text: &str| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    descriptors.filter_map(|entry| id(&fs::read_to_string(entry.path()).ok()?)).collect()
}

fn nothing_stays() {
    let program = Program::copy("doctor-leaves");
    let mut child = program.as_root("doctor --format json --for-nothing").spawn().expect("it starts");
    assert_eq!(child.wait().expect("it ends").code(), Some(2), "a mistake is one");
    let mut command = program.as_root("doctor");
    let mut child = command.stdout(std::process::Stdio::null()).spawn().expect("it starts");
    let mut seen = BTreeSet::new();
    while child.try_wait().expect("it is ours").is_none() {
        seen.append(&mut programs(child.id()));
        sleep_ms(1);
    }
    assert!(seen.len() > 5, "it had programs loaded: {seen:?}");
    // The kernel lets go of them in its own time, a grace period or two.
    for _ in 0..500 {
        let loaded: BTreeSet<u32> = aya::programs::loaded_programs().filter_map(Result::ok).map(|it| it.id()).collect();
        if loaded.is_disjoint(&seen) {
            return;
        }
        sleep_ms(20);
    }
    panic!("still loaded after 10 s: {seen:?}");
}
