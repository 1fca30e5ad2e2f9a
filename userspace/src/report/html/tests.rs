use listentop_model::{fixtures, sample::Sample, tracker::Tracker, words::Charset};

use super::*;

fn page(samples: &[Sample]) -> String {
    let mut tracker = Tracker::new(&samples[0]);
    let mut story = Story::default();
    story.push(tracker.model());
    for sample in &samples[1..] {
        tracker.push(sample);
        story.push(tracker.model());
    }
    let story = story.finish();
    html(tracker.model(), &Page { remarks: &[], width: 80, charset: Charset::Unicode, story: Some(&story) })
}

/// Checks that each element that is opened is closed, in the right order.
fn assert_nested(page: &str) {
    let body = &page[page.find("<body>").expect("a body")..page.find("<script>").expect("a script")];
    let mut open = Vec::new();
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("an unescaped bracket: {part}"));
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).expect("a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') && !["input", "meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, ["body"]);
}

#[test]
fn an_overflow_has_everything() {
    let page = page(&fixtures::overflow());
    assert_nested(&page);
    for part in [
        "class=\"verdict critical\"",
        "accept_queue_overflow",
        "began: accept_queue_overflow",
        "class=\"pipeline\"",
        "refused per second",
        "accept queue, largest depth",
        "accept_queue.wait_us",
        "<h3>Threads</h3>",
        "demo-server",
        "id=\"l21\"",
        "href=\"#l21\"",
        "drops.accept_queue_full_on_syn",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
}

#[test]
fn every_machine_is_a_page() {
    for (samples, verdict) in [
        (fixtures::quiet(), "None of 3 listeners refuses clients"),
        (fixtures::dead_shard(), "1 of 4 listeners refuses clients: 10.0.0.1:8443 shard 4"),
        (fixtures::unavailable(), "cannot be measured here"),
        (fixtures::per_connection(), "The listener refuses no client"),
        (fixtures::distinct(), "of "),
    ] {
        let page = page(&samples);
        assert_nested(&page);
        assert!(page.contains(verdict), "{verdict}");
        assert!(page.lines().count() > 20);
    }
}

/// Clients wait, and no finding holds yet.
#[test]
fn where_no_finding_holds_the_figures_speak() {
    let mut samples = fixtures::quiet();
    // Without accepts nothing says why.
    samples.iter_mut().for_each(|sample| sample.listeners[0].counts.accepts = None);
    let last = samples.last_mut().unwrap();
    let gauges = &mut last.listeners[0].gauges;
    (gauges.accept_depth, gauges.oldest_waiting_us) = (288, Some(1_000_001));
    let page = page(&samples);
    assert_nested(&page);
    assert!(page.contains("class=\"verdict critical\""), "{page}");
    let says =
        "1 of 3 listeners keeps clients waiting: 0.0.0.0:22 sshd[801], 288 connections wait, the oldest for 1.0 s<";
    assert!(page.contains(says), "{page}");
    // In the list of findings, in the overview, and at the listener, which is open.
    let line = "288 connections wait, the oldest for 1.0 s. No finding says why yet.";
    assert_eq!(page.matches(line).count(), 2, "{page}");
    assert!(page.contains("<td class=\"text critical\">288 connections wait, the oldest for 1.0 s</td>"), "{page}");
    assert!(!page.contains("<p>None.</p>"), "{page}");
}

#[test]
fn shards_are_told_apart() {
    let page = page(&fixtures::dead_shard());
    for shard in 1..=4 {
        // In the overview and above its own figures.
        let name = format!(">10.0.0.1:8443 shard {shard}<");
        assert!(page.matches(&name).count() >= 2, "{name}");
    }
}

#[test]
fn unknown_is_never_zero() {
    let page = page(&fixtures::unavailable());
    assert!(page.contains("n/a accepts/s") && !page.contains("0 accepts/s"), "{page}");
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let page = page(&fixtures::overflow());
    assert!(!page.contains("src=") && !page.contains("url(") && !page.contains("@import") && !page.contains("http:"));
    assert!(!page.replace("http-equiv", "").contains("http"), "no address");
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn names_cannot_become_markup() {
    let mut samples = fixtures::overflow();
    let evil = "<img src=x onerror=alert(1)>\"'&\u{202e}\x1b";
    for sample in &mut samples {
        for listener in &mut sample.listeners {
            if let Some(process) = &mut listener.process {
                evil.clone_into(&mut process.comm);
            }
            for thread in &mut listener.threads {
                evil.clone_into(&mut thread.comm);
            }
        }
        for namespace in &mut sample.namespaces {
            namespace.name = Some(evil.to_owned());
        }
        evil.clone_into(&mut sample.host.kernel);
    }
    let page = page(&samples);
    assert_nested(&page);
    assert!(!page.contains("<img") && page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
    assert!(!page.contains(['\u{202e}', '\x1b']));
}
