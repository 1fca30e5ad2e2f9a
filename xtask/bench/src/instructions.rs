//! What listentop costs in instructions: `cargo xtask bench --instructions`.
//!
//! In a virtual machine that executes one instruction per nanosecond of its own clock, throughput is a count of
//! instructions. The count is the same every time for the same programs, and it works for probes on functions too,
//! which some machines refuse. It does not show what the instructions cost in time.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::load::Load;
use listentop_guest::counted::{Attached, Counted, Hooks, Work};
use listentop_guest::plan::{Event, Plan, Run};
use listentop_kernels::architecture::Architecture;
use listentop_kernels::guest;
use listentop_kernels::machine::{self, Clock, End, Machine};
use xtask_support::cargo::{self, Executable};
use xtask_support::{process, setup};

/// A kernel that has all the hooks.
const KERNEL: &str = "6.18";

/// The document with the committed figures.
const DOCUMENT: &str = "docs/instructions.md";

/// How much the figure for requests may exceed the committed one. Unrelated changes move it by a fifth of this. The
/// figure for connections is not compared: there unrelated changes move listentop's own part by a third.
const TOLERANCE: f64 = 0.10;

/// The probes execute more instructions than before: the rows concerned.
#[derive(Debug)]
pub(crate) struct Heavier(Vec<String>);

impl fmt::Display for Heavier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.join("; ");
        write!(f, "more instructions than in {DOCUMENT}: {rows} (`--write` accepts the new figures)")
    }
}

impl Error for Heavier {}

/// Boots the machine, prints the table, and compares it with the committed one, or writes it.
///
/// # Errors
/// When something is missing or fails. [`Heavier`] when the probes execute more instructions than in the committed
/// table.
pub(crate) fn run(write: bool) -> Result<()> {
    machine::ensure_runs_own(Architecture::X86)?;
    let (release, counted) = count()?;
    let rows = rows(&counted)?;
    let table = table(&rows);
    print!("{table}");
    let path = cargo::root().join(DOCUMENT);
    if write {
        fs::write(&path, page(&release, &table)).with_context(|| format!("cannot write {}", path.display()))?;
        process::announce(&format!("wrote {}", path.display()));
        return Ok(());
    }
    let committed = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let heavier = heavier(&rows, &committed)?;
    if !heavier.is_empty() {
        return Err(Heavier(heavier).into());
    }
    println!("\nrequests take no more instructions than in {DOCUMENT}");
    Ok(())
}

/// Boots the machine. Returns the kernel's release and the counts.
fn count() -> Result<(String, Vec<Counted>)> {
    let dir = cargo::root().join("target/kernels");
    let (kernel, image) = listentop_kernels::obtain(KERNEL, &dir)?;
    let built = build()?;
    let files = files(&built)?;
    let logs = dir.join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let file_system = logs.join("instructions.cpio");
    guest::write_file_system(&file_system, &files, &image, plan())?;
    let machine = Machine {
        architecture: Architecture::X86,
        kernel: image.kernel.clone(),
        file_system: file_system.clone(),
        cpus: "1".to_owned(),
        clock: Clock::Instructions,
        limit: machine::LIMIT,
        console: logs.join("instructions.console"),
    };
    process::announce(&format!("counting instructions on Linux {} (two or three minutes)", kernel.release));
    let counted = counts(&machine)?;
    fs::remove_file(&file_system).with_context(|| format!("cannot remove {}", file_system.display()))?;
    Ok((kernel.release, counted))
}

/// Builds the measured programs and the programs of the machine.
fn build() -> Result<Vec<Executable>> {
    setup::run_static()?;
    process::announce("building the measured programs, static (the first time takes a few minutes)");
    let mut build = cargo::static_command("build");
    build.args(["--bins", "--package", "listentop", "--package", "demo-servers", "--package", "listentop-guest"]);
    cargo::executables(&mut build, "the static build")
}

/// The programs with their paths in the machine.
fn files(built: &[Executable]) -> Result<[(&'static str, &Path); 5]> {
    let program = |name: &str| {
        let found = built.iter().find(|built| built.kind == "bin" && built.target == name);
        found.map(|built| built.path.as_path()).with_context(|| format!("the build made no {name}"))
    };
    Ok([
        (guest::INIT, program("vm-init")?),
        (guest::LISTENTOP, program("listentop")?),
        ("/bin/demo-server", program("demo-server")?),
        ("/bin/storm", program("storm")?),
        ("/bin/vm-bench", program("vm-bench")?),
    ])
}

fn plan() -> Plan {
    let run = Run {
        name: "instructions".to_owned(),
        command: vec!["/bin/vm-bench".to_owned()],
        environment: vec![("PATH".to_owned(), "/bin".to_owned())],
        // By the machine's own clock, which jumps ahead while it is idle.
        seconds: 3600,
    };
    Plan { runs: vec![run], ..Plan::default() }
}

/// Runs the machine and collects its counts.
fn counts(machine: &Machine) -> Result<Vec<Counted>> {
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
    ensure!(end == End::Complete, "the machine did not finish: {end:?}; {}", troubles.join("; "));
    ensure!(troubles.is_empty(), "in the machine: {}", troubles.join("; "));
    Ok(counted)
}

/// One load with one kind of hooks.
#[derive(Debug, PartialEq)]
struct Row {
    work: Work,
    hooks: Hooks,
    /// Instructions per operation with nothing attached.
    nothing: f64,
    empty: f64,
    listentop: f64,
    /// The largest relative difference between runs of the same kind.
    spread: f64,
}

impl Row {
    /// The load's name on all pages.
    fn load(&self) -> &'static str {
        match self.work {
            Work::Connect => Load::Connect.name(),
            Work::Requests => Load::KeepAlive.name(),
        }
    }

    /// The instructions of listentop's own programs.
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
         The machine is emulated and executes one instruction per nanosecond of its own clock. So the throughput of a load shows how many\n\
         instructions the whole machine (client, server, kernel, probes) executes for a connection and for a request. Two runs of the same\n\
         programs give exactly the same count. Probes on functions are counted too, which some machines refuse. Instructions are not time: one that\n\
         waits for memory, or for a cache line of another CPU, counts like any other, and the kernel's wait more often than the probes'. Time is\n\
         in [benchmarks.md](benchmarks.md).\n\n\
         {table}\n\
         *Its own* is what listentop executes beyond programs that return at once on the same hooks. Unrelated changes move it by a third for\n\
         connections and by a fiftieth for requests. listentop's process is stopped during the runs. Without `--write` the command compares: it exits\n\
         with status 3 when a request takes {tolerance:.0} % more instructions than are written here. `.ci/run --all` does that.\n",
        tolerance = TOLERANCE * 100.0
    )
}

/// The rows with more instructions than on the committed page.
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
    fn a_missing_count_is_an_error() {
        let mut counted = counted(150.0);
        counted.retain(|count| count.attached != Attached::Empty(Hooks::Fentry));
        assert!(rows(&counted).unwrap_err().to_string().contains("not counted"));
    }

    #[test]
    fn only_rows_that_exceed_the_page_are_named() {
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
