//! By which labels a listener is known: never a pid, a thread or a client, which come and go.

use std::collections::HashMap;

use listentop_model::{
    device::Device,
    model::{ListenerModel, Model},
    sample::Process,
    words::clean,
};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

/// Names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Labels(Vec<(&'static str, String)>);

impl Labels {
    /// Adds a label, unless its value is unknown. What could control a terminal is replaced: names are the program's
    /// choice.
    pub(super) fn with(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.0.extend(value.filter(|value| !value.is_empty()).map(|value| (name, clean(value))));
        self
    }

    /// The pairs, in their order.
    #[cfg(feature = "otlp")]
    pub(super) fn pairs(&self) -> &[(&'static str, String)] {
        &self.0
    }

    /// Those of a listener, without `shard`.
    pub(super) fn of(listener: &ListenerModel) -> Self {
        let process = listener.process.as_ref();
        let netns = listener.netns_name.clone().unwrap_or_else(|| listener.netns.to_string());
        let device = listener.device.as_ref().map(Device::name);
        Self::default()
            .with("netns", Some(&netns))
            .with("container", process.and_then(Process::in_container))
            .with("pod", process.and_then(Process::in_pod))
            .with("namespace", process.and_then(|process| process.pod_namespace.as_deref()))
            .with("service", process.and_then(|process| process.service.as_deref()))
            .with("address", Some(&listener.address.to_string()))
            .with("port", Some(&listener.port.to_string()))
            .with("device", device)
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// How long a listener is exported after it closed, in seconds: so its last counts are scraped.
const AFTER_CLOSE: f64 = 30.0;

/// The listeners that are exported, each with its labels, always in the same order: no two have the same labels.
pub(super) fn listeners(model: &Model) -> Vec<(Labels, &ListenerModel)> {
    let gone = |listener: &ListenerModel| {
        let closed = listener.closed_us.map_or(model.interval.seconds, |us| us as f64 / 1e6);
        listener.closed && model.interval.seconds - closed > AFTER_CLOSE
    };
    let mut listeners: Vec<&ListenerModel> = model.listeners.iter().filter(|listener| !gone(listener)).collect();
    // Mostly the order in which they opened. Not always: each CPU gives its own range of cookies.
    listeners.sort_by_key(|listener| listener.id);
    let mut alone: HashMap<Labels, usize> = HashMap::new();
    for listener in listeners.iter().filter(|listener| !listener.closed) {
        *alone.entry(Labels::of(listener)).or_default() += 1;
    }
    let mut named: Vec<(Labels, &ListenerModel)> = Vec::with_capacity(listeners.len());
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(listeners.len());
    for listener in listeners {
        let labels = Labels::of(listener);
        // Shards of one address are told apart by what is never used again.
        let shared = listener.group.is_some() || alone.get(&labels).is_some_and(|count| *count > 1);
        let labels = if shared { labels.with("shard", Some(&listener.id.to_string())) } else { labels };
        match places.get(&labels) {
            // Its address was taken over.
            Some(place) if is_later(listener, named[*place].1) => named[*place].1 = listener,
            Some(_) => {}
            None => {
                places.insert(labels.clone(), named.len());
                named.push((labels, listener));
            }
        }
    }
    named
}

/// Whether a listener had the address after the other: it is open, or it closed later. Both may have closed between two
/// samples; then the one that opened later, as far as that is known.
fn is_later(one: &ListenerModel, other: &ListenerModel) -> bool {
    let order =
        |listener: &ListenerModel| (!listener.closed, listener.closed_us, listener.opened_in_interval, listener.id);
    order(one) > order(other)
}
