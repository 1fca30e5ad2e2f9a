//! What listentop costs in instructions: `cargo xtask bench --instructions`.
//!
//! In a virtual machine that executes one instruction a nanosecond, by its own clock, throughput is a count of
//! instructions: the same every time for the same programs, and it can be counted for probes on functions too, which
//! not every machine lets in. What instructions cost in time it does not tell.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::counted::{Attached, Counted, Hooks, Work};
use super::load::Load;
use crate::kernels::machine::{self, Clock, End, Machine};
use crate::kernels::plan::{Event, Plan, Run};
use crate::kernels::{self, guest};
use crate::{cargo, process, setup};

/// The kernel: one that has all the hooks.
const KERNEL: &str = "6.18";

/// Where the figures are kept.
const DOCUMENT: &str = "docs/instructions.md";

/// How much more than the committed figure is a step back, for requests: five times what it is off by where anything
/// else has changed. What the kernel does for a connection depends on more: there listentop's own part moves by a
/// third, and is not compared.
const TOLERANCE: f64 = 0.10;

/// The probes have become heavier: the bench has an exit status for that.
#[derive(Debug)]
pub(crate) struct Heavier(Vec<String>);

impl fmt::Display for Heavier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.join("; ");
        write!(f, "more instructions than {DOCUMENT} says: {rows} (`--write` takes the new figures instead)")
    }
}

impl Error for Heavier {}

/// Boots the machine, prints the table, and compares it with the committed one, or writes it.
///
/// # Errors
/// When something that it needs is missing or fails. [`Heavier`] when the probes take more instructions than the
/// committed table says.
pub(super) fn run(write: bool) -> Result<()> {
    machine::ensure_available()?;
    let (release, counted) = count()?;
    let rows = rows(&counted)?;
    let table = table(&rows);
    print!("{table}");
    let path = cargo::root().join(DOCUMENT);
    if write {
        fs::write(&path, page(&release, &table)).with_context(|| format!("cannot write {}", path.display()))?;
        process::announce(&format!("written to {}", path.display()));
        return Ok(());
    }
    let committed = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let heavier = heavier(&rows, &committed)?;
    if !heavier.is_empty() {
        return Err(Heavier(heavier).into());
    }
    println!("\nrequests take no more instructions than {DOCUMENT} says");
    Ok(())
}

/// The kernel's release, and what was counted.
fn count() -> Result<(String, Vec<Counted>)> {
    let dir = cargo::root().join("target/kernels");
    let (kernel, image) = kernels::obtain(KERNEL, &dir)?;
    setup::run_static()?;
    process::announce("building what is counted as static programs (the first time takes a few minutes)");
    let mut build = cargo::command("build");
    build.args(["--release", "--bins", "--target", &setup::static_target()]);
    build.args(["--package", "listentop", "--package", "demo-servers", "--package", "xtask"]);
    let built = cargo::executables(&mut build, "the static build")?;
    let program = |name: &str| {
        let found = built.iter().find(|built| built.kind == "bin" && built.target == name);
        found.map(|built| built.path.as_path()).with_context(|| format!("the build made no {name}"))
    };
    let files = [
        (guest::INIT, program("vm-init")?),
        (guest::LISTENTOP, program("listentop")?),
        ("/bin/demo-server", program("demo-server")?),
        ("/bin/storm", program("storm")?),
        ("/bin/vm-bench", program("vm-bench")?),
    ];
    let run = Run {
        name: "instructions".to_owned(),
        command: vec!["/bin/vm-bench".to_owned()],
        environment: vec![("PATH".to_owned(), "/bin".to_owned())],
        // Of its own clock, which runs ahead whenever it waits.
        seconds: 3600,
    };
    let logs = dir.join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let file_system = logs.join("instructions.cpio");
    guest::write_file_system(&file_system, &files, &image, Plan { runs: vec![run], ..Plan::default() })?;
    let machine = Machine {
        kernel: image.kernel.clone(),
        file_system: file_system.clone(),
        cpus: "1".to_owned(),
        clock: Clock::Instructions,
        limit: machine::LIMIT,
        console: logs.join("instructions.console"),
    };
    process::announce(&format!("counting instructions on Linux {} (two or three minutes)", kernel.release));
    let mut counted = Vec::new();
    let mut troubles = Vec::new();
    let end = machine.run(|event| match event {
        Event::Line { stderr: false, text } => match serde_json::from_str(&text) {
            Ok(count) => counted.push(count),
            Err(_) => troubles.push(text),
        },
        Event::Line { stderr: true, text } | Event::Trouble { what: text } => troubles.push(text),
        Event::End { code, .. } if code != Some(0) => troubles.push(format!("it ended with {code:?}")),
        _ => {}
    })?;
    fs::remove_file(&file_system).with_context(|| format!("cannot remove {}", file_system.display()))?;
    ensure!(end == End::Complete, "the machine did not come to its end: {end:?}; {}", troubles.join("; "));
    ensure!(troubles.is_empty(), "in the machine: {}", troubles.join("; "));
    Ok((kernel.release, counted))
}

/// One load, with probes on one kind of hooks.
#[derive(Debug, PartialEq)]
struct Row {
    work: Work,
    hooks: Hooks,
    /// Instructions per operation with nothing attached.
    nothing: f64,
    empty: f64,
    listentop: f64,
    /// By how much the runs of one thing differ at most, as a part of it.
    spread: f64,
}

impl Row {
    /// The load, as all pages call it.
    fn load(&self) -> &'static str {
        match self.work {
            Work::Connect => Load::Connect.name(),
            Work::Requests => Load::KeepAlive.name(),
        }
    }

    /// What listentop's own programs execute.
    fn own(&self) -> f64 {
        self.listentop - self.empty
    }
}

fn rows(counted: &[Counted]) -> Result<Vec<Row>> {
    let of = |work, attached| {
        let runs = counted.iter().filter(|count| count.work == work && count.attached == attached);
        let runs: Vec<f64> = runs.map(|count| count.instructions).collect();
        ensure!(!runs.is_empty(), "{work:?} with {attached:?} was not counted");
        let mean = runs.iter().sum::<f64>() / runs.len() as f64;
        let (least, most) = runs.iter().fold((f64::MAX, 0.0), |(a, b): (f64, f64), run| (a.min(*run), b.max(*run)));
        Ok((mean, (most - least) / mean))
    };
    let mut rows = Vec::new();
    for work in Work::ALL {
        let (nothing, spread) = of(work, Attached::Nothing)?;
        for hooks in Hooks::ALL {
            let (empty, of_empty) = of(work, Attached::Empty(hooks))?;
            let (listentop, of_listentop) = of(work, Attached::Listentop(hooks))?;
            let spread = spread.max(of_empty).max(of_listentop);
            rows.push(Row { work, hooks, nothing, empty, listentop, spread });
        }
    }
    Ok(rows)
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| load | `--probes` | nothing | empty programs | listentop | nothing : listentop | empty programs : listentop | runs differ by | its own |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.3} | {:.3} | {:.1} % | {:.0} |",
            row.load(),
            row.hooks,
            row.nothing,
            row.empty,
            row.listentop,
            row.nothing / row.listentop,
            row.empty / row.listentop,
            row.spread * 100.0,
            row.own()
        );
    }
    text
}

fn page(release: &str, table: &str) -> String {
    format!(
        "# Instructions\n\n\
         `cargo xtask bench --instructions --write` on Linux {release}, in a virtual machine of one CPU.\n\n\
         The machine is emulated and executes one instruction a nanosecond by its own clock, so what a load gets done in a second of that clock tells how\n\
         many instructions the whole machine (client, server, kernel, probes) executes for a connection and for a request. Two runs of the same\n\
         programs give the same count, to the last one, and probes on functions are counted too, which not every machine lets in. It is not time: an\n\
         instruction that waits for memory, or for a cache line of another CPU, counts like any other, and the kernel's wait more often than the\n\
         probes'. Time is in [benchmarks.md](benchmarks.md).\n\n\
         {table}\n\
         *Its own* is what listentop executes beyond programs that return at once on the same hooks; where anything else changes it moves by a third\n\
         for connections and by a fiftieth for requests. listentop's process is stopped meanwhile. Without `--write` the command compares: {tolerance:.0} %\n\
         more for a request than is written here is a step back, with exit status 3. `.ci/run` does that.\n",
        tolerance = TOLERANCE * 100.0
    )
}

/// The rows that have become heavier than the committed page says.
fn heavier(rows: &[Row], committed: &str) -> Result<Vec<String>> {
    let mut heavier = Vec::new();
    for row in rows.iter().filter(|row| row.work == Work::Requests) {
        let start = format!("| {} | {} |", row.load(), row.hooks);
        let line = committed.lines().find(|line| line.starts_with(&start));
        let own = line.and_then(|line| line.trim_end_matches([' ', '|']).rsplit(' ').next()?.parse::<f64>().ok());
        let own = own.with_context(|| format!("{DOCUMENT} has no figure for {} by {}", row.load(), row.hooks))?;
        if row.own() > own * (1.0 + TOLERANCE) {
            heavier.push(format!("{} by {}: {:.0} instead of {own:.0}", row.load(), row.hooks, row.own()));
        }
    }
    Ok(heavier)
}

#[cfg(test)]
mod tests {
    use super::{Attached, Counted, Hooks, Row, Work, heavier, page, rows, table};

    /// Runs that differ by 2 %, with listentop's own as given.
    fn counted(own: f64) -> Vec<Counted> {
        let mut counted = Vec::new();
        for work in Work::ALL {
            for part in [0.99, 1.01] {
                let mut run = |attached, instructions| {
                    counted.push(Counted { work, attached, instructions: instructions * part });
                };
                run(Attached::Nothing, 1000.0);
                for hooks in Hooks::ALL {
                    run(Attached::Empty(hooks), 1100.0);
                    run(Attached::Listentop(hooks), 1100.0 + own);
                }
            }
        }
        counted
    }

    #[test]
    fn runs_are_averaged_and_compared() {
        let rows = rows(&counted(150.0)).unwrap();
        assert_eq!(rows.len(), 6);
        let Row { nothing, empty, listentop, spread, .. } = rows[0];
        assert!((nothing - 1000.0).abs() < 1e-6 && (empty - 1100.0).abs() < 1e-6 && (listentop - 1250.0).abs() < 1e-6);
        assert!((spread - 0.02).abs() < 1e-6, "{spread}");
        let text = table(&rows);
        assert!(
            text.contains("| keep-alive requests | fentry | 1000 | 1100 | 1250 | 0.800 | 0.880 | 2.0 % | 150 |"),
            "{text}"
        );
    }

    #[test]
    fn what_was_not_counted_is_an_error() {
        let mut counted = counted(150.0);
        counted.retain(|count| count.attached != Attached::Empty(Hooks::Fentry));
        assert!(rows(&counted).unwrap_err().to_string().contains("not counted"));
    }

    #[test]
    fn only_what_is_heavier_than_the_page_says_is_named() {
        let committed = page("6.18.1", &table(&rows(&counted(100.0)).unwrap()));
        let named = |own| heavier(&rows(&counted(own)).unwrap(), &committed).unwrap();
        assert_eq!(named(109.0), [""; 0]);
        assert_eq!(named(20.0), [""; 0]);
        let requests = named(111.0);
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[0], "keep-alive requests by auto: 111 instead of 100");
        assert!(heavier(&rows(&counted(1.0)).unwrap(), "# Instructions").is_err(), "nothing to compare with");
    }
}
