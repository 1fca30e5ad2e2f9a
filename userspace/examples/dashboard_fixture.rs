//! The dashboard on made samples instead of a kernel, for pictures of it and for trying it out.
//!
//! `cargo run -p listentop --example dashboard_fixture -- [MACHINE [PALETTE]]`
//!
//! MACHINE is quiet, overflow, dead_shard, unavailable, many[=N], or a file of recorded samples; PALETTE dark, light,
//! 16 or none. It plays the samples once, and then shows the last of them.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::ValueEnum as _;
use listentop::dashboard::{Control, DashboardOptions, Ended, Palette, run};
use listentop_model::{fixtures, sample::Sample, tracker::Tracker};
use tokio::sync::{mpsc, watch};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match show().await {
        Ok(ended) => {
            println!("ended: {ended:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("dashboard_fixture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show() -> anyhow::Result<Ended> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "overflow".to_owned());
    let samples = samples(&name)?;
    let palette = std::env::args().nth(2).unwrap_or_else(|| "dark".to_owned());
    let palette = Palette::from_str(&palette, false).map_err(anyhow::Error::msg)?;
    let (models, receiver) = watch::channel(None);
    let (controls, controlled) = mpsc::unbounded_channel();
    let options = DashboardOptions {
        palette,
        host: Some("fixture".to_owned()),
        source: "replay".to_owned(),
        ..DashboardOptions::default()
    };
    let every = options.refresh;
    tokio::select! {
        ended = run(receiver, controls, options) => ended,
        () = play(samples, models, controlled, every) => Ok(Ended::SourceEnded),
    }
}

fn samples(name: &str) -> anyhow::Result<Vec<Sample>> {
    Ok(match name.split_once('=').unwrap_or((name, "1000")) {
        ("quiet", _) => fixtures::quiet(),
        ("overflow", _) => fixtures::overflow(),
        ("dead_shard", _) => fixtures::dead_shard(),
        ("unavailable", _) => fixtures::unavailable(),
        ("many", n) => fixtures::many(n.parse().with_context(|| format!("not a number of listeners: {n}"))?),
        _ => std::fs::read_to_string(name)
            .with_context(|| {
                format!("no such machine: {name}; there are quiet, overflow, dead_shard, unavailable, many[=N]")
            })?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?,
    })
}

/// Plays the samples, and then goes on showing the last one.
async fn play(
    samples: Vec<Sample>,
    models: watch::Sender<Option<Arc<listentop_model::model::Model>>>,
    mut controls: mpsc::UnboundedReceiver<Control>,
    mut every: Duration,
) {
    let Some((first, rest)) = samples.split_first() else { return };
    let mut tracker = Tracker::new(first);
    models.send_replace(Some(Arc::new(tracker.model().clone())));
    for sample in rest {
        tokio::time::sleep(every).await;
        while let Ok(Control::SetInterval(interval)) = controls.try_recv() {
            every = interval;
        }
        tracker.push(sample);
        models.send_replace(Some(Arc::new(tracker.model().clone())));
    }
    // What is asked from now on has no answer.
    drop(controls);
    std::future::pending::<()>().await;
}
