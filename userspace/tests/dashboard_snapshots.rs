//! The dashboard compared with committed pictures: as text, because colours carry no meaning of their own. Where a lab
//! can show it, the samples were recorded there (`recorded/`, by `examples/record_samples.rs`); the others are made.
//!
//! After an intended change: `INSTA_UPDATE=always cargo test -p listentop --test dashboard_snapshots`, then look at
//! every picture.

use std::sync::Arc;

use listentop::dashboard::{Action, App, Column, DashboardOptions, Effect, Palette, draw};
use listentop_model::{
    coverage::Status,
    fixtures,
    histogram::Histogram,
    model::{Role, ThreadModel},
    sample::{ListenerSample, Sample},
    tracker::Tracker,
    words::Charset,
};
use ratatui::{Terminal, backend::TestBackend};

/// The sizes at which every screen is drawn.
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn options(color: bool) -> DashboardOptions {
    DashboardOptions {
        palette: if color { Palette::Dark } else { Palette::None },
        host: Some("demo".to_owned()),
        source: "replay".to_owned(),
        ..DashboardOptions::default()
    }
}

/// An app that has seen `samples` and then done `actions`.
fn app((columns, rows): (u16, u16), samples: &[Sample], actions: &[Action]) -> App {
    let mut app = App::new(options(true));
    app.update(Action::Resize(columns, rows));
    show(&mut app, samples);
    for &action in actions {
        app.update(action);
    }
    app
}

fn show(app: &mut App, samples: &[Sample]) {
    let Some((first, others)) = samples.split_first() else { return };
    let mut tracker = Tracker::new(first);
    for sample in others {
        tracker.push(sample);
    }
    app.set_model(Arc::new(tracker.model().clone()));
}

fn picture((columns, rows): (u16, u16), app: &App) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a test backend does not fail");
    terminal.draw(|frame| draw(frame, app)).expect("a test backend does not fail");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect::<Vec<_>>().join("\n")
}

/// Draws at every size.
fn assert_pictures(name: &str, samples: &[Sample], actions: &[Action]) {
    for size in SIZES {
        assert_picture(name, size, &app(size, samples, actions));
    }
}

fn assert_picture(name: &str, size: (u16, u16), app: &App) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), picture(size, app));
    });
}

/// `lab patterns`: five servers under the same load, one of them a group of four shards.
fn patterns() -> Vec<Sample> {
    recorded("patterns")
}

/// `lab overflow`: one slow acceptor behind a backlog of 8.
fn overflow() -> Vec<Sample> {
    recorded("overflow")
}

/// The same without probes.
fn by_sock_diag() -> Vec<Sample> {
    recorded("overflow_sock_diag")
}

fn recorded(name: &str) -> Vec<Sample> {
    let path = format!("{}/tests/recorded/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).expect("a sample: record it anew if samples changed")).collect()
}

/// Goes down to the row of a port.
fn to_port(samples: &[Sample], port: u16) -> Vec<Action> {
    let size = SIZES[2];
    let marked = |text: &str| text.lines().any(|line| line.contains('›') && line.contains(&format!(":{port}")));
    let downs = (0..20).map(|n| vec![Action::Down; n]);
    let found = downs.into_iter().find(|downs| marked(&picture(size, &app(size, samples, downs))));
    found.unwrap_or_else(|| panic!("no row of port {port}"))
}

#[test]
fn before_the_first_sample_it_waits() {
    let picture = picture((80, 24), &app((80, 24), &[], &[]));
    let rows: Vec<&str> = picture.lines().collect();
    let at = rows.iter().position(|row| row.starts_with(" Waiting for the first sample …")).expect("it says so");
    assert_eq!(at, 6, "a row below the five of the header:\n{picture}");
}

#[test]
fn overview_patterns() {
    assert_pictures("overview_patterns", &patterns(), &[]);
}

#[test]
fn overview_overflow() {
    assert_pictures("overview_overflow", &overflow(), &[]);
}

#[test]
fn overview_sock_diag() {
    assert_pictures("overview_sock_diag", &by_sock_diag(), &[]);
}

#[test]
fn overview_group_unfolded() {
    let samples = patterns();
    let actions = [to_port(&samples, 7005), vec![Action::ToggleFoldAll]].concat();
    assert_pictures("overview_group_unfolded", &samples, &actions);
}

/// The same port in two containers, one of a pod, and one in a container within another; and a service outside.
#[test]
fn overview_containers() {
    let mut samples = fixtures::quiet();
    for sample in &mut samples {
        let base = sample.listeners[0].clone();
        sample.listeners = (0_u32..4).map(|n| in_container(&base, n)).collect::<Vec<_>>().into();
    }
    assert_pictures("overview_containers", &samples, &[]);
    assert_pictures("listener_container", &samples, &[Action::Down, Action::Open]);
}

fn in_container(base: &ListenerSample, n: u32) -> ListenerSample {
    let mut listener = base.clone();
    listener.id += u64::from(n);
    (listener.address, listener.port) = ([0, 0, 0, 0].into(), 8080);
    let mut process = listener.process.clone().unwrap_or_default();
    process.pid += n;
    let name = |text: &str| Some(text.to_owned());
    match n {
        0 => process.container_name = name("web"),
        1 => {
            process.container_name = name("nginx");
            (process.pod_name, process.pod_namespace) = (name("web-7d4b9c6f5-xk2lp"), name("shop"));
        }
        2 => process.container_outer = name("dind"),
        _ => process.service = name("nginx.service"),
    }
    process.container = if n == 3 { process.service.clone() } else { Some(format!("{n:x}123456789ab")) };
    listener.process = Some(process);
    listener
}

#[test]
fn overview_dead_shard() {
    assert_pictures("overview_dead_shard", &fixtures::dead_shard(), &[Action::ToggleFoldAll, Action::Down]);
}

/// A machine on which every figure is a different number, so a figure in the wrong place is detected.
#[test]
fn listener_with_distinct_figures() {
    assert_pictures("listener_distinct", &fixtures::distinct(), &[Action::Open]);
    let sections = [(1, "distributions"), (2, "over_time"), (3, "threads")];
    for (tabs, section) in sections {
        let actions = [vec![Action::Open, Action::ToggleSpan], vec![Action::NextSection; tabs]].concat();
        let size = SIZES[2];
        assert_picture(&format!("listener_distinct_{section}"), size, &app(size, &fixtures::distinct(), &actions));
    }
}

/// The same listener twice, as a group.
#[test]
fn group_with_distinct_figures() {
    for size in SIZES {
        let mut app = App::new(options(true));
        app.update(Action::Resize(size.0, size.1));
        app.set_model(Arc::new(fixtures::distinct_group()));
        app.update(Action::Unfold);
        assert_picture("overview_distinct_group", size, &app);
        app.update(Action::Open);
        assert_picture("group_distinct", size, &app);
    }
}

#[test]
fn overview_many() {
    let actions = [&[Action::PageDown; 3][..], &[Action::SortNext]].concat();
    assert_pictures("overview_many", &fixtures::many(1_000), &actions);
}

#[test]
fn overview_filter() {
    let typed = "msg".chars().map(Action::FilterInput);
    let actions: Vec<Action> = [Action::FilterStart].into_iter().chain(typed).collect();
    assert_pictures("overview_filter", &patterns(), &actions);
}

#[test]
fn listener_overflow() {
    assert_pictures("listener_overflow", &overflow(), &[Action::Open]);
}

/// A section of the listener view.
struct Section {
    /// Its tab while it is the chosen one.
    tab: &'static str,
    /// What is on the screen where it has a place of its own.
    own_place: Option<&'static str>,
}

/// Opens a listener by `open`, goes to `section` by pressing `step`, does `then`, and draws that at every size.
fn assert_section(name: &str, samples: &[Sample], open: &[Action], step: Action, section: &Section, then: &[Action]) {
    let on_screen =
        |text: &str| text.contains(section.tab) || section.own_place.is_some_and(|mark| text.contains(mark));
    for size in SIZES {
        let mut app = app(size, samples, open);
        let mut presses = 0;
        while !on_screen(&picture(size, &app)) {
            assert!(presses < 4, "{name} does not come on a screen of {size:?}:\n{}", picture(size, &app));
            app.update(step);
            presses += 1;
        }
        for &action in then {
            app.update(action);
        }
        assert_picture(name, size, &app);
    }
}

#[test]
fn listener_distributions() {
    let section = Section { tab: "[Distributions]", own_place: Some("Distributions over the interval") };
    let samples = overflow();
    let then = [Action::Down];
    assert_section("listener_distributions", &samples, &[Action::Open], Action::NextSection, &section, &then);
}

#[test]
fn listener_over_time() {
    let section = Section { tab: "[Over time]", own_place: Some("accept wait over time") };
    assert_section("listener_over_time", &overflow(), &[Action::Open], Action::NextSection, &section, &[]);
}

#[test]
fn listener_threads() {
    let section = Section { tab: "[Threads", own_place: None };
    let samples = patterns();
    let open = [to_port(&samples, 7004), vec![Action::Open]].concat();
    assert_section("listener_threads", &samples, &open, Action::PreviousSection, &section, &[]);
}

#[test]
fn listener_group_and_shard() {
    let samples = patterns();
    let unfolded = [to_port(&samples, 7005), vec![Action::ToggleFoldAll]].concat();
    assert_pictures("listener_group", &samples, &[&unfolded[..], &[Action::Open]].concat());
    let shard = [&unfolded[..], &[Action::Down, Action::Open]].concat();
    assert_pictures("listener_shard", &samples, &shard);
}

#[test]
fn listener_dead_shard() {
    let shard = [Action::ToggleFoldAll, Action::Down, Action::Open];
    assert_pictures("listener_dead_shard", &fixtures::dead_shard(), &shard);
}

#[test]
fn listener_sock_diag() {
    assert_pictures("listener_sock_diag", &by_sock_diag(), &[Action::Open]);
}

/// The views that compare, list and explain.
#[test]
fn views() {
    let overflow = overflow();
    assert_pictures("compare", &fixtures::dead_shard(), &[Action::Show("compare")]);
    for size in SIZES {
        // As they happened.
        let mut app = app(size, &[], &[]);
        let mut tracker = Tracker::new(&overflow[0]);
        for sample in &overflow[1..] {
            tracker.push(sample);
            app.set_model(Arc::new(tracker.model().clone()));
        }
        app.update(Action::Show("events"));
        assert_picture("events", size, &app);
    }
    assert_pictures("findings", &overflow, &[Action::Show("findings")]);
    assert_pictures("connections", &fixtures::connections(), &[Action::Show("connections"), Action::Down]);
    assert_pictures("explain", &overflow, &[Action::Show("explain"), Action::PickColumn(Column::WaitP99)]);
    let size = SIZES[0];
    assert_picture("menu_sort", size, &app(size, &overflow, &[Action::SortMenu]));
    assert_picture("menu_columns", size, &app(size, &overflow, &[Action::ColumnMenu]));
}

#[test]
fn blame() {
    let samples = fixtures::blamed();
    assert_pictures("blame", &samples, &[Action::Show("blame")]);
    let zoomed = [Action::Show("blame"), Action::Up, Action::Open, Action::FilterStart, Action::FilterInput('s')];
    assert_pictures("blame_zoomed", &samples, &zoomed);
}

#[test]
fn blame_in_ascii() {
    let mut app = App::new(DashboardOptions { charset: Charset::Ascii, ..options(false) });
    app.update(Action::Resize(120, 40));
    show(&mut app, &fixtures::blamed());
    app.update(Action::Show("blame"));
    let picture = picture((120, 40), &app);
    assert!(picture.is_ascii(), "{picture}");
    // Without colours, too, the states differ.
    for state in ["# running", "+ runnable", ": asleep", ". nobody"] {
        assert!(picture.contains(state), "{state}: {picture}");
    }
}

#[test]
fn help() {
    assert_pictures("help", &patterns(), &[Action::Show("help")]);
}

#[test]
fn help_to_the_end() {
    assert_pictures("help_end", &patterns(), &[Action::Show("help"), Action::Last]);
}

#[test]
fn coverage() {
    assert_pictures("coverage", &overflow(), &[Action::Show("coverage")]);
    assert_pictures("coverage_sock_diag", &by_sock_diag(), &[Action::Show("coverage")]);
}

#[test]
fn too_small() {
    for size in [(79, 24), (80, 23), (20, 5), (1, 1)] {
        assert_picture("too_small", size, &app(size, &fixtures::quiet(), &[]));
    }
}

/// Where a terminal shows ASCII alone, every picture is as wide as before.
#[test]
fn ascii() {
    let views: [(&str, Vec<Sample>, &[Action]); 5] = [
        ("overview", fixtures::dead_shard(), &[Action::ToggleFoldAll, Action::Down]),
        ("listener", overflow(), &[Action::Open]),
        ("over_time", overflow(), &[Action::Open, Action::NextSection, Action::NextSection]),
        ("help", patterns(), &[Action::Show("help")]),
        ("coverage", overflow(), &[Action::Show("coverage")]),
    ];
    for (name, samples, actions) in views {
        for size in SIZES {
            let mut ascii = App::new(DashboardOptions { charset: Charset::Ascii, ..options(true) });
            ascii.update(Action::Resize(size.0, size.1));
            show(&mut ascii, &samples);
            for &action in actions {
                ascii.update(action);
            }
            let picture_of = picture(size, &ascii);
            assert!(picture_of.is_ascii(), "{picture_of}");
            if size != SIZES[2] {
                assert_picture(&format!("ascii_{name}"), size, &ascii);
            }
            if name == "help" {
                // Keys that have a sign are words there.
                continue;
            }
            let unicode = picture(size, &app(size, &samples, actions));
            // Every sign has an equivalent: `?` is for what names may hold.
            let lost = unicode.chars().zip(picture_of.chars()).find(|(sign, c)| !sign.is_ascii() && *c == '?');
            assert_eq!(lost, None, "{name} {size:?}");
            let blank = |text: &str| {
                let blanks = |line: &str| line.chars().map(|c| if c == ' ' { ' ' } else { 'x' }).collect::<String>();
                // The footer has the keys.
                text.lines().take(usize::from(size.1) - 1).map(blanks).collect::<Vec<_>>()
            };
            assert_eq!(blank(&picture_of), blank(&unicode), "{name} {size:?}");
        }
    }
}

/// Names of wide and combining characters, and of such as control a terminal: every column stays where it is.
#[test]
fn names_of_any_characters_keep_the_columns() {
    let drawn = |comm: &str, size, charset| {
        let mut samples = fixtures::overflow();
        for sample in &mut samples {
            let listener = &mut sample.listeners[0];
            listener.process.as_mut().unwrap().comm = comm.to_owned();
            listener.threads.iter_mut().for_each(|thread| thread.comm = comm.to_owned());
        }
        let mut app = App::new(DashboardOptions { charset, ..options(true) });
        app.update(Action::Resize(size, 40));
        show(&mut app, &samples);
        let overview = picture((size, 40), &app);
        app.update(Action::Open);
        (overview, picture((size, 40), &app))
    };
    // A cell behind a wide character is blank, and counts.
    let end = |text: &str, comm: &str| {
        let row = text.lines().find(|line| line.contains("[2201]")).unwrap_or_else(|| panic!("no {comm} in:\n{text}"));
        row[row.find("[2201]").unwrap()..].to_owned()
    };
    for size in [120, 200] {
        let (plain, _) = drawn("abcdef", size, Charset::Unicode);
        for (comm, charset) in [
            ("日本語", Charset::Unicode),
            ("日本語", Charset::Ascii),
            ("e\u{301}bcdef", Charset::Unicode),
            ("a\u{202e}cdef", Charset::Unicode),
            ("a\u{200b}c\u{1b}ef", Charset::Unicode),
        ] {
            let (overview, listener) = drawn(comm, size, charset);
            let plain = if charset == Charset::Ascii { charset.of_text(&plain).into_owned() } else { plain.clone() };
            assert_eq!(end(&overview, comm), end(&plain, comm), "{comm:?} {charset:?}");
            let harmful = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{200b}".contains(c);
            assert!(!overview.contains(harmful) && !listener.contains(harmful), "{comm:?}");
        }
    }
}

#[test]
fn before_the_first_sample() {
    let mut waiting = App::new(options(true));
    waiting.update(Action::Resize(80, 24));
    assert!(picture((80, 24), &waiting).contains("Waiting for the first sample"));
    assert_eq!(waiting.update(Action::Open), Effect::None);
}

#[test]
fn losses_stand_in_every_view() {
    let mut samples = fixtures::overflow();
    let last = samples.last_mut().unwrap();
    last.losses.connections = 12_345;
    for actions in [vec![], vec![Action::Open], vec![Action::Show("help")], vec![Action::Show("coverage")]] {
        let text = picture((80, 24), &app((80, 24), &samples, &actions));
        assert!(text.contains("LOST, numbers are too low: 12,345 connections (table full)"), "{text}");
        assert!(text.contains("quit"), "the footer is pushed out:\n{text}");
    }
    let last = samples.last_mut().unwrap();
    (last.losses.connections, last.losses.missed_runs) = (0, 7);
    let text = picture((80, 24), &app((80, 24), &samples, &[]));
    assert!(text.contains("numbers may be too low: 7 probe runs skipped") && !text.contains("LOST"), "{text}");
}

/// Numbers of any size fit the boxes, with the mark of a sampled one: nothing is cut off.
#[test]
fn large_numbers_are_whole() {
    let samples = fixtures::overflow();
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    let small = tracker.model();
    let slow = |us: u64| Histogram::of_units([us * 1000 / 128]);
    for n in [1_u32, 3, 50, 999, 4_097, 9_999, 12_345, 999_499, 99_999_999] {
        for (status, threads) in [(Status::Measured, 1), (Status::Sampled, 100), (Status::Sampled, 1_000)] {
            let mut model = small.clone();
            model.coverage.iter_mut().for_each(|coverage| coverage.status = status);
            let (many, count, rate) = (Some(n), Some(u64::from(n)), Some(f64::from(n)));
            let listener = &mut model.listeners[0];
            let now = &mut listener.now;
            (now.syn_depth, now.syn_young, now.syn_peak, now.accept_peak) = (many, many, many, many);
            (now.accept_depth, now.limit, now.backlog) = (n, n, n - 1);
            (now.oldest_waiting_us, now.open, now.queued_bytes) = (count.map(|n| n * 1_000), count, count);
            let rates = &mut listener.rate;
            (rates.enqueued, rates.accepts, rates.would_block, rates.synack_retransmits) = (rate, rate, rate, rate);
            (rates.reads, rates.read_bytes) = (rate, rate.map(|n| n * 1_000.0));
            listener.total.accept_failed = count;
            listener.recent_distributions.residency = count.map(|n| slow(n * 1_000));
            for drops in [&mut listener.drops, &mut listener.recent_drops] {
                (drops.accept_queue_full_on_syn, drops.accept_queue_full_on_ack) = (count, count);
                drops.syn_queue_full = count;
            }
            let mut thread = listener.threads[0].clone();
            thread.roles = vec![Role::Acceptor, Role::Reader, Role::Writer];
            listener.threads = (0..threads).map(|pid| ThreadModel { pid, tid: pid, ..thread.clone() }).collect();
            for size in SIZES {
                let mut app = App::new(options(true));
                app.update(Action::Resize(size.0, size.1));
                app.set_model(Arc::new(model.clone()));
                app.update(Action::Open);
                let text = picture(size, &app);
                let from = text.lines().position(|line| line.contains("READERS")).expect("the pipeline is there");
                let rows = text.lines().skip(from);
                let pipeline: Vec<&str> = rows.take_while(|line| !line.contains("[Findings")).collect();
                assert!(pipeline.iter().any(|line| line.contains("SYN queue")) && pipeline.len() >= 7, "{text}");
                assert!(pipeline.iter().all(|line| !line.contains('…')), "{n} {status}:\n{text}");
            }
        }
    }
}

/// A title that does not fit leaves out what matters least, and never a part of a number.
#[test]
fn the_backlog_is_whole_beside_long_names() {
    for (address, size) in [("127.0.0.1", (80, 24)), ("2001:db8:1234:5678:9abc:def0:1234:5678", (80, 24))] {
        let mut samples = fixtures::overflow();
        for sample in &mut samples {
            let listener = &mut sample.listeners[0];
            listener.address = address.parse().unwrap();
            listener.gauges.backlog = 4_096;
            sample.namespaces[0].name = None;
        }
        let text = picture(size, &app(size, &samples, &[Action::Open]));
        let title = text.lines().find(|line| line.starts_with("──")).unwrap();
        assert!(title.contains("demo-server[2201]") && title.contains("backlog 4096 ─"), "{title}");
    }
}

/// Every view shows coverage, own cost, and that it is paused.
#[test]
fn coverage_cost_and_pause_stand_in_every_view() {
    for size in SIZES {
        for actions in [vec![], vec![Action::Open], vec![Action::Show("help")], vec![Action::Show("coverage")]] {
            let actions = [actions, vec![Action::Pause]].concat();
            let text = picture(size, &app(size, &fixtures::overflow(), &actions));
            for word in ["26 measured, 5 sampled", "probes 0.36%", "20MiB", "PAUSED"] {
                assert!(text.contains(word), "no {word:?} in:\n{text}");
            }
        }
    }
}

/// Everything coloured is also a word or a symbol: without colours the text is the same, and no cell has a colour.
#[test]
fn no_color_loses_nothing() {
    let size = (120, 40);
    for (samples, actions) in [
        (fixtures::overflow(), vec![]),
        (fixtures::overflow(), vec![Action::Open]),
        (fixtures::unavailable(), vec![Action::Show("coverage")]),
    ] {
        let coloured = app(size, &samples, &actions);
        let mut plain = App::new(options(false));
        plain.update(Action::Resize(size.0, size.1));
        show(&mut plain, &samples);
        for &action in &actions {
            plain.update(action);
        }
        assert_eq!(picture(size, &plain), picture(size, &coloured));
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        terminal.draw(|frame| draw(frame, &plain)).unwrap();
        for cell in &terminal.backend().buffer().content {
            assert_eq!((cell.fg, cell.bg), (ratatui::style::Color::Reset, ratatui::style::Color::Reset));
        }
    }
    let overview = picture(size, &app(size, &fixtures::overflow(), &[]));
    for word in ["critical", "›", "accept full/SYN", "measured", "█"] {
        assert!(overview.contains(word), "only a colour shows {word}:\n{overview}");
    }
    for (samples, state) in [
        (fixtures::unavailable(), "✗ unavailable"),
        (fixtures::quiet(), "✓ measured"),
        (fixtures::quiet(), "~ sampled"),
    ] {
        let coverage = picture((120, 60), &app((120, 60), &samples, &[Action::Show("coverage")]));
        assert!(coverage.contains(state), "{state}:\n{coverage}");
    }
}

/// A screen of any size is drawn without panic, in every view.
#[test]
fn no_size_panics() {
    let machines = [fixtures::overflow(), fixtures::dead_shard(), fixtures::unavailable()];
    for samples in &machines {
        let mut app = app((80, 24), samples, &[Action::ToggleFoldAll]);
        for enter in [
            vec![],
            vec![Action::Open],
            vec![Action::NextSection],
            vec![Action::NextSection],
            vec![Action::Show("help")],
        ] {
            for action in enter {
                app.update(action);
            }
            for (columns, rows) in
                [(1, 1), (80, 24), (81, 25), (100, 30), (113, 37), (160, 44), (300, 100), (400, 24), (80, 200)]
            {
                app.update(Action::Resize(columns, rows));
                picture((columns, rows), &app);
                // A frame may come between a resize and its event.
                picture((80, 24), &app);
            }
        }
    }
}
