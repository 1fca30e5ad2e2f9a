//! The dashboard: keys → actions → state → drawing. Drawing only reads.
//!
//! [`run`] owns the terminal and the loop. [`App`] knows which view is on the screen and passes actions to it; `State`
//! is what all views show; each view keeps its own keys and scroll positions. [`draw`] draws a frame.

pub mod action;
pub mod app;
mod background;
mod bundle;
mod caption;
mod clipboard;
pub mod column;
pub mod filter;
mod frame;
pub mod geometry;
pub mod group;
mod hits;
mod input;
pub mod keymap;
pub mod layout;
mod log;
pub mod rows;
mod run;
mod screen;
mod state;
pub mod still;
mod terminal;
pub mod theme;
mod view;
mod views;
mod widgets;

use std::{sync::Arc, time::Duration};

use listentop_model::{model::Model, words::Charset};

use crate::source::live::Levels;

pub(crate) use self::terminal::give_back_at_once;
pub use self::{
    action::{Action, Effect, Travel},
    app::App,
    bundle::{Remembered, SPAN_MS},
    caption::LabKey,
    column::Column,
    frame::draw,
    geometry::{MIN_COLUMNS, MIN_ROWS},
    keymap::{Key, Remapped},
    layout::Columns,
    log::Log,
    run::{BlameWanted, Control, Ended, run, run_in_lab},
    still::still,
    terminal::usable,
    theme::{Palette, Theme},
};

/// A model to be shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// It.
    pub model: Arc<Model>,
    /// Its moment, if that is not now.
    pub past: Option<Moment>,
    /// What happened in the recording that it is of.
    pub events: Option<Arc<Log>>,
    /// How much is measured, and which levels there are; `None` if that cannot change.
    pub levels: Option<Levels>,
    /// To be said at the bottom.
    pub said: Option<String>,
}

impl From<Arc<Model>> for Shown {
    fn from(model: Arc<Model>) -> Self {
        Self { model, past: None, events: None, levels: None, said: None }
    }
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When it was, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// The last moment that there is, likewise.
    pub last_ms: u64,
}

/// The names of the views, in their order.
pub fn view_names() -> impl Iterator<Item = &'static str> {
    views::ALL.iter().map(|view| view.name)
}

/// Every action that a key means somewhere, each once: keys can be given to these.
#[must_use]
pub fn bound_actions() -> Vec<Action> {
    let openers = views::ALL.iter().filter_map(|view| view.key.as_ref());
    let scopes = views::ALL.iter().flat_map(|view| view.scopes).flat_map(|scope| scope.bindings);
    let mut actions = Vec::new();
    for binding in scopes.chain(keymap::everywhere(openers)) {
        if !actions.contains(&binding.action) {
            actions.push(binding.action);
        }
    }
    actions
}

/// Settings of the dashboard at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DashboardOptions {
    /// Time between two models at first; keys change it.
    pub refresh: Duration,
    /// The colours. [`Theme::color_allowed`] reads NO_COLOR.
    pub palette: Palette,
    /// Ask the terminal for its background, and take [`Palette::Light`] if that is light.
    pub ask_background: bool,
    /// The characters that the terminal can show.
    pub charset: Charset,
    /// Name of the machine, if it is known.
    pub host: Option<String>,
    /// Where the models come from, such as `live`, for the header.
    pub source: String,
    /// The command line's filters as they were given (`--port 80`); empty without filters.
    pub filters: String,
    /// Why not more is measured, and what would help.
    pub notice: Option<String>,
    /// Keys that the user gave to actions.
    pub keys: Remapped,
    /// Columns that are always shown.
    pub wanted: Columns,
    /// Columns that are never shown.
    pub unwanted: Columns,
    /// Ring the terminal's bell when clients of one more listener are refused or wait too long.
    pub bell: bool,
    /// React to the mouse.
    pub mouse: bool,
    /// The models are those of a recording.
    pub is_replay: bool,
    /// It stands still at first.
    pub starts_paused: bool,
}

impl Default for DashboardOptions {
    fn default() -> Self {
        Self {
            refresh: Duration::from_millis(250),
            palette: Palette::Dark,
            ask_background: false,
            charset: Charset::Unicode,
            host: None,
            source: "live".to_owned(),
            filters: String::new(),
            notice: None,
            keys: Remapped::default(),
            wanted: Columns::default(),
            unwanted: Columns::default(),
            bell: false,
            mouse: true,
            is_replay: false,
            starts_paused: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1` writes them anew.
    #[test]
    fn the_documentation_lists_every_action() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/dashboard.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("Actions:\n\n").expect("the list begins");
        let (listed, after) = rest.split_once("\n\nAn action that opens a view").expect("the list ends");
        let mut names: Vec<String> = bound_actions().into_iter().map(|action| format!("`{}`", action.name())).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), bound_actions().len(), "two actions have one name");
        let list = listentop_model::words::wrap(&(names.join(", ") + "."), 118).join("\n");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}Actions:\n\n{list}\n\nAn action that opens a view{after}")).unwrap();
        } else {
            assert_eq!(listed, list, "UPDATE_DOCS=1 cargo test -p listentop --lib dashboard writes it anew");
        }
    }
}
