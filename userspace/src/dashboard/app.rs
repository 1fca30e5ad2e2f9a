//! The application: which view is on the screen, and what actions do to it and to the state.

use std::sync::Arc;

use crossterm::event::KeyEvent;
use lab_control::FromLab;
use listentop_model::{model::Model, words};

use crate::lab::Dashboard;

use super::{
    BlameWanted, DashboardOptions, Shown,
    action::{Action, Effect, Travel},
    caption::{self, LabKey},
    keymap::{self, Binding, Scope},
    state::State,
    theme::{Palette, Theme},
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
        let of_lab = || caption::action(event).filter(|_| self.state.lesson.is_some());
        keymap::action(event, self.scope(), openers(), &self.state.options.keys).or_else(of_lab)
    }

    /// What a click there, on the last frame, means.
    #[must_use]
    pub fn clicked(&self, column: u16, row: u16) -> Option<Action> {
        self.state.hits.borrow().at(column, row)
    }

    /// The keys for the footer: each with its word and what it does, the most useful first.
    pub(super) fn footer(&self) -> impl Iterator<Item = (String, &'static str, Action)> {
        keymap::footer(self.scope(), openers(), self.state.theme.charset(), &self.state.options.keys)
    }

    /// Draws in other colours from now on.
    pub fn set_palette(&mut self, palette: Palette) {
        self.state.options.palette = palette;
        self.state.theme = Theme::new(palette).with_charset(self.state.theme.charset());
        self.arrange();
    }

    /// Says something at the bottom, until the next key.
    pub fn say(&mut self, message: String) {
        self.state.message = Some(message);
    }

    /// Whether what is shown needs connections one by one: their view is on the screen, perhaps under another.
    #[must_use]
    pub fn wants_connections(&self) -> bool {
        let shown = self.stack.iter().rev().map(|&at| views::ALL[at]).find(|declaration| !declaration.over);
        shown.is_some_and(|declaration| declaration.lists_connections)
    }

    /// Whose acceptors what is shown needs watched.
    #[must_use]
    pub fn wants_blame(&self) -> BlameWanted {
        let shown = self.stack.iter().rev().find(|&&at| !views::ALL[at].over);
        shown.map(|&at| self.views[at].blames()).unwrap_or_default()
    }

    /// What is to be written to the terminal besides frames, such as the bell; once.
    pub fn take_outbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.state.outbox)
    }

    /// Takes a model of now or of the past.
    pub fn show_moment(&mut self, shown: Shown) -> Effect {
        let Shown { levels, said, .. } = &shown;
        let is_news = said.is_some() || self.state.levels != *levels;
        self.state.levels.clone_from(levels);
        if let Some(said) = said {
            self.say(words::clean(said));
        }
        match shown.past {
            Some(moment) => {
                self.state.set_past(shown.model, moment, shown.events);
                self.arrange();
                Effect::Redraw
            }
            None => match self.set_model(shown.model) {
                Effect::None if is_news => Effect::Redraw,
                effect => effect,
            },
        }
    }

    /// Takes the newest model: shows it, or holds it back while paused.
    pub fn set_model(&mut self, model: Arc<Model>) -> Effect {
        if !self.state.set_model(model) {
            return Effect::None;
        }
        self.arrange();
        Effect::Redraw
    }

    /// Asks the lab for what a key means now.
    pub(super) fn ask_lab(&mut self, key: LabKey, lab: &Dashboard) {
        match caption::act(key, &self.state) {
            Some(act) => lab.act(act),
            None => self.say("that key has no more to give here".to_owned()),
        }
    }

    /// Whether there is something to show.
    #[must_use]
    pub(super) fn has_model(&self) -> bool {
        self.state.model.is_some()
    }

    /// Takes a message of the lab.
    pub(super) fn hear_lab(&mut self, message: FromLab) -> Effect {
        match message {
            FromLab::State(lesson) => self.set_lesson(*lesson),
            FromLab::Refused { reason } => {
                self.say(words::clean(&reason));
                Effect::Redraw
            }
            _ => Effect::None,
        }
    }

    /// Takes how the lab's lesson stands.
    pub fn set_lesson(&mut self, lesson: lab_control::State) -> Effect {
        self.state.lesson = Some(lesson);
        // The caption may take another row.
        self.arrange();
        Effect::Redraw
    }

    /// Handles an action.
    pub fn update(&mut self, action: Action) -> Effect {
        let said = self.state.message.take().is_some() && !matches!(action, Action::Resize(..));
        match self.act(action) {
            Effect::None if said => Effect::Redraw,
            effect => effect,
        }
    }

    fn act(&mut self, action: Action) -> Effect {
        let outcome = match action {
            Action::Click(column, row) => {
                return self.clicked(column, row).map_or(Effect::None, |action| self.act(action));
            }
            Action::Ask(x, y) => {
                let asked = self.state.hits.borrow().figure_at(x, y);
                return asked.map_or(Effect::None, |column| {
                    self.show("explain");
                    self.act(Action::PickColumn(column));
                    Effect::Redraw
                });
            }
            Action::Bundle => return Effect::Bundle,
            Action::MeasureMore | Action::MeasureLess => {
                let next = self.state.next_level(action == Action::MeasureMore);
                return next.map_or(Effect::Redraw, |level| self.state.ask_level(level));
            }
            Action::Lab(key) => return Effect::Lab(key),
            Action::Copy => {
                let text = self.view().copies(&self.state);
                self.state.copy(text);
                Outcome::Changed
            }
            Action::OpenWorst => {
                let worst = self.state.verdict.listener;
                let is_shown = worst.is_some_and(|id| self.state.select_listener(id));
                if is_shown { self.open_listener() } else { Outcome::Unchanged }
            }
            Action::NextFinding | Action::PreviousFinding => {
                self.state.select_finding(action == Action::NextFinding);
                let listener = self.declaration().name == "listener";
                if listener { self.open_listener() } else { self.rearranged() }
            }
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
            // In the past everything stands still: this goes on.
            Action::Pause if self.state.is_past() => return self.state.travel(Travel::Now),
            Action::Pause => {
                self.state.toggle_pause();
                self.arrange();
                if self.state.options.is_replay {
                    return Effect::Travel(Travel::Pause(self.state.paused));
                }
                Outcome::Changed
            }
            moment if moment.moment().is_some() => {
                return moment.moment().map_or(Effect::None, |travel| self.state.travel(travel));
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
            Outcome::Back => match self.back() {
                Outcome::Changed => Effect::Redraw,
                _ => Effect::None,
            },
            Outcome::Show(name) => self.show(name),
            Outcome::Travel(travel) => self.state.travel(travel),
            Outcome::Level(level) => self.state.ask_level(level),
        }
    }

    /// The listener view follows the selection; it is opened, unless it is on the screen.
    fn open_listener(&mut self) -> Outcome {
        if self.declaration().name != "listener" {
            return Outcome::Show("listener");
        }
        let top = self.top();
        self.views[top].open(&self.state);
        self.rearranged()
    }

    fn rearranged(&mut self) -> Outcome {
        self.arrange();
        Outcome::Changed
    }

    /// Selects the first row that passes a filter, without filtering by it; whether there is one.
    pub fn select_first(&mut self, filter: &str) -> bool {
        let before = self.state.filter.typed().to_owned();
        self.state.edit_filter(|typed| filter.clone_into(typed));
        let found = self.state.selected_row().is_some();
        self.state.select(0);
        self.state.edit_filter(|typed| *typed = before);
        self.arrange();
        found
    }

    /// Opens a view. One that the user came through is gone back to. One that lies over others is closed by its own
    /// key, and replaces another such.
    pub fn show(&mut self, name: &str) -> Effect {
        let Some(place) = views::ALL.iter().position(|declaration| declaration.name == name) else {
            return Effect::None;
        };
        let over = self.declaration().over;
        if place == self.top() {
            if over {
                self.back();
            }
            return Effect::Redraw;
        }
        if over {
            self.stack.pop();
        }
        if let Some(before) = self.stack.iter().position(|&at| at == place) {
            self.stack.truncate(before + 1);
        } else {
            self.stack.push(place);
            self.views[place].open(&self.state);
        }
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
mod moments;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
