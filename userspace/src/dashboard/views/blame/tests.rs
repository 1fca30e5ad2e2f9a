use std::sync::Arc;

use listentop_model::{fixtures, model::Model, tracker::Tracker};

use super::*;
use crate::dashboard::{App, DashboardOptions, Effect, frame::picture};

fn models() -> Vec<Arc<Model>> {
    let samples = fixtures::blamed();
    let mut tracker = Tracker::new(&samples[0]);
    let mut models = vec![Arc::new(tracker.model().clone())];
    for sample in &samples[1..] {
        tracker.push(sample);
        models.push(Arc::new(tracker.model().clone()));
    }
    models
}

fn blamed() -> Blamed {
    let model = models().pop().expect("there are some");
    model.blame.as_ref().and_then(|blame| blame.of(&[model.listeners[0].id])).expect("it is watched")
}

fn app() -> App {
    let mut app = App::new(DashboardOptions::default());
    app.update(Action::Resize(120, 40));
    app.set_model(models().pop().expect("there are some"));
    app.show("blame");
    app
}

fn type_in(app: &mut App, text: &str) {
    app.update(Action::FilterStart);
    text.chars().for_each(|c| _ = app.update(Action::FilterInput(c)));
    app.update(Action::FilterAccept);
}

/// The line that names the chosen frame.
fn chosen(app: &App) -> String {
    let picture = picture(app);
    let lines: Vec<&str> = picture.lines().collect();
    lines[lines.len() - 3].trim().to_owned()
}

#[test]
fn the_tree_has_all_waiting_and_every_frame_its_place() {
    let blamed = blamed();
    let flame = Flame::new(&blamed);
    assert_eq!(flame.total_ns(), blamed.total_ns());
    for node in &flame.nodes {
        let within: u64 = node.children.iter().map(|&child| flame.nodes[child].wait_ns).sum();
        assert!(within <= node.wait_ns, "{node:?}");
        assert!(node.children.windows(2).all(|two| flame.nodes[two[0]].wait_ns >= flame.nodes[two[1]].wait_ns));
    }
    for width in [1, 2, 10, 78, 198] {
        let placed = flame.place(0, width);
        for place in &placed {
            assert!(place.width > 0 && place.x + place.width <= width);
            let overlaps = |other: &&Placed| {
                other.row == place.row && other.x < place.x + place.width && place.x < other.x + other.width
            };
            assert_eq!(placed.iter().filter(overlaps).count(), 1, "{place:?}");
            let node = &flame.nodes[place.node];
            let exact = share(node.wait_ns, flame.total_ns()) * f64::from(width);
            assert!((f64::from(place.width) - exact).abs() <= node.depth as f64 + 1.0, "{node:?} {place:?}");
        }
    }
    assert!(flame.place(usize::MAX, 80).is_empty() && flame.place(0, 0).is_empty());
    assert!(Flame::default().place(0, 80).is_empty() && Flame::default().find(&["a".to_owned()]) == 0);
}

#[test]
fn labels_lead_to_their_frame() {
    let flame = Flame::new(&blamed());
    for at in 0..flame.nodes.len() {
        assert_eq!(flame.find(&flame.labels(at)), at);
        assert!(flame.is_within(at, 0) && flame.is_within(at, at));
    }
    let mut labels = flame.labels(flame.nodes.len() - 1);
    labels.push("no such frame".to_owned());
    assert_eq!(flame.find(&labels), flame.nodes.len() - 1);
}

#[test]
fn what_is_found_counts_once() {
    let flame = Flame::new(&blamed());
    let (sync, within) = (flame.matches("SYNC"), flame.share_within(&flame.matches("sync")));
    assert_eq!(sync.len(), 3, "fsync, do_fsync, ext4_sync_file");
    assert!((within - 0.771).abs() < 0.001, "{within}");
    assert!((flame.share_within(&flame.matches("demo-server")) - 0.896).abs() < 0.001);
    assert!(flame.matches("").is_empty() && flame.share_within(&[]) == 0.0);
}

#[test]
fn the_worst_place_is_chosen_until_a_key_chooses_one() {
    let mut app = app();
    assert!(chosen(&app).starts_with("sqlite3_step (demo-server): asleep"), "{}", chosen(&app));
    app.update(Action::Up);
    assert!(chosen(&app).starts_with("handle_order (demo-server): asleep"), "{}", chosen(&app));
    app.update(Action::Down);
    app.update(Action::FrameAfter);
    assert!(chosen(&app).starts_with("load_page"), "{}", chosen(&app));
    app.update(Action::FrameBefore);
    assert!(chosen(&app).starts_with("sqlite3_step"), "{}", chosen(&app));
    assert_eq!(app.update(Action::FrameBefore), Effect::None, "it is the first of its row");
    app.update(Action::Last);
    assert!(chosen(&app).starts_with("schedule (kernel)"), "{}", chosen(&app));
    app.update(Action::First);
    assert!(chosen(&app).starts_with("all waiting"), "{}", chosen(&app));
}

#[test]
fn a_frame_takes_the_whole_width_and_gives_it_back() {
    let mut app = app();
    let before = picture(&app);
    app.update(Action::Open);
    let zoomed = picture(&app);
    assert!(zoomed.contains("Flame graph of sqlite3_step, 77.1 % of the wait"), "{zoomed}");
    app.update(Action::Up);
    assert!(chosen(&app).starts_with("sqlite3_step"), "what is above is out of sight");
    for _ in 0..10 {
        app.update(Action::ZoomOut);
    }
    assert_eq!(app.declaration().name, "overview", "out of everything, and then out of the view");
    app.show("blame");
    assert_eq!(picture(&app), before);
    // A place of the list that is not within what is zoomed.
    app.update(Action::Open);
    app.update(Action::NextSection);
    assert!(!picture(&app).contains("Flame graph of"));
}

#[test]
fn a_search_marks_frames_and_goes_from_one_to_the_next() {
    let mut app = app();
    type_in(&mut app, "json");
    assert!(picture(&app).contains("/json 2 frames, 4.3 % of the wait (> next, x clears)"), "{}", picture(&app));
    assert!(chosen(&app).starts_with("json_number"), "{}", chosen(&app));
    app.update(Action::SortNext);
    assert!(chosen(&app).starts_with("json_string"), "{}", chosen(&app));
    app.update(Action::SortNext);
    assert!(chosen(&app).starts_with("json_number"), "from the last to the first");
    app.update(Action::SortPrevious);
    assert!(chosen(&app).starts_with("json_string"), "{}", chosen(&app));
    app.update(Action::FilterClear);
    assert!(picture(&app).contains("what is wide was waited for long"));
}

#[test]
fn a_click_chooses_and_a_second_one_zooms() {
    let mut app = app();
    let lines: Vec<String> = picture(&app).lines().map(str::to_owned).collect();
    let (y, x) = lines
        .iter()
        .enumerate()
        .skip(18)
        .find_map(|(y, line)| {
            Some((
                y as u16,
                line.chars().collect::<Vec<_>>().windows(9).position(|w| w.iter().collect::<String>() == "load_page")?
                    as u16,
            ))
        })
        .unwrap_or_else(|| panic!("{}", lines.join("\n")));
    app.update(Action::Click(x, y));
    assert!(chosen(&app).starts_with("load_page"), "{}", chosen(&app));
    app.update(Action::Click(x, y));
    assert!(picture(&app).contains("Flame graph of load_page"));
}

#[test]
fn it_is_watched_while_the_view_is_on_the_screen() {
    let mut app = App::new(DashboardOptions::default());
    app.update(Action::Resize(120, 40));
    app.set_model(models()[0].clone());
    assert_eq!(app.wants_blame(), BlameWanted::default());
    app.show("blame");
    assert!(picture(&app).contains("Attaching the probes"), "{}", picture(&app));
    let wanted = app.wants_blame();
    assert_eq!((wanted.listeners.len(), wanted.anew), (1, 0));
    // Help lies over it.
    app.show("help");
    assert_eq!(app.wants_blame(), wanted);
    app.show("help");
    app.update(Action::Anew);
    assert_eq!(app.wants_blame(), BlameWanted { anew: 1, ..wanted });
    app.update(Action::Back);
    assert_eq!(app.wants_blame(), BlameWanted::default());
}

#[test]
fn it_says_why_there_is_nothing() {
    let mut model = Model::clone(&models()[0]);
    let blame = listentop_model::blame::Blame { unavailable: Some("it takes probes".to_owned()), ..Default::default() };
    model.blame = Some(Arc::new(blame));
    let options = DashboardOptions { notice: Some("run it as root".to_owned()), ..DashboardOptions::default() };
    let mut app = App::new(options);
    app.update(Action::Resize(120, 40));
    app.set_model(Arc::new(model.clone()));
    app.show("blame");
    let says = "unavailable: what acceptors do cannot be watched here: it takes probes (run it as root).";
    assert!(picture(&app).contains(says), "{}", picture(&app));
    let id = model.listeners[0].id;
    let quiet = Blamed { listener: id, since_ns: 0, until_ns: 3_000_000_000, stacks: Vec::new() };
    model.blame = Some(Arc::new(listentop_model::blame::Blame { listeners: vec![quiet], ..Default::default() }));
    app.set_model(Arc::new(model.clone()));
    assert!(picture(&app).contains("No connection has waited in 3.00s"), "{}", picture(&app));
    model.listeners.iter_mut().for_each(|listener| listener.closed = true);
    app.set_model(Arc::new(model));
    assert!(picture(&app).contains("does not exist any more"), "{}", picture(&app));
}

#[test]
fn the_sentence_is_copied_and_findings_have_it() {
    let app = app();
    let sentence = app.view().copies(&app.state).expect("it is known");
    assert!(sentence.contains("while worker-0 (2201) slept in fsync ← sqlite3_step ← handle_order"), "{sentence}");
    let model = models().pop().expect("there are some");
    let with = model.listeners[0].findings.iter().filter(|finding| finding.summary.contains(&sentence)).count();
    assert_eq!(with, 1, "{:?}", model.listeners[0].findings);
}
