//! The application: which view is on the screen, and what actions do to it and to the state.

use std::sync::Arc;

use crossterm::event::KeyEvent;
use listentop_model::model::Model;

use super::{
    DashboardOptions,
    action::{Action, Effect},
    keymap::{self, Binding, Scope},
    state::State,
    view::{Declaration, Outcome, View},
    views,
};

/// The dashboard without its terminal.
#[derive(Debug)]
pub struct App {
    pub(super) state: State,
    /// One of each of [`views::ALL`], in that order.
    views: Vec<Box<dyn View>>,
    /// Places in `views`: the last is on the screen, those before it are where the user came from.
    stack: Vec<usize>,
}

impl App {
    /// A dashboard before its first model.
    #[must_use]
    pub fn new(options: DashboardOptions) -> Self {
        let views = views::ALL.iter().map(|declaration| (declaration.make)()).collect();
        Self { state: State::new(options), views, stack: vec![0] }
    }

    fn top(&self) -> usize {
        self.stack.last().copied().unwrap_or_default()
    }

    /// The view on the screen.
    pub(super) fn view(&self) -> &dyn View {
        &*self.views[self.top()]
    }

    /// Its declaration.
    pub(super) fn declaration(&self) -> &'static Declaration {
        views::ALL[self.top()]
    }

    /// The keys that hold now.
    pub(super) fn scope(&self) -> &'static Scope {
        // On a screen that is too small nothing shows what other keys do.
        if self.state.is_too_small() { &keymap::TOO_SMALL } else { self.view().scope(&self.state) }
    }

    /// What a key means now.
    #[must_use]
    pub fn action(&self, event: KeyEvent) -> Option<Action> {
        keymap::action(event, self.scope(), openers())
    }

    /// The keys for the footer: each with its word, the most useful first.
    pub(super) fn footer(&self) -> impl Iterator<Item = (String, &'static str)> {
        keymap::footer(self.scope(), openers(), self.state.theme.charset())
    }

    /// Takes the newest model: shows it, or holds it back while paused.
    pub fn set_model(&mut self, model: Arc<Model>) -> Effect {
        if !self.state.set_model(model) {
            return Effect::None;
        }
        self.arrange();
        Effect::Redraw
    }

    /// Handles an action.
    pub fn update(&mut self, action: Action) -> Effect {
        let outcome = match action {
            Action::Quit => return Effect::Quit,
            Action::Suspend => return Effect::Suspend,
            Action::Faster | Action::Slower => {
                return self.state.change_refresh(action == Action::Faster).map_or(Effect::None, Effect::SetInterval);
            }
            Action::Resize(columns, rows) => {
                self.state.size = (columns, rows);
                self.arrange();
                Outcome::Changed
            }
            Action::Pause => {
                self.state.toggle_pause();
                self.arrange();
                Outcome::Changed
            }
            Action::Back => self.back(),
            Action::Show(name) => Outcome::Show(name),
            _ => {
                let top = self.top();
                self.views[top].update(action, &mut self.state)
            }
        };
        match outcome {
            Outcome::Unchanged => Effect::None,
            Outcome::Changed => Effect::Redraw,
            Outcome::Show(name) => self.show(name),
        }
    }

    /// Opens a view. One that a key opens from everywhere is closed by the same key, and replaces another such.
    fn show(&mut self, name: &str) -> Effect {
        let Some(place) = views::ALL.iter().position(|declaration| declaration.name == name) else {
            return Effect::None;
        };
        if place == self.top() {
            self.back();
            return Effect::Redraw;
        }
        if self.declaration().key.is_some() {
            self.stack.pop();
        }
        self.stack.push(place);
        self.views[place].open(&self.state);
        self.arrange();
        Effect::Redraw
    }

    /// Goes back to the view before.
    fn back(&mut self) -> Outcome {
        if self.stack.len() == 1 {
            return Outcome::Unchanged;
        }
        self.stack.pop();
        self.arrange();
        Outcome::Changed
    }

    fn arrange(&mut self) {
        // On a screen that is too small no view is drawn.
        if !self.state.is_too_small() {
            let top = self.top();
            self.views[top].arrange(&self.state);
        }
    }
}

/// The keys that open a view from everywhere.
fn openers() -> impl Iterator<Item = &'static Binding> {
    views::ALL.iter().filter_map(|declaration| declaration.key.as_ref())
}

#[cfg(test)]
mod tests;
