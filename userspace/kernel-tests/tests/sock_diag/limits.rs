//! Standard output that takes nothing, and limits of descriptors, threads and memory: one line, and a status of its
//! own.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
};

use nix::sys::resource::{Resource, setrlimit};
use test_support::{Lab, command::ProgramCopy, environment};

use crate::{
    Run, Test,
    command_line::{lines, listentop},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "limits::stdout_that_is_closed", run: Run::Anywhere(closed_stdout) },
    Test { name: "limits::stdout_that_nobody_reads_on", run: Run::Anywhere(unread_stdout) },
    Test { name: "limits::too_few_descriptors", run: Run::Anywhere(few_descriptors) },
    Test { name: "limits::too_few_threads", run: Run::InLab(few_threads) },
    Test { name: "limits::too_little_memory", run: Run::Anywhere(little_memory) },
];

/// Standard output that was never open is no success, and nothing is measured for it.
fn closed_stdout() {
    // SAFETY: the process is about to become the program, and nothing in it writes there before.
    let close = || if unsafe { libc::close(1) } < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
    for (arguments, closed) in [
        ("report --for 1h", true),
        ("report --for 1h --format json", true),
        ("report --for 1h", false),
        ("doctor", true),
        ("--help", true),
        ("--version", false),
    ] {
        let mut command = listentop(arguments);
        if closed {
            // SAFETY: one system call between fork and exec.
            unsafe { command.pre_exec(close) };
        } else {
            command.stdout(File::open("/dev/null").expect("every Linux has it"));
        }
        let output = command.stderr(Stdio::piped()).spawn().and_then(Child::wait_with_output).expect("it runs");
        let lines = lines(&output);
        assert_eq!((output.status.code(), lines.len()), (Some(1), 1), "{arguments} {closed}: {lines:?}");
        assert!(lines[0].contains("cannot be written: it is closed"), "{lines:?}");
    }
    // What is redirected to nowhere on purpose is written.
    let nowhere =
        listentop("report --for 100ms").stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs");
    assert_eq!(nowhere.code(), Some(0));
}

/// A reader that has gone, as with `| head`: no message, and the status that shells know from SIGPIPE.
fn unread_stdout() {
    for arguments in ["report --for 200ms --format json", "report --for 200ms", "doctor", "--help"] {
        let mut child = listentop(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let said: Vec<String> = lines(&output).into_iter().filter(|line| line != "measuring").collect();
        assert_eq!((output.status.code(), said), (Some(141), Vec::new()), "{arguments}");
    }
}

/// The program under a limit, soft and hard.
fn limited(resource: Resource, limits: (u64, u64), arguments: &str) -> Output {
    let mut command = Command::new(environment::program());
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(move || Ok(setrlimit(resource, limits.0, limits.1)?)) };
    command.output().expect("it runs")
}

/// One line says what there is too little of, and what would help.
fn assert_short(output: &Output, of: &str, remedy: &str) {
    let lines = lines(output);
    let last = lines.last().map_or("", String::as_str);
    assert_eq!(output.status.code(), Some(6), "{of}: {lines:?}");
    assert!(last.starts_with("listentop: ") && last.contains(remedy), "{of}: {lines:?}");
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{lines:?}");
    assert!(output.stdout.is_empty(), "{of}");
}

fn few_descriptors() {
    // The loader of programs needs one or two itself.
    for limit in [6, 8] {
        let output = limited(Resource::RLIMIT_NOFILE, (limit, limit), "--probes sock_diag report --for 100ms");
        assert_short(&output, &format!("{limit} descriptors"), "raise 'ulimit -n'");
    }
    // Whatever is left for the rest: there is a line, or a report.
    for limit in [4, 7, 9, 10, 11, 12, 14, 16, 20] {
        let output = limited(Resource::RLIMIT_NOFILE, (limit, limit), "--probes sock_diag report --for 10ms");
        if output.status.code() != Some(0) {
            assert_short(&output, &format!("{limit} descriptors"), "raise 'ulimit -n'");
        }
    }
    // The hooks for which nothing is left must not look as if this kernel did not have them.
    if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        for limit in [20, 60, 100] {
            let output = limited(Resource::RLIMIT_NOFILE, (limit, limit), "report --for 100ms");
            assert_short(&output, &format!("{limit} descriptors"), "they take 128 descriptors");
        }
    }
    // The soft limit alone does not matter.
    let soft = limited(Resource::RLIMIT_NOFILE, (10, 1_024), "--probes sock_diag report --for 100ms");
    assert_eq!(soft.status.code(), Some(0), "{:?}", lines(&soft));
}

fn few_threads(_: &Lab) {
    let copy = ProgramCopy::new("threads");
    let run = |limit: u64| {
        let mut command = copy.as_nobody("--probes sock_diag report --for 100ms");
        // SAFETY: one system call between fork and exec. It limits the user whom the process has become.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NPROC, limit, limit)?)) };
        command.output()
    };
    let mut short = 0;
    // As many as it takes, and the processes that this user may have already.
    for limit in 1..64 {
        match run(limit) {
            // Not even the program itself.
            Err(_) => {}
            Ok(output) if output.status.code() == Some(0) => break,
            Ok(output) => {
                assert_short(&output, &format!("{limit} threads"), "raise 'ulimit -u'");
                short += 1;
            }
        }
    }
    assert!(short > 0, "every number of threads is enough");
}

fn little_memory() {
    let (mut short, mut enough) = (0, false);
    // From what the program itself takes, in steps that are small enough to run out in many places.
    for kibibytes in (4_000..200_000_u64).step_by(4_000) {
        let output = limited(Resource::RLIMIT_AS, (kibibytes << 10, kibibytes << 10), "report --for 100ms");
        match output.status.code() {
            Some(0) => {
                enough = true;
                break;
            }
            // The loader of programs cannot even map it, or the runtime of Rust its first bytes.
            _ if !lines(&output).iter().any(|line| line.starts_with("listentop: ")) => {
                assert!(short == 0, "{kibibytes}: {:?} {:?}", output.status, lines(&output));
            }
            _ => {
                assert_short(&output, &format!("{kibibytes} KiB"), "raise 'ulimit");
                short += 1;
            }
        }
    }
    assert!(short > 0 && enough, "{short}");
}
