//! What the rows need to know of a listener, kept as long as it does not change: at each refresh only listeners that
//! changed are looked at.

use std::{cell::OnceCell, sync::Arc};

use listentop_model::{
    model::{GroupId, ListenerModel, Severity},
    words::{self, verdict::Standing},
};

use crate::dashboard::{
    column::{Column, Key},
    group::Item,
};

/// What is known of a listener.
#[derive(Debug)]
pub(super) struct Facts {
    of: Arc<ListenerModel>,
    is_shard: bool,
    pub(super) closed: bool,
    pub(super) standing: Standing,
    /// How many findings hold of each severity, worst first.
    pub(super) findings: [u8; 3],
    /// How many have passed.
    pub(super) passed: u8,
    pub(super) address_width: u16,
    pub(super) process_width: u16,
    /// Columns that its container takes; 0 without one.
    pub(super) container_width: u16,
    pub(super) numbers_width: u16,
    key: SortKey,
    /// What a filter looks at, in lower case. Made when a filter looks at it.
    text: OnceCell<Box<str>>,
}

/// What it sorts by.
#[derive(Debug)]
enum SortKey {
    Unknown,
    Number(f64),
    Text(Box<str>),
    Standing,
}

impl SortKey {
    fn of(listener: &ListenerModel, column: Column, at: usize) -> Self {
        match column.key(Item::One(listener), at) {
            Key::Unknown => Self::Unknown,
            Key::Number(number) => Self::Number(number),
            Key::Text(text) => Self::Text(text.into()),
            Key::Standing(_) => Self::Standing,
        }
    }
}

fn digits(n: u32) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Columns that its process takes.
fn process_width(l: &ListenerModel) -> usize {
    let Some(process) = &l.process else { return 0 };
    let holders = match l.holders.len() {
        0 | 1 => 0,
        more => 1 + digits(more as u32 - 1),
    };
    words::width(&words::clean(&process.comm)) + 2 + digits(process.pid) + holders
}

impl Facts {
    /// About a listener, which is at this place of the model.
    pub(super) fn of(handle: &Arc<ListenerModel>, column: Column, at: usize) -> Self {
        let l = &**handle;
        let address = words::endpoint_width(l.address, l.port, l.v6only, l.device.as_ref());
        let container = words::width(&words::container(l));
        Self::with(handle, column, at, [address, process_width(l), container].map(|width| width as u16))
    }

    /// About the same listener as it is now. What it is called seldom changes.
    pub(super) fn renew(&mut self, handle: &Arc<ListenerModel>, column: Column, at: usize) {
        let (before, now) = (&*self.of, &**handle);
        let is_called = |l: &ListenerModel| (l.id, l.address, l.port, l.v6only, l.device, l.holders.len());
        *self = if is_called(before) == is_called(now) && before.process == now.process {
            Self::with(handle, column, at, [self.address_width, self.process_width, self.container_width])
        } else {
            Self::of(handle, column, at)
        };
    }

    fn with(
        handle: &Arc<ListenerModel>,
        column: Column,
        at: usize,
        [address_width, process_width, container_width]: [u16; 3],
    ) -> Self {
        let l = &**handle;
        let holds = |severity| l.findings.iter().filter(move |f| f.until_unix_ms.is_none() && f.severity == severity);
        let count = |severity| holds(severity).count().min(255) as u8;
        let passed = l.findings.iter().filter(|f| f.until_unix_ms.is_some());
        Self {
            is_shard: l.group.is_some(),
            closed: l.closed,
            standing: Standing::of(l),
            findings: [Severity::Critical, Severity::Warning, Severity::Info].map(count),
            passed: passed.count().min(255) as u8,
            address_width,
            process_width,
            container_width,
            numbers_width: (2 * digits(l.now.limit).min(4) + 1).min(9) as u16,
            key: SortKey::of(l, column, at),
            text: OnceCell::new(),
            of: handle.clone(),
        }
    }

    /// Whether they are about this listener, as it is.
    pub(super) fn are_of(&self, handle: &Arc<ListenerModel>) -> bool {
        Arc::ptr_eq(&self.of, handle)
    }

    /// Sorts by another column from now on.
    pub(super) fn set_key(&mut self, column: Column, at: usize) {
        self.key = SortKey::of(&self.of, column, at);
    }

    /// What it sorts by.
    pub(super) fn key(&self) -> Key<'_> {
        match &self.key {
            SortKey::Unknown => Key::Unknown,
            SortKey::Number(number) => Key::Number(*number),
            SortKey::Text(text) => Key::Text(text),
            SortKey::Standing => Key::Standing(self.standing),
        }
    }

    /// The group that it is a shard of.
    pub(super) fn group(&self) -> Option<GroupId> {
        if self.is_shard { self.of.group } else { None }
    }

    /// What a filter looks at: names, addresses and ids, and what is wrong.
    pub(super) fn text(&self) -> &str {
        self.text.get_or_init(|| text(&self.of).to_lowercase().into())
    }
}

fn text(listener: &ListenerModel) -> String {
    let mut text = format!(
        "{} {} {} {}",
        words::listener_endpoint(listener),
        words::process(listener),
        words::netns(listener),
        listener.pattern.name.name(),
    );
    let mut add = |word: &str| {
        text.push(' ');
        text.push_str(word);
    };
    if let Some(process) = &listener.process {
        let ids = [&process.service, &process.container, &process.container_outer, &process.pod];
        ids.into_iter().flatten().for_each(|name| add(name));
        add(&words::container_in_full(listener));
    }
    // How bad it is now, by its figures.
    if let Some(severity) = Standing::of(listener).severity {
        add(severity.name());
    }
    for finding in &listener.findings {
        add(&finding.id.replace('_', " "));
        // What has passed is found by its name, not by how bad it was.
        if finding.until_unix_ms.is_none() {
            add(finding.severity.name());
        }
    }
    if listener.closed {
        add("closed");
    }
    text
}
