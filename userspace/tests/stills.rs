//! Stills of a recording: `replay --still`, as text, SVG and PNG.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, lchown, symlink},
    path::Path,
    process::{Command, Output},
};

use roxmltree::Document;

/// Forty listeners, one of which refuses clients: `dashboard_incident.rs` makes it.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/incident.rec");

fn still(name: &Path, options: &[&str]) -> Output {
    let mut replay = Command::new(env!("CARGO_BIN_EXE_listentop"));
    // It needs neither a terminal nor a home.
    replay.env_clear().args(["replay", RECORDING, "--still"]).arg(name).args(options);
    replay.output().expect("listentop runs")
}

/// The line of a still that cannot be made, and its exit status.
fn refused(name: &Path, options: &[&str]) -> (String, Option<i32>) {
    let output = still(name, options);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.starts_with("listentop: ") && said.lines().count() == 1, "{said}");
    (said, output.status.code())
}

/// The text of a still.
fn text(place: &Path, options: &[&str]) -> String {
    let path = place.join("still.txt");
    let output = still(&path, options);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&path).expect("a still");
    fs::remove_file(path).expect("it is there");
    text
}

#[test]
fn it_shows_the_moment_the_view_and_the_listener_asked_for() {
    let place = tempfile::tempdir().expect("a folder");
    let of = |options: &[&str]| text(place.path(), options);
    let end = of(&[]);
    assert_eq!(end.lines().count(), 40, "{end}");
    assert!(
        end.contains("1 of 40 listeners refuses clients: 127.0.0.1:23500") && end.contains(" 08:53:44 UTC"),
        "{end}"
    );
    assert!(end.lines().any(|line| line.starts_with('›') && line.contains(":23500")), "{end}");
    let before = of(&["--at", "+5s"]);
    assert!(before.contains("08:53:25 UTC") && before.contains("None of 40 listeners refuses"), "{before}");
    let listener = of(&["--view", "listener", "--listener", ":23075", "--size", "80x24"]);
    assert!(listener.contains("127.0.0.1:23075 · IPv4 · envoy[1003]") && listener.lines().count() == 24, "{listener}");
    let threads = of(&["--view", "listener", "--listener", "envoy -23475", "--then", "previous-section"]);
    assert!(threads.contains("[Threads 4]") && threads.contains("onCPU"), "{threads}");
    let marked = of(&["--then", "mark,down,mark,compare"]);
    assert!(marked.contains("of 2 (marked) on the same axes"), "{marked}");
    let filtered = of(&["--port", "23500"]);
    assert!(filtered.contains("1 of 1 listener") && !filtered.contains(":23000"), "{filtered}");
    let ascii = of(&["--ascii"]);
    assert!(ascii.is_ascii() && ascii.contains(":23500"), "{ascii}");
}

/// A name without an ending means every format, and all show the same screen.
#[test]
fn pictures_are_of_the_same_screen() {
    let place = tempfile::tempdir().expect("a folder");
    let output = still(&place.path().join("all"), &["--view", "listener", "--size", "100x30", "--theme", "light"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(said.lines().count(), if cfg!(feature = "png") { 3 } else { 2 }, "{said}");
    let text = fs::read_to_string(place.path().join("all.txt")).expect("a text");
    assert_eq!(fs::metadata(place.path().join("all.svg")).expect("it is there").permissions().mode() & 0o777, 0o600);

    let svg = fs::read_to_string(place.path().join("all.svg")).expect("a picture");
    let svg = Document::parse(&svg).expect("well-formed XML");
    let root = svg.root_element();
    assert_eq!((root.attribute("width"), root.attribute("height")), (Some("800"), Some("480")));
    let drawn: Vec<&str> =
        svg.descendants().filter(|node| node.has_tag_name("text")).filter_map(|n| n.text()).collect();
    // Every word of the screen is in it; lines and blocks are shapes.
    let is_letter = |word: &&str| word.chars().all(|c| c.is_ascii() || c.is_alphabetic());
    for word in text.split_whitespace().filter(is_letter) {
        assert!(drawn.iter().any(|text| text.split(' ').any(|drawn| drawn == word)), "{word} is not drawn");
    }
    assert!(svg.descendants().filter(|node| node.has_tag_name("path")).count() > 5);
    let fills = |color| svg.descendants().filter(|node| node.attribute("fill") == Some(color)).count();
    assert!(fills("#ffffff") == 1 && fills("#d70000") > 5, "paper, and the red of a light background");
    png(&place.path().join("all.png"));
}

/// It has the size, the paper, the letters and the red of the screen.
#[cfg(feature = "png")]
fn png(path: &Path) {
    let file = std::io::BufReader::new(fs::File::open(path).expect("a picture"));
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
    let info = reader.next_frame(&mut pixels).expect("a picture");
    assert_eq!((info.width, info.height), (1600, 960));
    let count = |color: [u8; 3]| pixels.chunks(3).filter(|pixel| *pixel == color).count();
    let all = 1600 * 960;
    assert!(count([0xff; 3]) > all / 2, "most is paper");
    assert!(count([0x20; 3]) > all / 500 && count([0xd7, 0, 0]) > all / 500, "letters, and the full queue");
    assert_eq!(pixels[..3], [0xff; 3]);
}

/// This build draws none, and says what does.
#[cfg(not(feature = "png"))]
fn png(path: &Path) {
    assert!(!path.exists());
    let (said, code) = refused(path, &[]);
    assert!(
        said.contains("this build draws no PNG: 'cargo xtask build' makes one that does") && code == Some(2),
        "{said}"
    );
}

#[test]
fn nothing_is_overwritten_and_mistakes_are_one_line() {
    let place = tempfile::tempdir().expect("a folder");
    let path = |name: &str| place.path().join(name);
    fs::write(path("there.svg"), "mine").expect("a file");
    symlink("there.svg", path("link.svg")).expect("a link");
    for (name, options, says, status) in [
        ("there.svg", &[][..], "there.svg cannot be written: File exists", 1),
        ("link.svg", &[], "link.svg cannot be written: File exists", 1),
        ("none/still.svg", &[], "cannot be written: No such file", 1),
        ("still.gif", &[], "a still ends in .svg, .png or .txt", 2),
        ("folder/", &[], "the name of a file is expected", 2),
        ("still.svg", &["--size", "79x24"], "it must be from 80x24 to 400x200", 2),
        ("still.svg", &["--size", "wide"], "columns and rows are expected", 2),
        ("still.svg", &["--view", "none"], "possible values: overview, listener", 2),
        ("still.svg", &["--listener", "nosuch"], "no listener passes it at that moment", 2),
        ("still.svg", &["--then", "fly"], "there is no such action", 2),
        ("still.svg", &["--then", "quit"], "--then quit: it changes no picture", 2),
        ("still.svg", &["--at", "2001-01-01T00:00Z"], "the recording does not have this time", 2),
    ] {
        let (said, code) = refused(&path(name), options);
        assert!(said.contains(says) && code == Some(status), "{name} {options:?}: {code:?} {said}");
    }
    assert_eq!(fs::read_to_string(path("there.svg")).expect("it is there"), "mine");
    assert!(!path("still.svg").exists());
    // As root, links of another user.
    fs::create_dir(path("folder")).expect("a folder");
    symlink("folder", path("way")).expect("a link");
    symlink(path("new.svg"), path("other.svg")).expect("a link");
    if lchown(path("way"), Some(65_534), None).and_then(|()| lchown(path("other.svg"), Some(65_534), None)).is_ok() {
        for name in ["way/still.svg", "other.svg"] {
            let (said, code) = refused(&path(name), &[]);
            assert!(said.contains("symbolic link of user 65534, which is not followed") && code == Some(1), "{said}");
        }
        assert!(!path("new.svg").exists() && !path("folder/still.svg").exists());
    }
}

#[test]
fn options_of_a_still_need_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_listentop")).args(["replay", RECORDING, "--view", "help"]).output();
    let output = output.expect("listentop runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--still <NAME>") && output.status.code() == Some(2));
}

/// Of a recording that ends within a sample what is whole is shown, and a line says that more may have been written.
#[test]
fn a_recording_that_was_cut_off_is_said_to_be() {
    let place = tempfile::tempdir().expect("a folder");
    let cut = place.path().join("cut.rec");
    let whole = fs::read(RECORDING).expect(RECORDING);
    fs::write(&cut, &whole[..whole.len() - 100]).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_listentop")).args(["report", "--from"]).arg(&cut).output();
    let output = output.expect("listentop runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success() && said.lines().count() == 1, "{said}");
    assert!(
        said.contains("cut.rec ends within a sample (its last ") && said.contains("it was cut off there"),
        "{said}"
    );
}

/// What the manual says of `--view` is what there is.
#[test]
fn every_view_is_in_the_manual() {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).expect("the manual");
    let row = manual.lines().find(|line| line.starts_with("| `--view NAME`")).expect("a row of the option");
    for view in listentop::dashboard::view_names() {
        assert!(row.contains(&format!("`{view}`")), "{view} is not in: {row}");
    }
}
