//! Every view at every size in every look, of the recording of forty listeners: to be looked at as a stranger would.
//!
//! `PICTURES=DIR cargo test -p listentop --test dashboard_pictures` writes them all, as SVG. Without the variable the
//! test only checks what can be checked without eyes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use listentop::{
    dashboard::{Action, App, Column, DashboardOptions, Log, Moment, Palette, Shown, still, view_names},
    past::{Past as _, Recorded, Traveller, follow},
};
use listentop_model::words::Charset;
use listentop_recording::Recording;
use ratatui::{buffer::Buffer, style::Color};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/incident.rec");
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];
/// What a terminal may look like.
const LOOKS: [(&str, Palette, Charset); 5] = [
    ("dark", Palette::Dark, Charset::Unicode),
    ("light", Palette::Light, Charset::Unicode),
    ("16", Palette::Sixteen, Charset::Unicode),
    ("none", Palette::None, Charset::Unicode),
    ("ascii", Palette::Dark, Charset::Ascii),
];

/// What is shown, and how to come there from the overview.
fn screens() -> Vec<(String, Vec<Action>)> {
    let mut screens: Vec<(String, Vec<Action>)> =
        view_names().map(|name| (name.to_owned(), vec![Action::Show(name)])).collect();
    let sections = |count: usize| [vec![Action::Show("listener")], vec![Action::NextSection; count]].concat();
    for (name, actions) in [
        ("listener-2", sections(1)),
        ("listener-3", sections(2)),
        ("listener-4", sections(3)),
        ("well", vec![Action::Down, Action::Down, Action::Show("listener")]),
        ("compare-threads", vec![Action::Down, Action::Down, Action::Show("compare"), Action::ToggleThreads]),
        ("explain-wait", vec![Action::Show("explain"), Action::PickColumn(Column::WaitP99)]),
        ("sort-menu", vec![Action::SortMenu]),
        ("column-menu", vec![Action::ColumnMenu]),
        ("help-end", vec![Action::Show("help"), Action::Last]),
    ] {
        screens.push((name.to_owned(), actions));
    }
    screens
}

/// The recording's end, with all that happened.
fn shown() -> Shown {
    let recording = Recording::open(Path::new(RECORDING), |_, _| ()).expect(RECORDING);
    let past = Recorded { places: 0..recording.len(), recording };
    let last = past.places().end - 1;
    let mut log = Log::of_recording(100);
    follow(&past, past.places(), &mut |_, model, happened| {
        happened.into_iter().for_each(|one| log.add(model, one.event, past.time(one.place)));
        true
    });
    log.end();
    let moment = Moment { unix_ms: past.time(last), last_ms: past.time(last) };
    let model = Traveller::at(&past, last).model(&past).expect("it can be read");
    Shown { model, past: Some(moment), events: Some(log.into()), levels: None, said: None }
}

/// Draws each, and hands it on with its name.
fn each(mut look_at: impl FnMut(&str, &Buffer, Palette, Charset)) {
    let shown = shown();
    for (look, palette, charset) in LOOKS {
        for size in SIZES {
            for (screen, actions) in screens() {
                let host = Some("web1".to_owned());
                let options =
                    DashboardOptions { palette, charset, host, is_replay: true, ..DashboardOptions::default() };
                let mut app = App::new(options);
                app.update(Action::Resize(size.0, size.1));
                app.show_moment(shown.clone());
                actions.into_iter().for_each(|action| _ = app.update(action));
                let name = format!("{screen}_{look}_{}x{}", size.0, size.1);
                look_at(&name, &still(&app), palette, charset);
            }
        }
    }
}

#[test]
fn every_view_is_drawn_in_every_look() {
    let place = std::env::var_os("PICTURES").map(PathBuf::from);
    if let Some(place) = &place {
        fs::create_dir_all(place).expect("a folder for the pictures");
    }
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    each(|name, buffer, palette, charset| {
        let text = still::text(buffer);
        assert_eq!(charset == Charset::Ascii, text.is_ascii(), "{name}:\n{text}");
        // The verdict is everywhere, whole.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let verdict = "1 of 40 listeners refuses clients: 127.0.0.1:23500 gunicorn[1020], its only acceptor sleeps in \
                       futex_wait_queue";
        assert!(words.contains(verdict), "{name}:\n{text}");
        if palette == Palette::None {
            let is_plain = |color: Color| color == Color::Reset;
            assert!(buffer.content.iter().all(|cell| is_plain(cell.fg) && is_plain(cell.bg)), "{name}");
        }
        // Colours change nothing else.
        let (screen, size) = (name.split('_').next().unwrap_or_default(), name.rsplit('_').next().unwrap_or_default());
        if charset == Charset::Unicode {
            let first = texts.entry(format!("{screen}_{size}")).or_insert_with(|| text.clone());
            assert!(*first == text, "{name} differs:\n{first}\n{text}");
        }
        if let Some(place) = &place {
            let svg = still::FORMATS.iter().find(|format| format.ending == "svg").expect("every build has it");
            let picture = (svg.write)(buffer, palette).expect("it can be drawn");
            fs::write(place.join(format!("{name}.svg")), picture).expect("it can be written");
        }
    });
}
