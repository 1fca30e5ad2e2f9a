//! `listentop blame`.

/// This build has no blame.
#[cfg(not(feature = "blame"))]
pub(super) fn run(_: &super::options::Cli, _: &super::options::Blame) -> Result<u8, super::Failure> {
    Err(super::Failure::Usage(
        "this build has no 'blame': 'cargo xtask build' makes one that has (feature blame)".to_owned(),
    ))
}

/// Measures what acceptors do while connections wait.
#[cfg(feature = "blame")]
pub(super) use with_symbols::run;

#[cfg(feature = "blame")]
mod with_symbols {
    use std::time::Duration;

    use anyhow::Context as _;
    use tokio::time::{Instant, MissedTickBehavior};

    use crate::{
        blame::{self, Acceptors, Blamed, Of, Symbols, json::Report},
        cli::{
            Failure, NOTHING_PASSED, OK,
            feed::Feed,
            filter::Filter,
            options::{self, Blame, BlameFormat, Cli},
            print,
            progress::Progress,
            report::{left, width},
            runtime,
            signals::{self, Ending},
            start_with,
        },
        output,
        rights::sandbox::Allowed,
        say::{charset, say},
        source::{
            Probes,
            live::{
                Level,
                blame::{Measured, Stack},
            },
        },
    };

    /// How long is measured, unless it is said.
    const DURATION: Duration = Duration::from_secs(10);
    /// Time between two looks at which threads accept, and which stacks have names.
    const EVERY: Duration = Duration::from_millis(250);
    /// How long the start waits for who waits for the listeners.
    const PATIENCE: Duration = Duration::from_secs(2);
    /// Width of the table if standard output is not a terminal.
    const WIDTH: u16 = 120;
    /// What is printed, in messages.
    const WHAT: &str = "the blame";

    pub(crate) fn run(cli: &Cli, options: &Blame) -> Result<u8, Failure> {
        output::check().map_err(|error| Failure::Output(WHAT, error))?;
        for note in cli.filter.notes() {
            say(format_args!("listentop: {note}"));
        }
        let named = cli.filter.check().map_err(Failure::Usage)?;
        // Before the time is spent.
        if options.against.is_some() && options.format != BlameFormat::Text {
            return Err(Failure::Usage("--against is for --format text".to_owned()));
        }
        let against = options.against.as_deref().map(earlier).transpose()?;
        let of = match options.of {
            options::Of::Accepts => Of::Accepts,
            options::Of::Reads => Of::Reads,
        };
        if let Some(before) = &against {
            is_like(before, of)?;
        }
        let runtime = runtime()?;
        let mut probing = cli.probing.options();
        probing.live.blame = true;
        if of == Of::Reads && probing.live.level != Level::All {
            return Err(Failure::Usage("--of reads takes --measure all".to_owned()));
        }
        probing.live.blame_reads = of == Of::Reads;
        match probing.probes {
            // Depths alone blame nobody: what probes lack is all that there is to say.
            Probes::Auto => probing.probes = Probes::Best,
            Probes::SockDiag => {
                return Err(Failure::Usage("blame takes probes: leave --probes sock_diag out".to_owned()));
            }
            Probes::Best | Probes::Fentry | Probes::Tracepoint => {}
        }
        // While it has the rights to read the files of other processes.
        let mut symbols = Symbols::start().context("no thread can be started")?;
        let source = start_with(&probing, cli.probing.no_sandbox, &Allowed::default())?.source;
        let mut feed = Feed::start(source, cli.filter.clone()).context("reading the source failed")?;
        feed.blame().map_err(|reason| Failure::Impossible(format!("nobody can be blamed here: {reason}")))?;
        let duration = options.duration.unwrap_or(DURATION);
        let mut acceptors = Acceptors::new(of);
        let measured = measure(&mut feed, &cli.filter, duration, &mut symbols, &mut acceptors);
        let measured = runtime.block_on(measured)?;
        // From here on a signal ends the program as usual.
        signals::restore();
        let model = feed.model();
        for remark in cli.filter.remarks(&model, &named) {
            say(format_args!("listentop: {remark}"));
        }
        let mut blamed = Blamed::new(measured, &model, &symbols.names());
        acceptors.note(&mut blamed, &model);
        let columns = usize::from(width(WIDTH));
        let text = match (&against, options.format) {
            (Some(before), _) => blame::versus(&blamed, before, columns),
            (None, BlameFormat::Text) => blame::table(&blamed, columns),
            (None, BlameFormat::Folded) => blame::folded(&blamed),
            (None, BlameFormat::Svg) => blame::svg(&blamed),
            (None, BlameFormat::Json) => blame::json(&blamed).map_err(anyhow::Error::new)?,
        };
        let text = if options.format == BlameFormat::Text { charset().of_text(&text) } else { text.into() };
        print(WHAT, &text)?;
        Ok(if cli.filter.passed_nothing(&model) { NOTHING_PASSED } else { OK })
    }

    /// The JSON of an earlier run.
    fn earlier(path: &std::path::Path) -> Result<Report, Failure> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        let report = serde_json::from_slice(&text);
        report.map_err(|error| {
            Failure::Usage(format!("{} is not what 'blame --format json' prints: {error}", path.display()))
        })
    }

    /// Compares like with like.
    fn is_like(before: &Report, of: Of) -> Result<(), Failure> {
        if before.of == of.name() {
            return Ok(());
        }
        Err(Failure::Usage(format!("the earlier run was of {}: compare with --of {}", before.of, before.of)))
    }

    /// Watches until the time is over, or a signal arrives.
    async fn measure(
        feed: &mut Feed,
        filter: &Filter,
        duration: Duration,
        symbols: &mut Symbols,
        acceptors: &mut Acceptors,
    ) -> anyhow::Result<Measured> {
        let mut ending = Ending::expect()?;
        let mut over = false;
        let mut progress = Progress::start();
        // Who waits for the listeners is found in the background.
        let patience = Instant::now() + PATIENCE;
        while !over
            && Instant::now() < patience
            && !feed.model().listeners.iter().all(|it| it.closed || it.waiters.is_some())
        {
            tokio::select! {
                () = tokio::time::sleep(EVERY / 4) => {}
                () = ending.came() => over = true,
            }
            feed.advance().context("reading the source failed")?;
        }
        watch(feed, acceptors)?;
        if filter.passed_nothing(&feed.model()) {
            say(format_args!("listentop: no listener passes the filter so far: {filter}"));
        }
        // Scripts wait for this line before they start their load.
        say("measuring");
        let end = Instant::now() + duration;
        let mut tick = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !over {
            over = tokio::select! {
                _ = tick.tick() => false,
                () = tokio::time::sleep_until(end) => true,
                () = ending.came() => true,
            };
            if over {
                break;
            }
            feed.advance().context("reading the source failed")?;
            watch(feed, acceptors)?;
            name(feed, symbols);
            progress.show(|| format!("{} left", left(end)));
        }
        name(feed, symbols);
        let measured = feed.blame().map_err(anyhow::Error::msg)?.finish().context("reading the source failed")?;
        feed.advance().context("reading the source failed")?;
        for charge in &measured.charges {
            if let Stack::Known(addresses) | Stack::Before(addresses) = &charge.kernel {
                symbols.kernel(addresses);
            }
            if let Stack::Known(addresses) = &charge.user {
                symbols.process(charge.acceptor.pid, addresses);
            }
        }
        Ok(measured)
    }

    /// Watches the listeners that pass the filters, and their acceptors.
    fn watch(feed: &mut Feed, acceptors: &mut Acceptors) -> anyhow::Result<()> {
        let subjects = acceptors.subjects(&feed.model(), None);
        let mut blame = feed.blame().map_err(anyhow::Error::msg)?;
        blame.only(&acceptors.only());
        blame.watch(&subjects).context("the acceptors cannot be watched")
    }

    /// Has the functions named that were seen since the last time, while their processes live.
    fn name(feed: &mut Feed, symbols: &mut Symbols) {
        let Ok(mut blame) = feed.blame() else { return };
        for (pid, stack) in blame.user_stacks() {
            symbols.process(pid, &blame.addresses(stack));
        }
    }
}
