//! What a view is. Each is a file of its own in `views/`, with its keys, its scroll positions and its drawing.

use std::fmt::Debug;

use listentop_model::model::Model;
use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    BlameWanted,
    action::{Action, Travel},
    keymap::{Binding, Scope},
    state::State,
};
use crate::source::live::Level;

/// What fills the screen between header and footer.
pub(super) trait View: Debug {
    /// Another view, or a key that holds everywhere, opens it.
    fn open(&mut self, _state: &State) {}

    /// Follows the size, the model and the rows. The application calls it when the view appears, and when one of them
    /// changes while the view is on the screen.
    fn arrange(&mut self, _state: &State) {}

    /// The keys that hold while it is on the screen.
    fn scope(&self, state: &State) -> &'static Scope;

    /// Handles an action.
    fn update(&mut self, action: Action, state: &mut State) -> Outcome;

    /// Whose acceptors are to be watched while it is on the screen.
    fn blames(&self) -> BlameWanted {
        BlameWanted::default()
    }

    /// What the key that copies takes from it; `None`: what the selected row says.
    fn copies(&self, _state: &State) -> Option<String> {
        None
    }

    /// Draws it. Without a model only a view that does not [need](Declaration::needs_model) one is drawn.
    fn draw(&self, buf: &mut Buffer, area: Rect, state: &State, model: Option<&Model>);
}

/// The outcome of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing on the screen changed.
    Unchanged,
    /// The screen changed.
    Changed,
    /// The view before it is on the screen again.
    Back,
    /// The view of this name opens.
    Show(&'static str),
    /// Another moment is to be shown.
    Travel(Travel),
    /// So much is to be measured.
    Level(Level),
}

impl Outcome {
    /// [`Outcome::Changed`] if `changed`.
    pub(super) const fn changed_if(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Unchanged }
    }
}

/// Names that the help explains, each with a sentence.
pub(super) type Entries = Vec<(&'static str, &'static str)>;

/// What the application, the help and the footer have to know of a view.
#[derive(Debug)]
pub(super) struct Declaration {
    /// [`Action::Show`] opens it by this name.
    pub(super) name: &'static str,
    /// Its word among the views of the header; `None`: it is not there.
    pub(super) tab: Option<&'static str>,
    /// The key that opens it from everywhere. `None`: another view opens it.
    pub(super) key: Option<Binding>,
    /// It lies over the others: its key closes it again.
    pub(super) over: bool,
    /// Its sets of keys, for the help.
    pub(super) scopes: &'static [&'static Scope],
    /// What the help explains about it: a title and entries. Without entries the title is not shown.
    pub(super) explained: (&'static str, fn() -> Entries),
    /// It shows connections one by one: they are listed while it is on the screen.
    pub(super) lists_connections: bool,
    /// It shows nothing before the first model.
    pub(super) needs_model: bool,
    /// Makes it.
    pub(super) make: fn() -> Box<dyn View>,
}
