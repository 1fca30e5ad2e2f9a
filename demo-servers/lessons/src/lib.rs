//! The lessons of the lab: a file per lesson, with data and text.
//!
//! A new lesson is a file in the folder of its part, with its `mod` line and its place in [`ALL`]. [`mod@format`]
//! explains what it consists of, [`figure`] how it names figures. docs/lab.md is made from the lessons:
//! `UPDATE_DOCS=1 cargo test -p lessons`.

mod accepting;
mod between;
mod communication;
#[cfg(test)]
mod documentation;
pub mod figure;
pub mod format;
mod list;
mod measuring;
mod programs;
mod reading;
pub mod real;
#[cfg(test)]
mod tests;
mod who;
mod wire;

pub use format::{Act, Bounds, Change, Expectation, Lesson, Load, Part, Prediction, Program, Server, Setup, Step};
pub use list::{list_json, list_text};

/// The lesson that is shown when the command line names none.
pub const DEFAULT: &str = "patterns";

/// The word that opens the menu instead of a lesson.
pub const MENU: &str = "course";

/// All lessons in the order of the course.
pub const ALL: &[&Lesson] = &[
    &accepting::handshake::LESSON,
    &accepting::overflow::LESSON,
    &accepting::burst_or_overload::LESSON,
    &accepting::somaxconn_clamp::LESSON,
    &accepting::abort_on_overflow::LESSON,
    &accepting::syn_flood::LESSON,
    &accepting::defer_accept::LESSON,
    &accepting::fast_open::LESSON,
    &accepting::stalled_acceptor::LESSON,
    &accepting::out_of_descriptors::LESSON,
    &accepting::restart::LESSON,
    &who::patterns::LESSON,
    &who::acceptor_readers_unequal::LESSON,
    &who::thundering_herd::LESSON,
    &who::cold_shard::LESSON,
    &who::per_connection::LESSON,
    &who::threads_vs_processes::LESSON,
    &who::cpu_starved::LESSON,
    &who::event_loop_blocked::LESSON,
    &who::async_runtime::LESSON,
    &reading::slow_reader::LESSON,
    &reading::eager_acceptor::LESSON,
    &reading::nagle::LESSON,
    &reading::slow_client::LESSON,
    &communication::request_response::LESSON,
    &communication::polling_long_polling_push::LESSON,
    &communication::stateful_or_not::LESSON,
    &wire::protocols::LESSON,
    &wire::tls::LESSON,
    &between::proxy::LESSON,
    &between::pool::LESSON,
    &between::retry_storm::LESSON,
    &measuring::closed_loop_lies::LESSON,
    &measuring::littles_law::LESSON,
    &measuring::who_is_to_blame::LESSON,
];

/// The lesson of this name.
///
/// # Errors
/// No lesson has this name. The message is one line that lists those that exist.
pub fn find(name: &str) -> Result<&'static Lesson, String> {
    ALL.iter().copied().find(|lesson| lesson.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|lesson| lesson.name).collect();
        format!("unknown lesson '{name}': the lessons are {}", known.join(", "))
    })
}

/// The lesson that follows in the course.
#[must_use]
pub fn next(lesson: &Lesson) -> Option<&'static Lesson> {
    let place = ALL.iter().position(|other| other.name == lesson.name)?;
    ALL.get(place + 1).copied()
}
