//! The thread that keeps what only it needs.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{OnceLock, mpsc},
};

use caps::{CapSet, Capability};

use super::{RightsError, thread::restrict};

type Job = Box<dyn FnOnce() + Send>;

struct Keeper {
    kept: Vec<Capability>,
    jobs: mpsc::Sender<Job>,
}

static KEEPER: OnceLock<Keeper> = OnceLock::new();

/// Starts the thread, with these of the caller's capabilities. It lives as long as the process; a second one is not
/// started.
pub(super) fn start(kept: Vec<Capability>) -> Result<(), RightsError> {
    if KEEPER.get().is_some() {
        return Ok(());
    }
    let (jobs, queue) = mpsc::channel::<Job>();
    let (ready, restricted) = mpsc::channel();
    let keep = kept.clone();
    let run = move || {
        let outcome = restrict(&keep);
        let failed = outcome.is_err();
        if ready.send(outcome).is_err() || failed {
            return;
        }
        while let Ok(job) = queue.recv() {
            job();
        }
    };
    let thread = std::thread::Builder::new().name("rights".to_owned()).spawn(run);
    thread.map_err(RightsError::NoThread)?;
    restricted.recv().unwrap_or_else(|_| Err(RightsError::Refused("the thread that keeps some failed".to_owned())))?;
    // Of two callers at once one wins, and the other's thread ends.
    let _ = KEEPER.set(Keeper { kept, jobs });
    Ok(())
}

/// Runs `work` on the thread that keeps the capabilities which [`super::drop_after_attach`] took from the others. If
/// nothing was given up, or this thread still has them, it runs on the calling thread.
pub fn privileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let Some(keeper) = KEEPER.get() else { return work() };
    // This also keeps the keeper, and threads that it started, from waiting for the keeper.
    if caps::read(None, CapSet::Effective).is_ok_and(|own| keeper.kept.iter().all(|kept| own.contains(kept))) {
        return work();
    }
    elsewhere(&keeper.jobs, work)
}

fn elsewhere<T: Send>(jobs: &mpsc::Sender<Job>, work: impl FnOnce() -> T + Send) -> T {
    let (sender, answer) = mpsc::sync_channel::<Result<T, Box<dyn Any + Send>>>(1);
    let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
        // The caller waits for this, so it is there.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    // SAFETY: only the lifetime changes. What the job borrows outlives it: this function does not return before the job
    // has been run or dropped, because the receiver waits for the sender, which the job owns.
    let job = unsafe { mem::transmute::<Box<dyn FnOnce() + Send + '_>, Job>(job) };
    if let Err(mpsc::SendError(job)) = jobs.send(job) {
        // The thread is gone, and its rights with it.
        job();
    }
    match answer.recv() {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(mpsc::RecvError) => unreachable!("the job answers before it ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_may_borrow_and_fail() {
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            while let Ok(job) = queue.recv() {
                job();
            }
        });
        let mut borrowed = vec![1, 2];
        let sum: i32 = elsewhere(&jobs, || {
            borrowed.push(3);
            borrowed.iter().sum()
        });
        assert_eq!((sum, borrowed.len()), (6, 3));
        let panic = catch_unwind(AssertUnwindSafe(|| elsewhere(&jobs, || panic!("as the caller would"))));
        assert!(panic.is_err());
        assert_eq!(elsewhere(&jobs, || 4), 4, "it goes on");
        drop(jobs);
        thread.join().expect("it ends with the last who may ask");
    }
}
