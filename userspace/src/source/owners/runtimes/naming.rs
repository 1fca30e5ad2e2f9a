//! A thread that looks up names. The files may be on a disk that does not answer, and finding owners must not wait
//! then.

use std::{collections::HashMap, sync::mpsc, thread, time::Duration};

use super::{Names, of_host};
use crate::{
    rights::{self, sandbox},
    source::owners::{cgroup::Key, scan::Scan},
};

/// How long a scan waits for names. Later ones come with the next scan.
const PATIENCE: Duration = Duration::from_millis(200);

/// Asks that thread.
pub(in crate::source::owners) struct Naming {
    requests: mpsc::Sender<Vec<Key>>,
    answers: mpsc::Receiver<HashMap<Key, Names>>,
    latest: HashMap<Key, Names>,
    is_waiting: bool,
}

impl Naming {
    /// Starts the thread, which ends with this. `None`: the files cannot be read in a safe way, or there is no thread
    /// to be had; containers are known by their ids then.
    pub(in crate::source::owners) fn start() -> Option<Self> {
        let mut runtimes = of_host().ok()?;
        let (requests, wanted) = mpsc::channel::<Vec<Key>>();
        let (sender, answers) = mpsc::channel();
        let work = move || {
            sandbox::read_only();
            // If that fails, the thread goes on with the rights that it has.
            let _ = rights::restrict_to_files();
            while let Ok(keys) = wanted.recv() {
                if sender.send(runtimes.look_up(&keys)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("names".to_owned()).spawn(work).ok()?;
        Some(Self { requests, answers, latest: HashMap::new(), is_waiting: false })
    }

    /// Names the processes that a scan found.
    pub(in crate::source::owners) fn name(&mut self, found: &mut Scan) {
        if found.keys.is_empty() {
            return;
        }
        if !self.is_waiting {
            let mut keys: Vec<Key> = found.keys.values().cloned().collect();
            keys.sort_unstable();
            keys.dedup();
            self.is_waiting = self.requests.send(keys).is_ok();
        }
        if self.is_waiting
            && let Ok(names) = self.answers.recv_timeout(PATIENCE)
        {
            (self.latest, self.is_waiting) = (names, false);
        }
        for (pid, key) in &found.keys {
            if let (Some(names), Some(process)) = (self.latest.get(key), found.processes.get_mut(pid)) {
                names.name(key, process);
            }
        }
    }
}
