//! Each lesson is whole and consistent.

use crate::figure::{Figure, Source, parse};
use crate::format::{Act, Bounds, Change, Lesson};
use crate::{ALL, DEFAULT, find, list_json, list_text, next};
use std::collections::HashSet;

fn distinct<'a>(lesson: &Lesson, what: &str, names: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    for name in names {
        assert!(seen.insert(name), "{}: two {what} are called {name}", lesson.name);
    }
    seen
}

fn sentences(lesson: &Lesson) -> Vec<&'static str> {
    let mut texts = vec![lesson.question, lesson.prediction.ask, lesson.prediction.because, lesson.belief];
    texts.extend(lesson.mechanism.iter().chain(lesson.try_next));
    texts.extend(lesson.steps.iter().map(|step| step.watch));
    texts
}

#[test]
fn expected_findings_exist() {
    let catalogue = include_str!("../../../docs/patterns-and-findings.md");
    for lesson in ALL {
        assert!(lesson.findings.is_sorted(), "{}: {:?} is not in order", lesson.name, lesson.findings);
        for id in lesson.expected_findings() {
            assert!(catalogue.contains(&format!("| `{id}` |")), "{}: {id} is no finding", lesson.name);
        }
    }
    let twice = |lesson: &&&Lesson| {
        let named = |id: &&&str| lesson.expectations.iter().any(|one| one.figure.contains(&format!("findings[{id}]")));
        lesson.findings.iter().any(|id| named(&id))
    };
    assert_eq!(ALL.iter().find(twice).map(|lesson| lesson.name), None, "a finding is named twice");
}

#[test]
fn names_and_texts_are_in_form() {
    let names: HashSet<_> = ALL.iter().map(|lesson| lesson.name).collect();
    assert_eq!(names.len(), ALL.len(), "two lessons have the same name");
    assert!(ALL.is_sorted_by_key(|lesson| lesson.part), "the lessons of a part are together, the parts in order");
    for lesson in ALL {
        let name = lesson.name;
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
        assert!(lesson.title.chars().count() <= 60, "{name}: the title is longer than a line of the menu");
        for text in sentences(lesson) {
            assert!(text.ends_with(['.', '?']), "{name}: no sentence: {text}");
            assert!(!text.contains("  ") && !text.contains('\n'), "{name}: spaces in: {text}");
        }
        for watch in lesson.steps.iter().map(|step| step.watch) {
            assert!(watch.chars().count() <= 200, "{name}: more than the caption bar shows: {watch}");
        }
    }
    assert!(find(DEFAULT).is_ok());
}

#[test]
fn a_prediction_can_be_right_and_wrong() {
    for Lesson { name, prediction, .. } in ALL {
        assert!((2..=4).contains(&prediction.answers.len()), "{name}");
        assert!(prediction.right < prediction.answers.len(), "{name}");
    }
}

#[test]
fn servers_and_loads_can_be_told_apart() {
    for lesson in ALL {
        let (name, setup) = (lesson.name, &lesson.setup);
        let servers = distinct(lesson, "servers", setup.servers.iter().map(|server| server.name));
        distinct(lesson, "loads", setup.loads.iter().map(|load| load.name));
        // The kernel keeps 15 bytes of a process's name.
        let short: HashSet<_> = servers.iter().map(|name| &name[..name.len().min(15)]).collect();
        assert_eq!(short.len(), servers.len(), "{name}: two processes have the same name");
        for load in setup.loads {
            assert!(servers.contains(load.server), "{name}: {} loads no server", load.name);
            assert!(load.step + load.steps.max(1) <= lesson.steps.len(), "{name}: {} has no such step", load.name);
        }
        for server in setup.servers {
            assert!(server.step < lesson.steps.len(), "{name}: {} starts in no step", server.name);
        }
    }
}

#[test]
fn steps_take_time_and_act_on_what_there_is() {
    for lesson in ALL {
        let name = lesson.name;
        let steps = distinct(lesson, "steps", lesson.steps.iter().map(|step| step.name));
        assert!(!steps.is_empty(), "{name}");
        assert!(lesson.length_ms(true) <= 8_000, "{name}: the short form is for tests");
        assert!((5_000..=120_000).contains(&lesson.length_ms(false)), "{name}");
        let server = |wanted: &str| lesson.setup.servers.iter().any(|server| server.name == wanted);
        let load = |wanted: &str| lesson.setup.loads.iter().any(|load| load.name == wanted);
        for step in lesson.steps {
            assert!(step.short_ms > 0 && step.short_ms <= step.length_ms, "{name}: {}", step.name);
            for act in step.acts {
                let known = match act {
                    Act::Stall(name) | Act::Release(name) | Act::AddAcceptor(name) | Act::Backlog(name, _) => {
                        server(name)
                    }
                    Act::Rate(name, _) => load(name),
                    Act::End(name) | Act::Kill(name) => server(name) || load(name),
                    Act::Blame | Act::Sysctl(..) => true,
                };
                assert!(known, "{name}: {act:?}");
            }
        }
    }
}

#[test]
fn figures_are_of_what_there_is() {
    for lesson in ALL {
        let setup = &lesson.setup;
        let server = |wanted: &str| setup.servers.iter().any(|server| server.name == wanted);
        let load = |wanted: &str| setup.loads.iter().any(|load| load.name == wanted);
        distinct(lesson, "expectations", lesson.expectations.iter().map(|expectation| expectation.id));
        assert!(lesson.expectations.len() >= 2, "{}", lesson.name);
        for expectation in lesson.expectations {
            let context = format!("{}: {}", lesson.name, expectation.id);
            let parsed = parse(expectation.figure).unwrap_or_else(|mistake| panic!("{context}: {mistake}"));
            let mut figures = 0;
            parsed.figures(&mut |Figure { source, name, step, .. }| {
                figures += 1;
                let known = match (source, name) {
                    (Source::Blame, _) if !lesson.blames() => panic!("{context}: nobody is blamed"),
                    (Source::Listentop | Source::Blame | Source::Server | Source::Queue, Some(name)) => server(name),
                    (Source::Load, Some(name)) => load(name),
                    (Source::Process, Some(name)) => server(name) || load(name),
                    _ => true,
                };
                assert!(known, "{context}: nothing is called {name:?}");
                let step_known = |step: &String| lesson.steps.iter().any(|known| known.name == step);
                assert!(step.as_ref().is_none_or(step_known), "{context}: no step is called {step:?}");
            });
            assert!(figures > 0, "{context}: a number alone cannot fail");
            for bounds in [expectation.bounds(false), expectation.bounds(true)] {
                let (low, high) = bounds.ends();
                assert!(low.zip(high).is_none_or(|(low, high)| low <= high), "{context}");
            }
            if let Some(widened) = expectation.widened {
                parse(widened).unwrap_or_else(|mistake| panic!("{context}: {mistake}"));
                let exact = [expectation.bounds(false), expectation.bounds(true)];
                assert!(!exact.iter().any(|bounds| matches!(bounds, Bounds::Exactly(_))), "{context}: it is exact");
            }
            assert!(!expectation.what.is_empty() && !expectation.why.is_empty(), "{context}");
        }
    }
}

#[test]
fn a_spoiler_changes_something_and_says_what_fails() {
    for Lesson { name, setup, spoiler, expectations, .. } in ALL {
        let options = match spoiler.change {
            Change::Server(server, ..) => setup.servers.iter().find(|one| one.name == server).map(|one| one.options),
            Change::Load(load, ..) => setup.loads.iter().find(|one| one.name == load).map(|one| one.options),
            Change::Sysctl(..) => None,
        };
        match spoiler.change {
            Change::Server(_, from, to) | Change::Load(_, from, to) => {
                let options = options.unwrap_or_else(|| panic!("{name}: it changes nothing"));
                assert!(options.contains(from) && from != to, "{name}: '{from}' is not in '{options}'");
            }
            Change::Sysctl(path, to) => {
                assert!(!setup.sysctls.contains(&(path, to)), "{name}: it changes nothing");
            }
        }
        assert!(!spoiler.fails.is_empty(), "{name}");
        for id in spoiler.fails {
            assert!(expectations.iter().any(|expectation| expectation.id == *id), "{name}: no {id}");
        }
    }
}

#[test]
fn an_unknown_lesson_names_the_known_ones() {
    let error = find("x").unwrap_err();
    assert!(error.contains("patterns") && error.contains("overflow") && error.lines().count() == 1);
}

#[test]
fn the_list_has_every_lesson_in_order() {
    let (text, json) = (list_text(), list_json());
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(lines.len(), ALL.len());
    for (place, lesson) in ALL.iter().enumerate() {
        assert!(lines[place].starts_with(lesson.name), "{text}");
        assert_eq!(json["lessons"][place]["name"], lesson.name);
        assert_eq!(next(lesson).map(|next| next.name), ALL.get(place + 1).map(|next| next.name));
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_lesson_has_its_file_and_a_file_its_lesson() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for folder in std::fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let stems = entries.filter_map(|path| Some(path.file_stem()?.to_str()?.replace('_', "-")));
        files.extend(stems.filter(|stem| stem != "mod"));
    }
    files.sort_unstable();
    let mut names: Vec<_> = ALL.iter().map(|lesson| lesson.name).collect();
    names.sort_unstable();
    assert_eq!(files, names);
}
