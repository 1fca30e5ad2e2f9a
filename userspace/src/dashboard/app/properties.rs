//! No sequence of keys, clicks, sizes and samples panics, draws outside of the screen, or leaves a place to click
//! there.

use std::sync::{Arc, LazyLock};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use listentop_model::{fixtures, model::Model, sample::Sample, tracker::Tracker, words::Charset};
use proptest::prelude::*;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::*;
use crate::dashboard::frame;

/// What comes from outside.
#[derive(Debug, Clone)]
enum Step {
    Key(KeyCode, KeyModifiers),
    Click(u16, u16),
    Wheel(bool),
    Size(u16, u16),
    Model(usize),
    Background,
}

/// Machines that do not fit together: each may follow any other.
static MODELS: LazyLock<Vec<Arc<Model>>> = LazyLock::new(|| {
    let every = |samples: &[Sample]| {
        let mut tracker = Tracker::new(&samples[0]);
        let mut models = vec![Arc::new(tracker.model().clone())];
        for sample in &samples[1..] {
            tracker.push(sample);
            models.push(Arc::new(tracker.model().clone()));
        }
        models
    };
    let mut models = [
        every(&fixtures::quiet()),
        every(&fixtures::overflow()),
        every(&fixtures::connections()),
        every(&fixtures::blamed()),
        every(&fixtures::dead_shard()),
        every(&fixtures::many(60)),
        every(&fixtures::unavailable()),
        every(&fixtures::per_connection()),
        vec![Arc::new(fixtures::distinct_group())],
    ]
    .concat();
    // Something closed, was lost, or is not there.
    for at in 0..models.len() {
        let mut model = (*models[at]).clone();
        match at % 3 {
            0 => model.listeners.iter_mut().step_by(2).for_each(|listener| listener.closed = true),
            1 => model.losses.connections = u64::MAX / 2,
            _ => model.listeners.retain(|listener| listener.id % 2 == 0),
        }
        model.regroup();
        models.push(Arc::new(model));
    }
    models
});

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let plain = prop_oneof![
        (0x20_u8..0x7f).prop_map(|byte| KeyCode::Char(byte.into())),
        Just(KeyCode::Char('é')),
        Just(KeyCode::Char('日')),
        Just(KeyCode::Enter),
        Just(KeyCode::Esc),
        Just(KeyCode::Backspace),
        Just(KeyCode::Tab),
        Just(KeyCode::BackTab),
        Just(KeyCode::Up),
        Just(KeyCode::Down),
        Just(KeyCode::Left),
        Just(KeyCode::Right),
        Just(KeyCode::PageUp),
        Just(KeyCode::PageDown),
        Just(KeyCode::Home),
        Just(KeyCode::End),
        (1_u8..13).prop_map(KeyCode::F),
    ];
    let modifiers = prop_oneof![
        8 => Just(KeyModifiers::NONE),
        1 => Just(KeyModifiers::CONTROL),
        1 => Just(KeyModifiers::ALT),
    ];
    let step = prop_oneof![
        12 => (plain, modifiers).prop_map(|(code, modifiers)| Step::Key(code, modifiers)),
        6 => (0_u16..220, 0_u16..70).prop_map(|(x, y)| Step::Click(x, y)),
        1 => any::<bool>().prop_map(Step::Wheel),
        1 => (1_u16..220, 1_u16..70).prop_map(|(columns, rows)| Step::Size(columns, rows)),
        2 => (80_u16..210, 24_u16..62).prop_map(|(columns, rows)| Step::Size(columns, rows)),
        4 => (0..MODELS.len()).prop_map(Step::Model),
        1 => Just(Step::Background),
    ];
    prop::collection::vec(step, 1..100)
}

fn take(app: &mut App, step: &Step) {
    let action = match *step {
        Step::Key(code, modifiers) => app.action(KeyEvent::new(code, modifiers)),
        // Seldom with the right button.
        Step::Click(x, y) if x % 16 == 0 => Some(Action::Ask(x, y)),
        Step::Click(x, y) => Some(Action::Click(x, y)),
        Step::Wheel(up) => Some(if up { Action::ScrollUp } else { Action::ScrollDown }),
        Step::Size(columns, rows) => Some(Action::Resize(columns, rows)),
        Step::Model(at) => {
            app.set_model(MODELS[at].clone());
            None
        }
        Step::Background => {
            app.set_palette(Palette::Light);
            None
        }
    };
    if let Some(action) = action {
        app.update(action);
    }
    app.take_outbox();
}

/// Draws into a screen with a margin at the right and below, which must stay as it was.
fn draw(app: &App, (columns, rows): (u16, u16)) -> Result<(), TestCaseError> {
    const MARGIN: u16 = 7;
    let screen = Rect::new(0, 0, columns, rows);
    let whole = Rect::new(0, 0, columns + MARGIN, rows + MARGIN);
    let mut buf = Buffer::empty(whole);
    for y in 0..whole.height {
        buf.set_string(0, y, "~".repeat(whole.width.into()), Style::new());
    }
    app.state.hits.borrow_mut().clear();
    frame::draw_all(&mut buf, screen, app);
    for position in whole.positions().filter(|position| !screen.contains(*position)) {
        prop_assert_eq!(buf[position].symbol(), "~", "drawn outside at {}", position);
    }
    for (area, action) in app.state.hits.borrow().all() {
        prop_assert!(area.right() <= columns && area.bottom() <= rows, "{:?} can be clicked at {}", action, area);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_or_draws_outside(steps in steps(), ascii in any::<bool>()) {
        let charset = if ascii { Charset::Ascii } else { Charset::Unicode };
        let mut app = App::new(DashboardOptions { charset, bell: true, ..DashboardOptions::default() });
        for step in &steps {
            let before = app.state.size;
            take(&mut app, step);
            draw(&app, app.state.size)?;
            // A frame may come between a change of size and its event.
            draw(&app, before)?;
            app.state.theme.settle(&mut crate::dashboard::still(&app));
        }
    }
}
