//! `listentop serve`.

use super::{
    Failure,
    options::{Cli, Serve},
};

/// This build has no exporter.
#[cfg(not(feature = "serve"))]
pub(super) fn run(_: &Cli, _: &Serve) -> Result<u8, Failure> {
    Err(Failure::Usage("this build has no 'serve': 'cargo xtask build' makes one that has (feature serve)".to_owned()))
}

/// Measures, and serves the figures.
#[cfg(feature = "serve")]
pub(super) fn run(cli: &Cli, options: &Serve) -> Result<u8, Failure> {
    use anyhow::Context as _;

    use super::{OK, runtime, signals::Ending, start};
    use crate::{
        rights::sandbox::Allowed,
        say::say,
        serve::{Bound, Options},
    };

    cli.filter.check().map_err(Failure::Usage)?;
    for note in cli.filter.notes() {
        say(format_args!("listentop: {note}"));
    }
    // Before anything is attached, and while files that only root may read can be read.
    let bound = Bound::new(Options {
        address: options.address.clone(),
        path: options.path.clone(),
        config: options.config.clone(),
        max_series: options.max_series,
        every: options.every,
        #[cfg(feature = "otlp")]
        otlp: options.otlp.settings(),
    })
    .map_err(|error| {
        if error.is_usage() { Failure::Usage(error.to_string()) } else { anyhow::Error::new(error).into() }
    })?;
    let runtime = runtime()?;
    #[cfg(feature = "otlp")]
    let connects = options.otlp.settings().is_some();
    #[cfg(not(feature = "otlp"))]
    let connects = false;
    let source = start(&cli.probing, &Allowed { connects, ..Allowed::default() })?.source;
    let filter = cli.filter.clone();
    let served = runtime.block_on(async move {
        let mut ending = Ending::expect().context("cannot wait for signals")?;
        if let Some(warning) = bound.warning() {
            say(format_args!("listentop: {warning}"));
        }
        let url = bound.url();
        #[cfg(feature = "otlp")]
        let pushes = bound.pushes();
        let measured = bound.measure(source, Box::new(move |model| filter.apply(model)))?;
        // Scripts wait for this line: all that happens from here on counts.
        say(format_args!("serving at {url}"));
        #[cfg(feature = "otlp")]
        if let Some(pushes) = pushes {
            say(pushes);
        }
        measured.serve(ending.came()).await?;
        anyhow::Ok(())
    });
    // A name that is still being looked up holds nothing up.
    runtime.shutdown_background();
    served?;
    Ok(OK)
}
