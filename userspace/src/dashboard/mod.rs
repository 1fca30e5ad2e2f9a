//! The dashboard: keys → actions → state → drawing. Drawing only reads.
//!
//! [`run`] owns the terminal and the loop. [`App`] knows which view is on the screen and passes actions to it; `State`
//! is what all views show; each view keeps its own keys and scroll positions. [`draw`] draws a frame.

pub mod action;
pub mod app;
pub mod column;
mod frame;
pub mod geometry;
pub mod group;
mod input;
pub mod keymap;
pub mod layout;
pub mod rows;
mod run;
mod screen;
mod state;
mod terminal;
pub mod theme;
mod view;
mod views;
mod widgets;

use std::time::Duration;

use listentop_model::words::Charset;

pub(crate) use self::terminal::give_back_at_once;
pub use self::{
    action::{Action, Effect},
    app::App,
    frame::draw,
    geometry::{MIN_COLUMNS, MIN_ROWS},
    run::{Control, Ended, run},
    terminal::usable,
    theme::Theme,
};

/// Settings of the dashboard at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DashboardOptions {
    /// Time between two models at first; keys change it.
    pub refresh: Duration,
    /// Use colours. [`Theme::color_allowed`] reads NO_COLOR.
    pub color: bool,
    /// The characters that the terminal can show.
    pub charset: Charset,
    /// Name of the machine, if it is known.
    pub host: Option<String>,
    /// Where the models come from, such as `live`, for the header.
    pub source: String,
    /// The command line's filters as they were given (`--port 80`); empty without filters.
    pub filters: String,
}

impl Default for DashboardOptions {
    fn default() -> Self {
        Self {
            refresh: Duration::from_millis(250),
            color: true,
            charset: Charset::Unicode,
            host: None,
            source: "live".to_owned(),
            filters: String::new(),
        }
    }
}
