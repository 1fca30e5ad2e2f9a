//! The sandbox: what a running listentop cannot do any more, even if it is made to try. System calls that nothing in it
//! needs are refused to all threads (`calls`, seccomp). Files are out of reach for the threads that take input
//! (`files`, Landlock).
//!
//! Both need no right, and no kernel refuses a process fewer rights. Where a kernel has one of them not, or a policy
//! forbids it, listentop runs without: `listentop doctor` says so.

mod calls;
mod files;

use std::{path::PathBuf, sync::OnceLock};

pub(crate) use files::read_only;

/// What a command goes on doing after its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Files and directories that it reads, beside those that every command reads.
    pub reads: Vec<PathBuf>,
    /// Directories below which it makes, renames and deletes files.
    pub writes: Vec<PathBuf>,
    /// It opens connections, and asks for names of hosts.
    pub connects: bool,
    /// A thread that was started before may attach probes later. The calling thread may not, nor those that it starts.
    pub attaches: bool,
    /// It may attach those that are loaded already: the level of measuring may change.
    pub changes_level: bool,
}

/// Its parts, by name: system calls, files.
pub const PARTS: [&str; 2] = ["seccomp", "landlock"];

/// Which parts are on; why not, where one is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// System calls.
    pub calls: Result<(), String>,
    /// Files. What an older Landlock does not know is not restricted.
    pub files: Result<(), String>,
}

static SANDBOX: OnceLock<Sandbox> = OnceLock::new();

impl Sandbox {
    /// That of this process; `None` before [`confine`], and without a sandbox.
    #[must_use]
    pub fn current() -> Option<&'static Self> {
        SANDBOX.get()
    }

    /// Each part, and why it is off if it is.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        PARTS.into_iter().zip([&self.calls, &self.files].map(|state| state.as_ref().err().map(String::as_str)))
    }

    /// What works here: a thread that ends afterwards tries both.
    #[must_use]
    pub fn trial() -> Self {
        let tried = std::thread::Builder::new().spawn(|| Self {
            calls: calls::refuse(&Allowed::default(), calls::Threads::This),
            files: files::confine(&Allowed::default()),
        });
        let none = || Err("no thread can be started".to_owned());
        tried.ok().and_then(|tried| tried.join().ok()).unwrap_or_else(|| Self { calls: none(), files: none() })
    }
}

/// Turns it on for the process, once everything is started that needs more. Files: for the calling thread, and for
/// those that it starts from now on. Threads that look into other processes cannot be confined in this way: Landlock
/// would keep them from that, too (landlock(7), ptrace restrictions).
///
/// `looks_into_others`: the calling thread has to, where /proc hides other users' processes.
pub fn confine(allowed: &Allowed, looks_into_others: bool) -> &'static Sandbox {
    SANDBOX.get_or_init(|| Sandbox {
        files: if looks_into_others {
            Err("/proc hides other users' processes (hidepid), and Landlock would hide them all".to_owned())
        } else {
            files::confine(allowed)
        },
        calls: confine_calls(allowed),
    })
}

fn confine_calls(allowed: &Allowed) -> Result<(), String> {
    calls::refuse(allowed, calls::Threads::All)?;
    if !allowed.attaches {
        return Ok(());
    }
    let strict = Allowed { attaches: false, ..allowed.clone() };
    // The one that has most rights otherwise.
    super::privileged(|| calls::refuse(&strict, calls::Threads::This))?;
    calls::refuse(&strict, calls::Threads::This)
}
