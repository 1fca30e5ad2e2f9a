//! The incident: forty listeners, and one of them refuses clients because its only acceptor sleeps. Whoever looks must
//! find the right listener without a key, and the cause with what to do by one.

use std::{fs, net::IpAddr, path::Path, process::Command, sync::Arc};

use listentop::dashboard::{Action, App, DashboardOptions, draw};
use listentop_model::{
    blame::{Blame, Blamed, BlamedStack, Doing, Frame},
    connections::{
        Actor, ClientState, Connection, ConnectionList, ConnectionLists, IN_ALL, Listing, PER_LISTENER, Precision,
    },
    fixtures::{Scene, listener, process, thread, thread_state},
    model::Model,
    sample::Sample,
    tracker::Tracker,
};
use listentop_recording::{Recording, Start, Writer};
use ratatui::{Terminal, backend::TestBackend};

const HOST: u32 = 4_026_531_840;
const COUNT: u16 = 40;
/// The one that hangs, by its place.
const ILL: usize = 20;
const BACKLOG: u32 = 128;
/// Samples, a quarter of a second apart; the acceptor hangs from the 41st on.
const TICKS: u64 = 96;
const HANGS: u64 = 40;
/// A healthy server's queue is this deep at most.
const BLIP: u32 = 2;
/// The same as a recording, for stills of every view.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/incident.rec");

fn port(place: usize) -> u16 {
    23_000 + 25 * place as u16
}

fn ill_pid() -> u32 {
    1_000 + ILL as u32
}

/// Threads of a server: one to four, and one of that which hangs.
fn threads(place: usize) -> usize {
    if place == ILL { 1 } else { 1 + place % 4 }
}

/// Forty servers of various names at work.
fn incident() -> Vec<Sample> {
    let names = ["nginx", "redis-server", "postgres", "envoy", "gunicorn", "node", "java", "haproxy"];
    let servers = (0..COUNT).map(|n| {
        let (place, pid) = (usize::from(n), 1_000 + u32::from(n));
        let name = names[place % names.len()];
        let mut server = listener(100 + u64::from(n), HOST, &format!("127.0.0.1:{}", port(place)), BACKLOG);
        server.process = process(pid, name);
        server.threads = (0..threads(place)).map(|n| thread(pid, pid + 5_000 * n as u32, name)).collect();
        server
    });
    let mut scene = Scene::new(servers.collect());
    let mut depth = 0;
    for tick in 0..TICKS {
        for place in 0..usize::from(COUNT) {
            let server = scene.listener(place);
            let hangs = place == ILL && tick >= HANGS;
            if !hangs {
                // Some are busier than others, each now and then; of several threads the first does most.
                let load = 1 + (place as u64 * 7 + tick / 8) % 5;
                server.enqueue(3 * load, BLIP);
                for n in 0..threads(place) {
                    let share = load.div_ceil(1 + n as u64);
                    server.accept(n, share, 60 + 30 * load);
                    server.read(n, 3 * share, share, 40);
                    server.write(n, 3 * share);
                }
                continue;
            }
            let enqueued = 20.min(BACKLOG + 1 - depth);
            depth += enqueued;
            server.enqueue(enqueued.into(), depth);
            server.gauges.accept_depth = depth;
            server.gauges.oldest_waiting_us = Some((tick - HANGS + 1) * 250_000);
            server.threads[0].state = Some(thread_state('S', "futex_wait_queue", "futex"));
            if depth > BACKLOG {
                server.refuse(12, 3);
                let counters = scene.counters(0);
                counters.listen_overflows += 15;
                counters.listen_drops += 15;
            }
        }
        scene.tick(250);
    }
    let mut samples = scene.samples();
    list_and_blame(&mut samples);
    samples
}

/// Adds who waits at the listener that hangs, and what its acceptor did meanwhile. Both go with its depth.
fn list_and_blame(samples: &mut [Sample]) {
    let mut waited_ns = 0;
    let mut since_ns = None;
    let mut came_ns = Vec::new();
    for at in 1..samples.len() {
        let (before_ns, now_ns) = (samples[at - 1].monotonic_ns, samples[at].monotonic_ns);
        let sample = &mut samples[at];
        sample.listing = Some(Listing { per_listener: PER_LISTENER, in_all: IN_ALL, unlisted: 0 });
        let Some(ill) = sample.listeners.iter_mut().nth(ILL) else { continue };
        let depth = ill.gauges.accept_depth as usize;
        if depth <= BLIP as usize {
            continue;
        }
        let since = *since_ns.get_or_insert(before_ns);
        came_ns.resize(depth, u64::midpoint(before_ns, now_ns));
        let waiting = came_ns.iter().zip(1..).take(PER_LISTENER as usize).map(|(came_ns, client)| Connection {
            client: IpAddr::from([10, 1, 0, client]),
            port: 40_000 + 7 * u16::from(client),
            since_ns: Some(*came_ns),
            precision: Precision::Measured,
            accepted_ns: None,
            state: ClientState::Open,
            unread: 120,
            reader: None,
            holder: None,
            half_open: None,
        });
        ill.connections = Some(ConnectionLists {
            waiting: ConnectionList { connections: waiting.collect(), total: depth as u64 },
            ..ConnectionLists::default()
        });
        waited_ns += depth as u64 * (now_ns - before_ns);
        let stacks = vec![BlamedStack {
            doing: Doing::Asleep,
            thread: Some(Actor { pid: ill_pid(), tid: Some(ill_pid()), comm: "gunicorn".to_owned() }),
            frames: asleep(),
            wait_ns: waited_ns,
        }];
        let listeners = vec![Blamed { listener: ill.id, since_ns: since, until_ns: now_ns, stacks }];
        sample.blame = Some(Arc::new(Blame { unavailable: None, remarks: Vec::new(), listeners }));
    }
}

/// Where its acceptor sleeps, the innermost call first.
fn asleep() -> Vec<Frame> {
    let of = |module: Option<&str>, names: &[&str]| {
        let frame = |name: &&str| Frame::named((*name).to_owned(), module.map(str::to_owned), module.is_none());
        names.iter().map(frame).collect::<Vec<_>>()
    };
    [
        of(None, &["schedule", "futex_wait_queue", "do_futex"]),
        of(Some("libc.so.6"), &["__futex_abstimed_wait_common"]),
        of(Some("python3.11"), &["PyThread_acquire_lock_timed", "_PyEval_EvalFrameDefault", "Py_RunMain"]),
    ]
    .concat()
}

/// The model after each sample.
fn models() -> Vec<Model> {
    let samples = incident();
    let mut tracker = Tracker::new(&samples[0]);
    let mut models = vec![tracker.model().clone()];
    for sample in &samples[1..] {
        tracker.push(sample);
        models.push(tracker.model().clone());
    }
    models
}

fn picture(app: &App, (columns, rows): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a test backend does not fail");
    terminal.draw(|frame| draw(frame, app)).expect("a test backend does not fail");
    let buffer = terminal.backend().buffer();
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect::<Vec<_>>().join("\n")
}

/// Lines that are joined where the screen broke them.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_right_listener_without_a_key_and_its_cause_with_one() {
    for size in [(80, 24), (120, 40), (200, 60)] {
        let mut app = App::new(DashboardOptions::default());
        app.update(Action::Resize(size.0, size.1));
        models().into_iter().for_each(|model| _ = app.set_model(Arc::new(model)));
        let text = picture(&app, size);
        let says = "1 of 40 listeners refuses clients: 127.0.0.1:23500 gunicorn[1020], its only acceptor sleeps in \
                    futex_wait_queue";
        assert!(joined(&text).contains(says), "{text}");
        let selected = text.lines().find(|line| line.starts_with('›')).expect("a row is selected");
        assert!(selected.contains(":23500") && selected.contains("129/129"), "{text}");
        // One key.
        app.update(Action::Open);
        let text = picture(&app, size);
        assert!(text.contains("── 127.0.0.1:23500") && text.contains("129 of 129"), "{text}");
        for says in ["hung_acceptor: Nothing was accepted for", "y copies: strace -p 1020"] {
            assert!(joined(&text).contains(says), "no {says:?} in:\n{text}");
        }
        // And its course.
        assert!(text.contains("accept queue depth, peak"), "{text}");
    }
}

/// The row that is selected is the ill one as soon as the finding comes, and no later frame moves it or the columns.
#[test]
fn nothing_jumps_once_it_is_found() {
    let size = (120, 40);
    let mut app = App::new(DashboardOptions::default());
    app.update(Action::Resize(size.0, size.1));
    let (mut found, mut heads) = (0, None);
    for model in models() {
        app.set_model(Arc::new(model));
        let text = picture(&app, size);
        if !text.contains(" refuses clients: ") {
            continue;
        }
        found += 1;
        let row = text.lines().position(|line| line.starts_with('›')).expect("a row is selected");
        assert!(text.lines().nth(row).is_some_and(|line| line.contains(":23500")), "{text}");
        let head = text.lines().find(|line| line.contains("LISTENER")).map(str::to_owned);
        assert!(heads.is_none() || heads == Some((row, head.clone())), "{text}");
        heads = Some((row, head));
    }
    assert!(found > 10, "it was found in {found} frames");
}

/// Writes the incident as a recording.
fn record(path: &Path) {
    let start = Start {
        machine: Some("web1".to_owned()),
        interval_ms: 250,
        ..Start::new("listentop, made for its tests".to_owned(), 1)
    };
    let mut writer = Writer::file(path, start, None).expect("a new file");
    incident().iter().for_each(|sample| writer.write(sample).expect("there is room"));
    writer.finish().expect("it is written");
}

/// The recording, and of it the pictures of the README. `UPDATE_DOCS=1` makes them anew.
#[test]
fn pictures_of_the_readme() {
    let updates = std::env::var_os("UPDATE_DOCS").is_some();
    let place = tempfile::tempdir().expect("a folder");
    if updates {
        let new = place.path().join("new.rec");
        record(&new);
        fs::copy(new, RECORDING).expect(RECORDING);
    }
    let recording = Recording::open(Path::new(RECORDING), |_, _| ()).expect(RECORDING);
    let samples: Vec<Sample> = recording.samples(0..recording.len()).map(|(_, sample)| sample).collect();
    assert!(samples == incident(), "{RECORDING} is old: UPDATE_DOCS=1 makes it anew");
    for (name, options) in [("overview", &[][..]), ("listener", &["--view", "listener", "--listener", ":23500"])] {
        let path = format!("{}/../docs/pictures/{name}.svg", env!("CARGO_MANIFEST_DIR"));
        let new = place.path().join(format!("{name}.svg"));
        let listentop = env!("CARGO_BIN_EXE_listentop");
        let mut replay = Command::new(listentop);
        replay.args(["replay", RECORDING, "--size", "120x32", "--theme", "dark", "--still"]).arg(&new).args(options);
        let output = replay.output().expect("listentop runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let picture = fs::read_to_string(new).expect("a still");
        if updates {
            fs::write(&path, picture).expect(&path);
        } else {
            let before = fs::read_to_string(&path).expect(&path);
            assert!(before == picture, "{path} is old: UPDATE_DOCS=1 draws it anew");
        }
    }
}
