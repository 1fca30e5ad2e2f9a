//! `cargo xtask dist --kernel VERSION`: the Debian package on other kernels, in virtual machines.
//!
//! A machine has this system's dpkg with the libraries that it needs, and nothing else: no C library that the package
//! could have missed would be noticed otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use listentop_guest::plan::{Event, Plan, Run};
use listentop_kernels::architecture::Architecture;
use listentop_kernels::guest::{INIT, write_file_system};
use listentop_kernels::machine::{Clock, End, Machine, ensure_runs_own};
use xtask_support::{cargo, process};

use crate::about::NAME;
use crate::release::Release;

/// What dpkg calls, and what the steps below do.
const TOOLS: [&str; 12] = [
    "dpkg",
    "dpkg-deb",
    "dpkg-query",
    "dpkg-split",
    "tar",
    "sh",
    "rm",
    "mkdir",
    "find",
    "diff",
    "ldconfig",
    "start-stop-daemon",
];

/// Where the package is in the machine.
const PACKAGE: &str = "/package.deb";

/// A machine that runs longer is stopped.
const LIMIT: Duration = Duration::from_mins(15);

/// A step: its name, what it runs, its possible exit codes, and what it must print.
type Step = (&'static str, String, &'static [i32], Option<String>);

/// What is done in each machine.
fn steps(version: &str) -> [Step; 8] {
    let shell = |text: &str| format!("sh -c {text}");
    [
        (
            "database",
            shell("mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/log; : >/var/lib/dpkg/status"),
            &[0],
            None,
        ),
        ("install", format!("dpkg --install {PACKAGE}"), &[0], None),
        ("version", "/usr/bin/listentop --version".to_owned(), &[0], Some(format!("listentop {version}"))),
        // Some measures may be missing on a kernel.
        ("doctor", "/usr/bin/listentop doctor".to_owned(), &[0, 4], None),
        // No listener passes: there is none.
        (
            "report",
            "/usr/bin/listentop report --for 1s --format json".to_owned(),
            &[0, 5],
            Some("\"schema\":1".to_owned()),
        ),
        ("remove", format!("dpkg --remove {NAME}"), &[0], None),
        ("purge", format!("dpkg --purge {NAME}"), &[0], None),
        (
            "nothing is left",
            shell("left=$(find / -xdev -name '*listentop*'); echo \"$left\"; test -z \"$left\""),
            &[0],
            None,
        ),
    ]
}

/// Installs, uses and removes the package on each kernel.
///
/// # Errors
/// A machine cannot be made, or a step in it fails.
pub(crate) fn run(kernels: &[String], package: &Path, release: &Release) -> Result<()> {
    if kernels.is_empty() {
        return Ok(());
    }
    ensure_runs_own(Architecture::X86)?;
    let dir = cargo::root().join("target/kernels");
    let logs = dir.join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let files = files(package)?;
    let files: Vec<(&str, &Path)> = files.iter().map(|(name, path)| (&**name, &**path)).collect();
    for series in kernels {
        let (kernel, image) = listentop_kernels::obtain(series, &dir)?;
        process::announce(&format!("installing the package on Linux {} (some minutes)", kernel.release));
        let file_system = logs.join("package.cpio");
        let steps = steps(&release.version);
        let plan = Plan { runs: steps.iter().map(planned).collect(), ..Plan::default() };
        write_file_system(&file_system, &files, &image, plan)?;
        let machine = Machine {
            architecture: Architecture::X86,
            kernel: image.kernel.clone(),
            file_system: file_system.clone(),
            cpus: "2".to_owned(),
            clock: Clock::Time,
            limit: LIMIT,
            console: logs.join(format!("package-{}.console", kernel.release)),
        };
        let mut judge = Judge::default();
        let end = machine.run(|event| judge.hear(&event))?;
        fs::remove_file(&file_system).with_context(|| format!("cannot remove {}", file_system.display()))?;
        if let End::Broken(why) = end {
            judge.wrong.push(why);
        }
        judge.check(&steps);
        ensure!(judge.wrong.is_empty(), "Linux {}: {}", kernel.release, judge.wrong.join("; "));
        process::announce(&format!("Linux {}: installed, used, removed, and nothing is left", kernel.release));
    }
    Ok(())
}

fn planned((name, command, ..): &Step) -> Run {
    // A shell's text is one word.
    let words = match command.split_once(" -c ") {
        Some((shell, text)) => vec![shell.to_owned(), "-c".to_owned(), text.to_owned()],
        None => command.split(' ').map(str::to_owned).collect(),
    };
    let environment = [("PATH", "/bin:/usr/bin"), ("DEBIAN_FRONTEND", "noninteractive"), ("LC_ALL", "C.UTF-8")];
    Run {
        name: (*name).to_owned(),
        command: words,
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        seconds: 240,
    }
}

/// Hears what happens in a machine.
#[derive(Debug, Default)]
struct Judge {
    /// The step that runs.
    current: String,
    /// What each step printed, and how it ended.
    ended: BTreeMap<String, (String, Option<i32>)>,
    /// What is wrong.
    wrong: Vec<String>,
}

impl Judge {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Begin { run } => self.current.clone_from(run),
            Event::Line { text, .. } => {
                let printed = &mut self.ended.entry(self.current.clone()).or_default().0;
                printed.push_str(text);
                printed.push('\n');
            }
            Event::End { run, code } => self.ended.entry(run.clone()).or_default().1 = *code,
            // Older kernels lack a file system that no step needs.
            Event::Trouble { what } if !what.starts_with("cannot mount") => self.wrong.push(what.clone()),
            Event::Trouble { .. } | Event::Booted { .. } | Event::Done => {}
        }
    }

    fn check(&mut self, steps: &[Step]) {
        for (name, _, codes, prints) in steps {
            let Some((printed, code)) = self.ended.get(*name) else {
                self.wrong.push(format!("{name}: it did not run"));
                continue;
            };
            let is_right = code.is_some_and(|code| codes.contains(&code))
                && prints.as_ref().is_none_or(|text| printed.contains(text.as_str()));
            if !is_right {
                let last: Vec<&str> = printed.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                self.wrong.push(format!("{name}: exit code {code:?}: {}", last.join(" | ")));
            }
        }
    }
}

/// The files of a machine: its init, the package, dpkg and what it calls, with the libraries.
fn files(package: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut init = cargo::static_command("build");
    init.args(["--package", "listentop-guest", "--bin", "vm-init"]);
    let built = cargo::executables(&mut init, "the static build of the virtual machines' init")?;
    let init = built.into_iter().find(|built| built.target == "vm-init").context("the build made no vm-init")?;
    let mut files = BTreeMap::from([(INIT.to_owned(), init.path), (PACKAGE.to_owned(), package.to_owned())]);
    for tool in TOOLS {
        let path = process::find(tool)
            .or_else(|| Some(Path::new("/usr/sbin").join(tool)).filter(|path| path.is_file()))
            .with_context(|| {
                format!("there is no {tool}: the machines have this system's, which must be Debian or Ubuntu")
            })?;
        for library in libraries(&path)? {
            files.insert(library.clone(), library.into());
        }
        files.insert(format!("/bin/{tool}"), path);
    }
    Ok(files)
}

/// The libraries that a program loads, by ldd(1); a static one has none.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    Ok(parse_libraries(&String::from_utf8_lossy(&output.stdout)))
}

/// Lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f…)` and `/lib64/ld-linux-x86-64.so.2 (0x7f…)`.
fn parse_libraries(text: &str) -> Vec<String> {
    let words = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use listentop_guest::plan::Event;

    use super::{Judge, parse_libraries, planned, steps};

    #[test]
    fn libraries_are_those_with_a_path() {
        let text =
            "\tlinux-vdso.so.1 (0x00007f1)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f2)\n\t/lib64/ld.so.2 (0x00007f3)\n";
        assert_eq!(parse_libraries(text), ["/lib/libc.so.6", "/lib64/ld.so.2"]);
        assert_eq!(parse_libraries("\tnot a dynamic executable\n"), [""; 0]);
    }

    #[test]
    fn a_step_is_right_by_its_code_and_by_what_it_prints() {
        let steps = steps("1.0.0");
        let all = |change: &dyn Fn(&str) -> Option<(i32, &'static str)>| {
            let mut judge = Judge::default();
            for step in &steps {
                let run = planned(step).name;
                judge.hear(&Event::Begin { run: run.clone() });
                let usual = (0, "listentop 1.0.0 \"schema\":1");
                let (code, text) = change(&run).unwrap_or(usual);
                judge.hear(&Event::Line { stderr: false, text: text.to_owned() });
                judge.hear(&Event::End { run, code: Some(code) });
            }
            judge.check(&steps);
            judge.wrong
        };
        assert_eq!(all(&|_| None), [""; 0]);
        assert_eq!(all(&|name| (name == "doctor").then_some((4, ""))), [""; 0]);
        let wrong = all(&|name| (name == "purge").then_some((1, "dpkg: error")));
        assert_eq!(wrong, ["purge: exit code Some(1): dpkg: error"]);
        assert_eq!(all(&|name| (name == "version").then_some((0, "listentop 0.9.0"))).len(), 1);
        let mut judge = Judge::default();
        judge.check(&steps);
        assert_eq!(judge.wrong.len(), steps.len(), "what did not run is wrong");
    }
}
