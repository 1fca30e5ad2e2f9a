//! Which characters are printed: names of processes and the user's own arguments hold any.

use std::{
    ffi::OsStr,
    fs,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use test_support::{environment, lab::PORT, sockets::listen};

use crate::{
    Run, Test,
    command_line::{end, lines, listentop, report, run},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "characters::names_longer_than_the_kernel_keeps", run: Run::Anywhere(long_names) },
    Test { name: "characters::no_control_character_is_printed", run: Run::Anywhere(control_characters) },
    Test { name: "characters::columns_stay_aligned", run: Run::Anywhere(aligned) },
    Test { name: "characters::only_ascii_in_the_c_locale", run: Run::Anywhere(c_locale) },
];

/// A process of this name that holds a listener.
struct Named {
    child: Child,
    directory: PathBuf,
}

impl Named {
    fn start(name: &OsStr, port: u16) -> Self {
        let directory = std::env::temp_dir().join(format!("listentop-named-{}-{port}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let program = directory.join(name);
        fs::copy("/bin/sleep", &program).expect("a copy");
        let stdin = Stdio::from(OwnedFd::from(listen(port, 16)));
        // Its first argument is that of sleep: where programs are one file (busybox), that says which it is.
        let child = Command::new(&program).arg0("sleep").arg("1000").stdin(stdin).spawn().expect("it runs");
        Self { child, directory }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        end(&mut self.child);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The kernel keeps 15 bytes of a name: a longer one is looked for as it is kept.
fn long_names() {
    let long = "a-name-of-21-bytes-xx";
    let _named = Named::start(OsStr::new(long), PORT);
    for (given, notes) in [(long, 1), (&long[..15], 0)] {
        let output = run(&format!("report --for 100ms --format json --comm {given}"));
        assert_eq!((output.status.code(), lines(&output).len()), (Some(0), 1 + notes), "{:?}", lines(&output));
        assert_eq!(report(&output)["listeners"][0]["process"]["comm"], long[..15]);
        if notes > 0 {
            let note = format!("listentop: --comm {given}: the kernel keeps 15 bytes of a name");
            assert!(lines(&output)[0].starts_with(&note), "{:?}", lines(&output));
        }
    }
}

/// Characters that control a terminal, or reorder or hide what stands beside them: an escape sequence, a C1 control, an
/// override of direction, a zero-width space.
const HOSTILE: &str = "x\u{1b}[2J\u{9b}\u{202e}\u{200b}z";

fn assert_harmless(text: &[u8], of: &str) {
    let text = std::str::from_utf8(text).unwrap_or_else(|error| panic!("{of}: {error}"));
    let harmful = text.chars().find(|c| (c.is_control() && *c != '\n') || "\u{202e}\u{200b}".contains(*c));
    assert_eq!(harmful, None, "{of}: {text:?}");
}

/// Neither a name of a process nor an argument of the user's brings one to the terminal, in any format.
fn control_characters() {
    let _named = Named::start(OsStr::new(HOSTILE), PORT);
    let port = PORT.to_string();
    for format in ["table", "json"] {
        let output =
            listentop("report --for 100ms --format").args([format, "--port", &port]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{:?}", lines(&output));
        assert_harmless(&output.stdout, format);
        if format == "json" {
            let kept = HOSTILE;
            assert_eq!(report(&output)["listeners"][0]["process"]["comm"], kept, "it means the same");
        }
    }
    for arguments in [
        &["report", "--netns", HOSTILE][..],
        &["report", "--port", HOSTILE],
        &["report", "--for", "100ms", "--port", "1", "--comm", HOSTILE],
        &["report", "--for", HOSTILE],
        &["report", "--format", HOSTILE],
        &[HOSTILE],
        &["doctor", "--comm", HOSTILE],
    ] {
        let output = Command::new(environment::program()).args(arguments).output().expect("it runs");
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        assert_harmless(&output.stderr, &format!("{arguments:?}"));
        assert_harmless(&output.stdout, &format!("{arguments:?}"));
    }
    let mut not_utf8 = listentop("report --for 100ms --comm");
    let output = not_utf8.arg(OsStr::from_bytes(b"\xff\x1b[2J")).output().expect("it runs");
    assert_eq!(output.status.code(), Some(5));
    assert_harmless(&output.stderr, "a name that is no UTF-8");
}

/// Wide and combining characters, in the C locale too.
fn aligned() {
    let _wide = Named::start(OsStr::new("日本語"), PORT);
    let _combining = Named::start(OsStr::new("e\u{301}e\u{301}"), PORT + 1);
    let _plain = Named::start(OsStr::new("plain"), PORT + 2);
    for locale in ["C", "C.UTF-8"] {
        let mut command = listentop("report --for 100ms");
        for port in PORT..PORT + 3 {
            command.args(["--port", &port.to_string()]);
        }
        let output = command.env("LC_ALL", locale).output().expect("it runs");
        let table = String::from_utf8(output.stdout).expect("text");
        // The column behind the names is right-aligned: its heading and its values end at one place.
        let end = |row: &str| {
            let behind = row.split_whitespace().nth(4).expect("a column");
            let at = row.find(&format!(" {behind} ")).expect("it is there") + 1 + behind.len();
            listentop_model::words::width(&row[..at])
        };
        let heading = table.lines().find(|line| line.starts_with("LISTENER")).expect("a heading");
        let ends: Vec<usize> =
            table.lines().skip_while(|line| !line.starts_with("LISTENER")).skip(1).take(3).map(end).collect();
        assert_eq!(ends.len(), 3, "{table}");
        assert!(ends.iter().all(|at| *at == end(heading)), "{locale}: {ends:?}\n{table}");
        assert_eq!(table.is_ascii(), locale == "C", "{table}");
    }
}

/// In the C locale only ASCII is written, except in JSON, which is UTF-8.
fn c_locale() {
    let _named = Named::start(OsStr::new("d\u{e9}mon"), PORT);
    for (variables, ascii) in [
        (&[("LC_ALL", "C")][..], true),
        (&[("LANG", "POSIX")], true),
        (&[("LC_CTYPE", "C"), ("LANG", "en_GB.UTF-8")], true),
        (&[], true),
        (&[("LANG", "en_GB.UTF-8")], false),
    ] {
        let mut command = listentop(&format!("report --for 100ms --port {PORT}"));
        for name in ["LC_ALL", "LC_CTYPE", "LANG"] {
            command.env_remove(name);
        }
        let output = command.envs(variables.iter().copied()).output().expect("it runs");
        let table = String::from_utf8(output.stdout).expect("text");
        assert_eq!(table.is_ascii(), ascii, "{variables:?}: {table}");
        assert!(table.contains(if ascii { "d?mon[" } else { "d\u{e9}mon[" }), "{table}");
    }
    let output = listentop(&format!("report --for 100ms --format json --port {PORT}")).env("LC_ALL", "C").output();
    assert_eq!(report(&output.expect("it runs"))["listeners"][0]["process"]["comm"], "d\u{e9}mon");
}
