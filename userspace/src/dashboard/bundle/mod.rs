//! The evidence bundle: what one sends to a colleague after an incident. A directory of plain files, so that nothing is
//! needed to read it. A thread of its own writes it: the screen goes on meanwhile.

mod history;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self as channel, Receiver},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use listentop_model::{
    episodes::now_ms,
    model::Model,
    words::{self, Charset},
};
use listentop_recording::Start;
use ratatui::buffer::Buffer;
use tokio::sync::mpsc;

pub use self::history::{Remembered, SPAN_MS};

use super::{App, Control, Palette, still};
use crate::report;

/// Columns of the report as text.
const WIDTH: usize = 120;
/// How long the source may take to say what it remembers: it may be taking a sample of a large machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bundles that are being written.
pub(super) struct Bundles {
    said: mpsc::UnboundedReceiver<String>,
    say: mpsc::UnboundedSender<String>,
    threads: Vec<JoinHandle<()>>,
}

impl Bundles {
    pub(super) fn new() -> Self {
        let (say, said) = mpsc::unbounded_channel();
        Self { said, say, threads: Vec::new() }
    }

    /// Begins to write a bundle of what the screen shows, into the working directory. Returns what to say.
    pub(super) fn begin(&mut self, app: &App, controls: &mpsc::UnboundedSender<Control>) -> String {
        match self.try_begin(app, controls) {
            Ok(name) => format!("writing the evidence bundle {name} …"),
            Err(error) => failed(&error),
        }
    }

    fn try_begin(&mut self, app: &App, controls: &mpsc::UnboundedSender<Control>) -> anyhow::Result<String> {
        let evidence = Evidence::of(app)?;
        let (answer, remembered) = channel::channel();
        // Without a source nobody answers, and the bundle has no past.
        let _ = controls.send(Control::Remember(answer));
        let (name, say) = (evidence.name(), self.say.clone());
        let write = move || {
            let written = evidence.write(Path::new("."), &remembered);
            let _ = say.send(match written {
                Ok(directory) => {
                    format!("evidence bundle: {}", directory.canonicalize().unwrap_or(directory).display())
                }
                Err(error) => failed(&error),
            });
        };
        let thread = thread::Builder::new().name("bundle".to_owned()).spawn(write).context("no thread for it")?;
        self.threads.push(thread);
        Ok(name)
    }

    /// What there is to say of one that was written.
    pub(super) async fn next(&mut self) -> String {
        self.said.recv().await.unwrap_or_default()
    }
}

/// What was begun is finished: nothing is left half written.
impl Drop for Bundles {
    fn drop(&mut self) {
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

fn failed(error: &anyhow::Error) -> String {
    format!("no evidence bundle could be written: {error:#}")
}

/// What a bundle shows, as it was when it was asked for.
struct Evidence {
    model: Arc<Model>,
    still: Buffer,
    palette: Palette,
    host: Option<String>,
    interval: Duration,
}

impl Evidence {
    fn of(app: &App) -> anyhow::Result<Self> {
        let state = &app.state;
        Ok(Self {
            model: state.model.clone().context("nothing was measured yet")?,
            still: still(app),
            palette: state.options.palette,
            host: state.options.host.clone(),
            interval: state.refresh,
        })
    }

    /// `listentop-HOST-20261129T031207Z`.
    fn name(&self) -> String {
        let time: String = words::utc(now_ms(&self.model))[..19].chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let host = self.host.as_deref().unwrap_or("host");
        let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        format!("listentop-{host}-{time}Z")
    }

    /// Writes it into a new directory within `parent`. Returns the directory.
    ///
    /// # Errors
    /// The files cannot be written. Then nothing is left behind.
    fn write(&self, parent: &Path, remembered: &Receiver<Remembered>) -> anyhow::Result<PathBuf> {
        let directory = parent.join(self.name());
        fs::DirBuilder::new().mode(0o700).create(&directory).with_context(|| format!("{}", directory.display()))?;
        let written = self.write_files(&directory, remembered);
        if written.is_err() {
            // Only what was written just now is in it.
            let _ = fs::remove_dir_all(&directory);
        }
        written?;
        give_to_user(&directory);
        Ok(directory)
    }

    fn write_files(&self, directory: &Path, remembered: &Receiver<Remembered>) -> anyhow::Result<()> {
        let put = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            file.and_then(|mut file| file.write_all(bytes)).with_context(|| format!("{}", path.display()))
        };
        for format in still::FORMATS {
            let bytes = (format.write)(&self.still, self.palette)?;
            put(&format!("screen.{}", format.ending), &bytes)?;
        }
        let page = report::Page { remarks: &[], width: WIDTH, charset: Charset::Unicode, story: None };
        for (file, format) in [("report.txt", "table"), ("report.json", "json"), ("report.html", "html")] {
            let format = report::format(format).context("there is such a format")?;
            put(file, (format.write)(&self.model, &page)?.as_bytes())?;
        }
        let courses = match remembered.recv_timeout(PATIENCE) {
            Ok(remembered) => {
                let path = directory.join("history.rec");
                remembered.record(&path, self.start()).with_context(|| format!("{}", path.display()))?;
                remembered.courses(&self.model)
            }
            // The source is gone, or hangs: what the screen shows is there.
            Err(_) => history::shown(&self.model),
        };
        put("history.json", (serde_json::to_string(&courses).context("history")? + "\n").as_bytes())
    }

    /// About the recording.
    fn start(&self) -> Start {
        let program = concat!("listentop ", env!("CARGO_PKG_VERSION")).to_owned();
        Start {
            machine: self.host.clone(),
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1_000),
            ..Start::new(program, now_ms(&self.model))
        }
    }
}

/// Under sudo the files belong to who called it, who is to read and send them.
fn give_to_user(directory: &Path) {
    let id = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) else { return };
    let give = |path: &Path| -> io::Result<()> { std::os::unix::fs::lchown(path, Some(uid), Some(gid)) };
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    // Without the right to give them away they stay root's.
    files.chain([directory.to_owned()]).for_each(|path| _ = give(&path));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use listentop_model::{fixtures, tracker::Tracker};
    use listentop_recording::Recording;

    use super::*;
    use crate::{dashboard::DashboardOptions, past::Memory};

    /// A dashboard that has seen an overflow.
    fn app() -> App {
        let mut app = App::new(DashboardOptions { host: Some("a/b".to_owned()), ..DashboardOptions::default() });
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        app.set_model(Arc::new(tracker.model().clone()));
        app
    }

    fn nothing_remembered() -> Receiver<Remembered> {
        channel::channel().1
    }

    #[test]
    fn a_bundle_has_report_history_and_still() {
        let parent = tempfile::tempdir().unwrap();
        assert!(
            Evidence::of(&App::new(DashboardOptions::default())).is_err_and(|e| e.to_string().contains("nothing was"))
        );
        let evidence = Evidence::of(&app()).unwrap();
        let directory = evidence.write(parent.path(), &nothing_remembered()).unwrap();
        assert!(directory.ends_with("listentop-a_b-20251009T085324Z"), "{}", directory.display());
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        let report: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
        assert_eq!(report["listeners"][0]["port"], 8080);
        // What the screen shows, as nobody remembers more.
        let history: serde_json::Value = serde_json::from_str(&read("history.json")).unwrap();
        assert_eq!(
            (&history[0]["address"], &history[0]["points"][15]["accept_depth"]),
            (&"0.0.0.0:8080".into(), &129.into())
        );
        assert!(!directory.join("history.rec").exists());
        assert!(read("report.txt").contains("accept_queue_overflow") && read("screen.txt").contains("8080"));
        assert!(read("screen.svg").ends_with("</svg>\n"));
        assert_eq!(directory.join("screen.png").exists(), cfg!(feature = "png"));
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        // A second one at the same moment leaves the first alone.
        assert!(evidence.write(parent.path(), &nothing_remembered()).is_err());
        assert!(directory.join("report.json").exists());
    }

    /// A quarter of an hour, a sample each second, of a memory that has an hour.
    #[test]
    fn its_history_is_the_last_quarter_of_an_hour() {
        let first = fixtures::overflow().pop().unwrap();
        let mut memory = Memory::default();
        let mut last = 0;
        for second in 0..3_600_u64 {
            let mut sample = first.clone();
            sample.monotonic_ns += second * 1_000_000_000;
            sample.unix_ms += second * 1_000;
            sample.listeners[0].gauges.accept_depth = (second % 100) as u32;
            last = sample.unix_ms;
            memory.push(&sample);
        }
        let (answer, remembered) = channel::channel();
        answer.send(Remembered::until(last - 5_000, Box::new(memory.part(last - 5_000 - SPAN_MS)))).unwrap();
        let parent = tempfile::tempdir().unwrap();
        let directory = Evidence::of(&app()).unwrap().write(parent.path(), &remembered).unwrap();
        let recording = Recording::open(&directory.join("history.rec"), |_, _| ()).unwrap();
        let count = recording.len();
        let of = |place| recording.stamp(place).unwrap().unix_ms;
        assert_eq!(of(count - 1), last - 5_000, "nothing later than what was shown");
        // At its beginning the memory is thinner.
        assert!((890..=901).contains(&count) && (905_000 - 10_000..=905_000).contains(&(last - of(0))), "{count}");
        assert_eq!(recording.runs()[0].start.machine.as_deref(), Some("a/b"));
        let history = fs::read_to_string(directory.join("history.json")).unwrap();
        let history: serde_json::Value = serde_json::from_str(&history).unwrap();
        let points = history[0]["points"].as_array().unwrap();
        // The first sample is what the second is compared with.
        let count = points.len();
        assert_eq!(count, recording.len() - 1);
        assert_eq!((&points[count - 1]["accept_depth"], &points[count - 11]["accept_depth"]), (&94.into(), &84.into()));
        assert_eq!(points[count - 1]["time"], words::utc(last - 5_000));
        let (from, to) = (&points[count - 101]["at_seconds"], &points[count - 1]["at_seconds"]);
        assert!((to.as_f64().unwrap() - from.as_f64().unwrap() - 100.0).abs() < 0.01, "{from} {to}");
    }

    /// It is written although the user leaves at once.
    #[test]
    fn what_was_begun_is_finished() {
        let (say, said) = mpsc::unbounded_channel();
        let mut bundles = Bundles { said, say, threads: Vec::new() };
        let (done, finished) = channel::channel();
        bundles.threads.push(thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            done.send(()).unwrap();
        }));
        drop(bundles);
        assert!(finished.try_recv().is_ok());
    }
}
