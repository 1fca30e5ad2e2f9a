//! `listentop [top]`.

use std::io::IsTerminal as _;

use anyhow::{Context as _, anyhow};
use listentop_model::words::{Units, write_sizes_in};
use tokio::sync::{mpsc, watch};

use super::{
    Failure, OK,
    blaming::Blaming,
    config::Config,
    feed::Feed,
    options::{BlameOn, Cli, ThemeChoice, Top, UnitsChoice},
    runtime, start_and,
};
use crate::{
    dashboard::{self, DashboardOptions, Ended, Palette, Theme},
    lab::{self, Lab},
    rights::sandbox::Allowed,
    say::{charset, say},
};

pub(super) fn run(cli: &Cli) -> Result<u8, Failure> {
    // Before anything is attached: the dashboard cannot run without a terminal.
    dashboard::usable()?;
    let look = look(&cli.top(), Medium::Terminal)?;
    cli.filter.check().map_err(Failure::Usage)?;
    // It is gone when the dashboard appears, which shows the filters as they are compared.
    cli.filter.notes().into_iter().for_each(|note| say(format_args!("listentop: {note}")));
    if cli.probing.log_probes && std::io::stderr().is_terminal() {
        return Err(
            anyhow!("the log would overwrite the dashboard; redirect stderr to a file (--log-probes 2>FILE)").into()
        );
    }
    let runtime = runtime()?;
    let lab = Lab::of_environment()?;
    // An evidence bundle goes into the current directory.
    let blame_on = blame_on(&cli.top())?;
    let mut probing = cli.probing.options();
    probing.live.blame_later = blame_on != BlameOn::Never && cfg!(feature = "blame");
    probing.live.adjustable = true;
    let allowed = Allowed {
        writes: vec![".".into()],
        attaches: probing.live.blame_later,
        changes_level: true,
        ..Allowed::default()
    };
    let (started, blaming) =
        start_and(&probing, cli.probing.no_sandbox, &allowed, |source| Blaming::start(source, blame_on))?;
    let name = started.source.name().to_owned();
    let feed = Feed::start(lab::marked(started.source, lab.as_ref().map(Lab::marks)), cli.filter.clone())
        .context("reading the source failed")?
        .with_blaming(blaming);
    let options = DashboardOptions {
        host: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()),
        source: name,
        filters: cli.filter.to_string(),
        notice: started.notice,
        ..look
    };
    let refresh = options.refresh;
    let (ended, reader) = runtime.block_on(async move {
        let (models, receiver) = watch::channel(None);
        let (sender, controls) = mpsc::unbounded_channel();
        let reader = feed.spawn(refresh, models, controls)?;
        let ended = dashboard::run_in_lab(receiver, sender, options, lab).await?;
        anyhow::Ok((ended, reader))
    })?;
    // Both channels are closed, so the reader ends after the sample that it is taking. The runtime must outlive it.
    let read = reader.join();
    drop(runtime);
    left(ended).map_or_else(
        || match read {
            Ok(Ok(())) => Err(anyhow!("the source ended").into()),
            Ok(Err(error)) => Err(anyhow::Error::new(error).context("reading the source failed").into()),
            Err(_) => Err(anyhow!("the source panicked").into()),
        },
        Ok,
    )
}

/// The exit status of a dashboard that was left; `None` if its source ended, which knows why.
pub(super) fn left(ended: Ended) -> Option<u8> {
    match ended {
        Ended::Quit | Ended::TerminalLost => Some(OK),
        Ended::Signal(number) => Some(128_u8.saturating_add(number.unsigned_abs().try_into().unwrap_or(u8::MAX))),
        Ended::SourceEnded => None,
    }
}

/// When acceptors are watched, by the command line and the configuration file.
fn blame_on(top: &Top) -> Result<BlameOn, Failure> {
    let config = Config::read(top.config.as_deref()).map_err(Failure::Usage)?;
    Ok(top.blame_on.or(config.blame_on).unwrap_or(BlameOn::Open))
}

/// What the dashboard is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// This terminal.
    Terminal,
    /// A file: whatever the terminal can.
    File,
}

/// How the dashboard looks there, by the command line and the configuration file.
pub(super) fn look(top: &Top, medium: Medium) -> Result<DashboardOptions, Failure> {
    let config = Config::read(top.config.as_deref()).map_err(Failure::Usage)?;
    let variable = |name| std::env::var_os(name);
    let term = variable("TERM");
    let detected = Palette::of_terminal(term.as_deref(), variable("COLORTERM").as_deref(), false);
    let coloured = Theme::color_allowed(variable("NO_COLOR").as_deref());
    let (palette, ask) = match top.theme.or(config.theme).unwrap_or(ThemeChoice::Auto) {
        ThemeChoice::Auto if !coloured => (Palette::None, false),
        ThemeChoice::Auto if medium == Medium::File => (Palette::Dark, false),
        // The sixteen are the terminal's own, whatever is behind them.
        ThemeChoice::Auto => (detected, detected == Palette::Dark),
        ThemeChoice::Dark => (Palette::Dark, false),
        ThemeChoice::Light => (Palette::Light, false),
        ThemeChoice::Sixteen => (Palette::Sixteen, false),
        ThemeChoice::None => (Palette::None, false),
    };
    if top.units.or(config.units) == Some(UnitsChoice::Si) {
        write_sizes_in(Units::Decimal);
    }
    let defaults = DashboardOptions::default();
    Ok(DashboardOptions {
        refresh: top.refresh.or(config.refresh).unwrap_or(defaults.refresh),
        palette,
        ask_background: ask,
        charset: Theme::charset_of(term.as_deref(), charset()),
        keys: config.keys().map_err(Failure::Usage)?,
        wanted: config.wanted().map_err(Failure::Usage)?,
        unwanted: config.unwanted().map_err(Failure::Usage)?,
        bell: top.bell || config.bell,
        mouse: !top.no_mouse && config.mouse.unwrap_or(true),
        ..defaults
    })
}
