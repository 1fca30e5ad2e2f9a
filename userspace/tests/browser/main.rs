//! The report as a page, looked at and clicked in Chromium. Without Chromium the tests are skipped.

mod chromium;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde_json::Value;
use tempfile::TempDir;
use test_harness::Test;

use self::chromium::Page;

/// A listener that refuses clients.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/overflow_format_1.rec");

const SIZES: [(u32, u32); 3] = [(1280, 1000), (800, 700), (390, 800)];

fn main() -> ExitCode {
    const TESTS: &[Test] = &[
        Test { name: "browser::everything_is_seen_at_each_size_and_in_both_schemes", run: seen },
        Test { name: "browser::everything_can_be_clicked", run: clicked },
        Test { name: "browser::nothing_is_loaded_and_nothing_fails", run: alone },
    ];
    test_harness::run(&[TESTS], || None)
}

/// The page of the recording, in a folder of its own.
fn page() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("report.html");
    let mut command = Command::new(env!("CARGO_BIN_EXE_listentop"));
    let output = command.args(["report", "--from", RECORDING, "--format", "html"]).output().expect("listentop runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&file, output.stdout).expect("it is written");
    (place, file)
}

/// Ratios of contrast (WCAG 2) of everything that has text of its own, the lowest first, with the text.
const CONTRASTS: &str = r"(() => {
  const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = (text) => text.match(/[\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join('');
    if (!own || ['SCRIPT', 'STYLE', 'TITLE'].includes(e.tagName) || e.namespaceURI.includes('svg') && e.tagName !== 'text') continue;
    const style = getComputedStyle(e);
    const [one, other] = [light(numbers(e.tagName === 'text' ? style.fill : style.color)), light(behind(e))];
    found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), own.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()";

fn seen() {
    let (_place, file) = page();
    for size in SIZES {
        let mut page = Page::open(&file, size);
        page.call(
            "Emulation.setDeviceMetricsOverride",
            &serde_json::json!({ "width": size.0, "height": size.1, "deviceScaleFactor": 1, "mobile": false }),
        );
        for scheme in ["light", "dark"] {
            page.prefer(scheme);
            let background = page.value("getComputedStyle(document.body).backgroundColor");
            let is_light = background == "rgb(255, 255, 255)";
            assert_eq!(is_light, scheme == "light", "{background}");
            let contrasts = page.value(CONTRASTS);
            let contrasts = contrasts.as_array().expect("a list");
            assert!(contrasts.len() > 50, "{}", contrasts.len());
            assert!(contrasts[0][0].as_f64() >= Some(4.5), "{scheme}: {}", contrasts[0]);
            save(&mut page, &format!("{scheme}-{}", size.0));
        }
        // It is as wide as the window: only tables scroll, within themselves.
        let wide = page.value("document.documentElement.scrollWidth - innerWidth");
        assert!(wide.as_i64() <= Some(0), "{size:?}: {wide} too wide");
        let verdict = page.value("document.getElementById('verdict').innerText");
        assert!(verdict.as_str().is_some_and(|text| text.contains("refuses clients")), "{verdict}");
        let charts = page.value("[...document.querySelectorAll('details[open] > .charts svg')].map((e) => e.getBoundingClientRect().height)");
        let charts = charts.as_array().expect("a list");
        assert!(charts.len() >= 8 && charts.iter().all(|height| height.as_f64() > Some(50.0)), "{charts:?}");
        let stages = page.value("[...document.querySelectorAll('.stage')].map((e) => e.scrollWidth - e.clientWidth)");
        assert!(stages.as_array().is_some_and(|all| all.len() == 5 && all.iter().all(|over| *over == 0)), "{stages}");
    }
}

/// A picture for whoever looks at the test's results; it is not empty.
fn save(page: &mut Page, name: &str) {
    let picture = page.call("Page.captureScreenshot", &serde_json::json!({ "format": "png" }));
    let data = picture["data"].as_str().expect("base64");
    assert!(data.len() > 20_000, "{} bytes", data.len());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::write(folder.join(format!("report-{name}.png.base64")), data).expect("it is written");
}

fn clicked() {
    let (_place, file) = page();
    let mut page = Page::open(&file, SIZES[0]);
    page.prefer("light");
    let is_light = "getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)'";
    page.becomes(is_light, true, "as the user prefers");
    page.click("#theme");
    page.becomes(is_light, false, "it is dark now");
    page.click("#theme");
    page.becomes(is_light, true, "and light again");

    let open = "document.querySelector('details.listener').open";
    page.becomes(open, true, "something is wrong with it");
    page.click("#all");
    page.becomes(open, false, "all are closed");
    page.click("td a[href^='#l']");
    page.becomes(open, true, "the link of the table opens it");
    page.click("details.listener > summary b");
    page.becomes(open, false, "its name closes it");
    page.click(".finding a");
    page.becomes(open, true, "the link of a finding opens it");
    let figures = "document.querySelector('details.listener details').open";
    page.becomes(figures, false, "they are not asked for yet");
    page.click("details.listener details > summary");
    page.becomes(figures, true, "they are now");

    let shown = "[...document.querySelectorAll('[data-words]')].filter((e) => !e.hidden).length";
    let all = page.value(shown);
    assert!(all.as_u64() >= Some(5), "{all}");
    page.click("#filter");
    page.becomes("document.activeElement.id", "filter", "it takes what is typed");
    page.type_text("no-such-thing");
    page.becomes(shown, 0, "nothing has that");
    page.value("document.getElementById('filter').select()");
    page.type_text("CRITICAL 127.0.0.1");
    page.becomes(shown, all, "every word fits, in any case");
    assert_eq!(page.events("Runtime.exceptionThrown"), Vec::<&Value>::new());
}

fn alone() {
    let (_place, file) = page();
    let mut page = Page::open(&file, SIZES[0]);
    page.click("#theme");
    page.value("new Promise((done) => setTimeout(done, 300))");
    let requests = page.events("Network.requestWillBeSent");
    let others = requests.iter().filter(|request| request["request"]["url"] != format!("file://{}", file.display()));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&&Value>::new(), "it needs nothing");
    for kind in ["Runtime.exceptionThrown", "Log.entryAdded"] {
        assert_eq!(page.events(kind), Vec::<&Value>::new(), "{kind}");
    }
    assert_eq!(
        page.value("document.querySelectorAll('#verdict, #findings, #events, #overview, #measuring').length"),
        5
    );
}
