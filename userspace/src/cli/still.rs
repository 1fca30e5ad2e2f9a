//! `listentop replay FILE --still NAME`: the dashboard at a moment of a recording, written to files.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, builder::PossibleValuesParser};
use listentop_model::words::Charset;

use super::{Failure, OK, values};
use crate::{
    dashboard::{
        Action, App, DashboardOptions, Effect, Palette, Shown, bound_actions,
        still::{self, Format},
        view_names,
    },
    say::say,
};

/// What a still shows, and where it is written to.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Stills")]
pub(super) struct Still {
    /// Write the screen to NAME.svg, NAME.png or NAME.txt, and end; a NAME without such an ending means all of them.
    /// Without --at it is of the recording's end
    #[arg(long = "still", id = "still", value_name = "NAME")]
    pub(super) name: Option<PathBuf>,
    /// Columns and rows of the screen, from 80x24 to 400x200
    #[arg(long, value_name = "COLSxROWS", default_value = "120x40", value_parser = values::screen, requires = "still")]
    size: (u16, u16),
    /// The view
    #[arg(long, value_parser = PossibleValuesParser::new(view_names()), default_value = "overview", requires = "still")]
    view: String,
    /// Select the first row that passes a filter, as the dashboard's / reads it: ':443', 'nginx critical'
    #[arg(long, value_name = "FILTER", requires = "still")]
    listener: Option<String>,
    /// What to do in the view before, as in the configuration file: next-section, mark,down,mark
    #[arg(long, value_name = "ACTION,…", value_delimiter = ',', value_parser = action, allow_hyphen_values = true, requires = "still")]
    then: Vec<Action>,
    /// With ASCII alone, as where the locale has no UTF-8
    #[arg(long, requires = "still")]
    ascii: bool,
}

impl Still {
    /// Whether it shows what happened in the whole recording.
    pub(super) fn lists_events(&self) -> bool {
        let events = Action::Show("events");
        self.view == events.name() || self.then.contains(&events)
    }
}

/// An action by its name in the configuration file.
fn action(name: &str) -> Result<Action, String> {
    let known = bound_actions().into_iter().find(|action| action.name() == name);
    known.ok_or_else(|| "there is no such action: docs/dashboard.md lists them".to_owned())
}

/// The files to be written.
struct Files(Vec<(PathBuf, &'static Format)>);

impl Files {
    /// Those that a name means.
    fn of(name: &Path) -> Result<Self, Failure> {
        let usage = |why: &str| Failure::Usage(format!("--still {}: {why}", name.display()));
        let Some(file) = name.file_name().filter(|_| !name.as_os_str().as_encoded_bytes().ends_with(b"/")) else {
            return Err(usage("the name of a file is expected"));
        };
        let Some(ending) = Path::new(file).extension() else {
            let file = |format: &'static Format| (name.with_extension(format.ending), format);
            return Ok(Self(still::FORMATS.iter().map(file).collect()));
        };
        match still::FORMATS.iter().find(|format| ending == format.ending) {
            Some(format) => Ok(Self(vec![(name.to_owned(), format)])),
            None if ending == still::OPTIONAL => Err(usage(
                "this build draws no PNG: 'cargo xtask build' makes one that does (feature png), or use .svg",
            )),
            None => Err(usage("a still ends in .svg, .png or .txt")),
        }
    }
}

/// Draws what is shown of a moment, and writes it.
pub(super) fn run(name: &Path, wanted: &Still, shown: Shown, options: DashboardOptions) -> Result<u8, Failure> {
    let files = Files::of(name)?;
    let charset = if wanted.ascii { Charset::Ascii } else { Charset::Unicode };
    let palette = options.palette;
    let app = app(wanted, shown, DashboardOptions { charset, ..options })?;
    write(&files, &app, palette)?;
    Ok(OK)
}

/// The dashboard as it is to be drawn.
fn app(wanted: &Still, shown: Shown, options: DashboardOptions) -> Result<App, Failure> {
    let mut app = App::new(options);
    app.update(Action::Resize(wanted.size.0, wanted.size.1));
    app.show_moment(shown);
    if let Some(filter) = &wanted.listener
        && !app.select_first(filter)
    {
        return Err(Failure::Usage(format!("--listener {filter}: no listener passes it at that moment")));
    }
    app.show(&wanted.view);
    for action in &wanted.then {
        if !matches!(app.update(*action), Effect::None | Effect::Redraw) {
            return Err(Failure::Usage(format!("--then {}: it changes no picture", action.name())));
        }
    }
    Ok(app)
}

/// All of them are drawn before the first is written.
fn write(files: &Files, app: &App, palette: Palette) -> anyhow::Result<()> {
    let still = still::still(app);
    let drawn: anyhow::Result<Vec<_>> =
        files.0.iter().map(|(path, format)| Ok((path, (format.write)(&still, palette)?))).collect();
    for (path, bytes) in drawn? {
        let file = listentop_recording::create(path);
        file.and_then(|mut file| file.write_all(&bytes))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        say(format_args!("written: {}", path.display()));
    }
    Ok(())
}
