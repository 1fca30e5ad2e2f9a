//! The dashboard: keys → actions → state → drawing. Drawing reads only.
//!
//! [`run`] owns the terminal and the loop; [`App`] is the state, which knows no terminal; [`draw`] shows it.

pub mod action;
pub mod app;
pub mod column;
pub mod format;
pub mod group;
mod input;
pub mod keymap;
pub mod layout;
pub mod rows;
mod run;
mod terminal;
pub mod theme;
mod views;
mod widgets;

use std::time::Duration;

pub use self::{
    action::{Action, Effect},
    app::App,
    run::{Control, Ended, run},
    terminal::usable,
    theme::Theme,
    views::{MIN_COLUMNS, MIN_ROWS, draw},
};

/// What the dashboard is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DashboardOptions {
    /// How often new models come at first; keys change it.
    pub refresh: Duration,
    /// Use colours. [`Theme::color_allowed`] says what NO_COLOR asks for.
    pub color: bool,
    /// Name of the machine that is shown, where it is known.
    pub host: Option<String>,
    /// Where the models come from: `live`, `replay FILE`.
    pub source: String,
    /// The command line's filters as they were given (`--port 80`); empty if there are none.
    pub filters: String,
}

impl Default for DashboardOptions {
    fn default() -> Self {
        Self {
            refresh: Duration::from_millis(250),
            color: true,
            host: None,
            source: "live".to_owned(),
            filters: String::new(),
        }
    }
}
