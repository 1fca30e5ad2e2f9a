//! What blame could not see or keep, in sentences.

use listentop_model::words::plural;

use crate::source::live::blame::{Lack, Losses};

/// Of more samples' waiting than this it is said that programs have no frame pointers.
const MANY_SHORT: f64 = 0.5;

/// What is missing, and why. `short`: the share of stacks that could not be followed; `sampled`: of the wait, the share
/// whose callers are those of other stacks.
pub(super) fn remarks(lacks: &[Lack], losses: &Losses, short: Option<f64>, sampled: f64) -> Vec<String> {
    let mut remarks: Vec<String> = lacks.iter().map(ToString::to_string).collect();
    if short.is_some_and(|part| part > MANY_SHORT) {
        remarks.push(
            "most stacks of programs end after two frames: a program or library was built without frame pointers \
             (-fno-omit-frame-pointer keeps them), and could not be unwound"
                .to_owned(),
        );
    }
    if sampled > 0.0 {
        remarks.push(format!(
            "{:.1} % of the wait is exact by thread, state and place in the kernel; its callers are those of stacks that \
             were copied at random",
            sampled * 100.0
        ));
    }
    for (count, noun, then) in [
        (losses.stacks, "stack", "found no room; their state is known"),
        (losses.charges, "charge", "found no room; their state is known"),
        (losses.threads, "thread", "found no room and is charged with nothing"),
        (losses.seats, "seat", "of threads that accept from too many listeners was left out"),
        (losses.copies, "stack", "was not copied or unwound, since too many were"),
        (losses.late, "change", "of state was charged late, to the next state"),
        (losses.connections, "connection", "found no room; their unread bytes are left out"),
    ] {
        if count > 0 {
            remarks.push(format!("{} {then}", plural(count, noun)));
        }
    }
    remarks
}

/// The share of the waiting that stacks of one or two frames are charged with, of what has a stack of a program.
pub(super) fn short_stacks<'a>(stacks: impl Iterator<Item = (&'a [super::Frame], u64)>) -> Option<f64> {
    let (mut all, mut short) = (0, 0);
    for (frames, wait_ns) in stacks {
        let of_program = frames.iter().filter(|frame| !frame.kernel && !frame.is_remark).count();
        if of_program > 0 {
            all += wait_ns;
            short += if of_program <= SHORT { wait_ns } else { 0 };
        }
    }
    (all > 0).then(|| short as f64 / all as f64)
}

/// Frames that a stack has if it could not be followed.
const SHORT: usize = 2;
