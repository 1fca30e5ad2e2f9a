//! Pushes at an interval, until it is told to end; then once more.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    config::Config,
    message::Writer,
    sender::{self, Shared},
};
use crate::{
    say::say,
    serve::{families, measuring::Reader, own::Counters, page::Floors},
};

/// How long the last push may take. Whoever ends a service waits longer.
const FLUSH: Duration = Duration::from_secs(5);

/// What a push is written from.
pub(in crate::serve) struct From {
    pub(in crate::serve) reader: Reader,
    pub(in crate::serve) floors: Arc<Floors>,
    pub(in crate::serve) counters: Arc<Counters>,
    pub(in crate::serve) max_series: usize,
}

/// What pushes, until it is finished.
pub(in crate::serve) struct Pusher {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Pusher {
    /// Begins to push. Within a runtime.
    pub(in crate::serve) fn start(config: Config, from: From) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(run(config, from, stopped)) }
    }

    /// Pushes the last model, and ends after some seconds at the latest.
    pub(in crate::serve) async fn finish(self) {
        // It runs until it is told to end, unless it panicked.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn run(config: Config, from: From, mut stopped: oneshot::Receiver<()>) {
    let shared = Arc::new(Shared::new(from.counters.pushed.get_or_init(Arc::default).clone()));
    let mut writer = Writer::new(config.resource, config.histograms);
    let (ending, is_ending) = watch::channel(false);
    let mut sending = tokio::spawn(sender::run(config.target, shared.clone(), is_ending));
    let from = Arc::new(from);
    let mut due = interval(config.interval);
    // After a pause (a suspended machine) it continues from now; it does not catch up.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            _ = due.tick() => false,
            _ = &mut stopped => true,
        };
        let source = from.clone();
        let written = spawn_blocking(move || {
            let page = source.floors.page(source.reader.latest(), source.max_series);
            let batches = writer.write(&page, &families::of(&page, &source.counters));
            (writer, batches)
        });
        // It ends in another way only if it panicked.
        let Ok((used, batches)) = written.await else { break };
        writer = used;
        shared.add(batches);
        if is_last {
            break;
        }
    }
    // It has ended already if it panicked.
    let _ = ending.send(true);
    if timeout(FLUSH, &mut sending).await.is_err() {
        sending.abort();
    }
    let left = shared.give_up();
    if left > 0 {
        say(format_args!("listentop: {left} points were not pushed: the collector did not take them in time"));
    }
}
