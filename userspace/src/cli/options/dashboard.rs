//! Options of the dashboard.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::cli::values;

/// Options of the dashboard. They are set in the configuration file, too.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct Top {
    /// Time between two refreshes (500ms, 1s) [default: 250ms]; the keys + and - change it
    #[arg(long, value_name = "TIME", value_parser = values::refresh)]
    pub(in crate::cli) refresh: Option<Duration>,
    /// Colours: for a dark or a light background, the 16 of the terminal, or none [default: auto, which asks the
    /// terminal for its background]
    #[arg(long, value_enum)]
    pub(in crate::cli) theme: Option<ThemeChoice>,
    /// Ring the terminal's bell when clients of one more listener are refused or wait too long
    #[arg(long)]
    pub(in crate::cli) bell: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub(in crate::cli) no_mouse: bool,
    /// Sizes in KiB (1024 bytes) or kB (1000 bytes) [default: iec]
    #[arg(long, value_enum)]
    pub(in crate::cli) units: Option<UnitsChoice>,
    /// When to watch what acceptors do while connections wait [default: open]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(in crate::cli) blame_on: Option<BlameOn>,
    /// Configuration file [default: listentop/config.toml in $XDG_CONFIG_HOME or ~/.config; under sudo, of who called
    /// it]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
}

/// A choice of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum ThemeChoice {
    /// As the terminal's background is
    Auto,
    /// For a dark background
    Dark,
    /// For a light background
    Light,
    /// The sixteen colours of the terminal's own palette
    #[serde(rename = "16")]
    #[value(name = "16")]
    Sixteen,
    /// No colours
    None,
}

/// A choice of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum UnitsChoice {
    /// KiB, MiB: by 1024
    Iec,
    /// kB, MB: by 1000
    Si,
}

/// When acceptors are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum BlameOn {
    /// While the view Blame is open
    Open,
    /// Then, and while a critical finding about waiting lasts: it then says what was done meanwhile
    Critical,
    /// Never: the rights for it are given up, too
    Never,
}

impl Top {
    /// The first of the options that was given, if any was.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.refresh.is_some(), "--refresh"),
            (self.theme.is_some(), "--theme"),
            (self.bell, "--bell"),
            (self.no_mouse, "--no-mouse"),
            (self.units.is_some(), "--units"),
            (self.blame_on.is_some(), "--blame-on"),
            (self.config.is_some(), "--config"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }

    /// These, and `other` where these are not given.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            refresh: self.refresh.or(other.refresh),
            theme: self.theme.or(other.theme),
            bell: self.bell || other.bell,
            no_mouse: self.no_mouse || other.no_mouse,
            units: self.units.or(other.units),
            blame_on: self.blame_on.or(other.blame_on),
            config: self.config.or(other.config),
        }
    }
}
