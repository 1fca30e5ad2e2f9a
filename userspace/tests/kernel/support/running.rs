//! A test on a thread of its own, and what comes of it: passed, failed, or skipped with the reason.

use std::thread;

use libtest_mimic::{Completion, Failed};

use super::environment;

/// Why a test found that it cannot run here.
struct Skip(String);

/// Ends a test that finds that this machine lacks what it is about. On the test's own thread only.
pub(crate) fn skip(reason: String) -> ! {
    std::panic::resume_unwind(Box::new(Skip(reason)))
}

/// Runs a test on a thread of its own: only it, and what it starts, enters a namespace.
pub(crate) fn alone(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<Completion, Failed> {
    let test = thread::Builder::new().name(name.to_owned()).spawn(work);
    let test = test.map_err(|error| Failed::from(format!("no thread: {error}")))?;
    match test.join() {
        Ok(()) => Ok(Completion::Completed),
        Err(panic) => match panic.downcast_ref::<Skip>() {
            Some(Skip(reason)) => skipped(name, reason),
            None => Err(Failed::from(text(&*panic))),
        },
    }
}

/// The outcome of a test that cannot run here. Where CI is set nothing is skipped.
pub(crate) fn skipped(name: &str, reason: &str) -> Result<Completion, Failed> {
    if environment::own_machine() {
        // The harness leaves the reason out of its JSON.
        println!("{}", serde_json::json!({ "type": "skipped", "name": name, "reason": reason }));
    } else if environment::ci() {
        return Err(Failed::from(format!("it cannot run here, and CI is set: {reason}")));
    }
    Ok(Completion::ignored_with(reason))
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}
