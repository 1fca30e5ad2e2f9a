//! The evidence bundle: what one sends to a colleague after an incident. A directory of plain files, so that nothing is
//! needed to read it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use listentop_model::{
    model::Model,
    words::{self, Charset},
};
use nix::{
    fcntl::{AT_FDCWD, OFlag, openat},
    sys::stat::{Mode, fstat},
    unistd::{Gid, Uid, fchown, geteuid},
};
use serde::Serialize;

use super::{App, still};
use crate::report;

/// Columns of the report as text.
const WIDTH: usize = 120;

/// Writes the bundle into a new directory within `parent`. Returns the directory.
///
/// # Errors
/// There is no sample yet, or the files cannot be written. Then nothing is left behind.
pub(super) fn write(app: &App, parent: &Path) -> anyhow::Result<PathBuf> {
    let model = app.state.model.as_deref().context("nothing was measured yet")?;
    let directory = parent.join(name(app, model));
    fs::DirBuilder::new().mode(0o700).create(&directory).with_context(|| format!("{}", directory.display()))?;
    let folder = Folder::open(&directory).with_context(|| format!("{}", directory.display()))?;
    let written = write_files(app, model, &folder);
    if written.is_err() {
        // Only what was written just now is in it. A link in its place would be removed, and not followed.
        let _ = fs::remove_dir_all(&directory);
    }
    written.with_context(|| format!("{}", directory.display()))?;
    Ok(directory)
}

/// A folder that is open. Others may write where it is, and exchange it for a link: everything goes by its descriptor.
struct Folder {
    folder: OwnedFd,
    /// Under sudo the files belong to who called it, who is to read and send them.
    user: Option<(Uid, Gid)>,
}

impl Folder {
    /// Opens a folder that was just made.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = openat(AT_FDCWD, path, flags, Mode::empty())?;
        let stat = fstat(&folder)?;
        if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(io::Error::other("it was exchanged for another folder"));
        }
        let id = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let user = id("SUDO_UID").zip(id("SUDO_GID")).map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid)));
        let made = Self { folder, user };
        made.give(&made.folder);
        Ok(made)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).context(name.to_owned())?;
        let mut file = File::from(file);
        file.write_all(bytes).context(name.to_owned())?;
        self.give(&file);
        Ok(())
    }

    fn give(&self, file: impl std::os::fd::AsFd) {
        if let Some((uid, gid)) = self.user {
            // Without the right to give it away it stays root's.
            let _ = fchown(file, Some(uid), Some(gid));
        }
    }
}

/// `listentop-HOST-20261129T031207Z`.
fn name(app: &App, model: &Model) -> String {
    let now_ms = model.interval.start_unix_ms.saturating_add((model.interval.seconds * 1_000.0) as u64);
    let time: String = words::utc(now_ms)[..19].chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let host = app.state.options.host.as_deref().unwrap_or("host");
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("listentop-{host}-{time}Z")
}

fn write_files(app: &App, model: &Model, folder: &Folder) -> anyhow::Result<()> {
    let put = |name: &str, bytes: &[u8]| folder.put(name, bytes);
    let page = report::Page { remarks: &[], width: WIDTH, charset: Charset::Unicode, story: None };
    for (file, format) in [("report.txt", "table"), ("report.json", "json"), ("report.html", "html")] {
        let format = report::format(format).context("there is such a format")?;
        put(file, (format.write)(model, &page)?.as_bytes())?;
    }
    put("history.json", (serde_json::to_string(&histories(model)).context("history")? + "\n").as_bytes())?;
    let picture = still(app);
    for format in still::FORMATS {
        let bytes = (format.write)(&picture, app.state.options.palette)?;
        put(&format!("screen.{}", format.ending), &bytes)?;
    }
    Ok(())
}

/// The last steps of a listener.
#[derive(Serialize)]
struct Course {
    id: u64,
    address: String,
    points: Vec<Step>,
}

/// How it was at one of them; the fields are those of the model.
#[derive(Serialize)]
struct Step {
    at_seconds: f64,
    accept_depth: u32,
    accept_peak: Option<u32>,
    syn_depth: Option<u32>,
    drops: Option<u64>,
    accepts_per_second: Option<f64>,
    reads_per_second: Option<f64>,
}

/// What the graphs show, of every listener that did something or is not well.
fn histories(model: &Model) -> Vec<Course> {
    let used = |listener: &&listentop_model::model::ListenerModel| {
        let counts = [listener.total.enqueued, listener.total.accepts, listener.drops.total];
        counts.into_iter().flatten().any(|n| n > 0) || listener.now.accept_depth > 0 || !listener.findings.is_empty()
    };
    let course = |listener: &listentop_model::model::ListenerModel| Course {
        id: listener.id,
        address: words::listener_endpoint(listener),
        points: (listener.history.points(&model.timeline))
            .map(|point| Step {
                at_seconds: point.at,
                accept_depth: point.accept_depth,
                accept_peak: point.accept_peak,
                syn_depth: point.syn_depth,
                drops: point.drops,
                accepts_per_second: point.accepts,
                reads_per_second: point.reads,
            })
            .collect(),
    };
    model.listeners.iter().filter(used).map(course).collect()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;
    use crate::dashboard::DashboardOptions;

    #[test]
    fn a_bundle_has_report_history_and_still() {
        let mut app = App::new(DashboardOptions { host: Some("a/b".to_owned()), ..DashboardOptions::default() });
        let parent = std::env::temp_dir().join(format!("listentop-bundle-{}", std::process::id()));
        fs::create_dir(&parent).unwrap();
        assert!(write(&app, &parent).unwrap_err().to_string().contains("nothing was measured"));
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        app.set_model(Arc::new(tracker.model().clone()));
        let directory = write(&app, &parent).unwrap();
        assert!(directory.ends_with("listentop-a_b-20251009T085324Z"), "{}", directory.display());
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        let report: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
        assert_eq!(report["listeners"][0]["port"], 8080);
        let history: serde_json::Value = serde_json::from_str(&read("history.json")).unwrap();
        assert_eq!(
            (&history[0]["address"], &history[0]["points"][15]["accept_depth"]),
            (&"0.0.0.0:8080".into(), &129.into())
        );
        assert!(read("report.txt").contains("accept_queue_overflow") && read("screen.txt").contains("8080"));
        assert!(read("screen.svg").ends_with("</svg>\n"));
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        // A link in the place of a folder is not followed.
        let link = parent.join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert!(Folder::open(&link).is_err());
        // Nor is a folder taken that others may write to.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(&directory).is_err());
        // A second one at the same moment leaves the first alone.
        assert!(write(&app, &parent).is_err());
        assert!(directory.join("report.json").exists());
        fs::remove_dir_all(&parent).unwrap();
    }
}
