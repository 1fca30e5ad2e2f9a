//! The configuration file of the dashboard.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crossterm::event::KeyCode;
use serde::Deserialize;

use super::values;
use crate::dashboard::{Column, Columns, Key, Remapped, bound_actions};

/// A larger file is none.
const LARGEST: u64 = 1 << 20;

/// What can be set. Options of the command line come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    /// As `--refresh`.
    #[serde(deserialize_with = "refresh")]
    pub(super) refresh: Option<Duration>,
    /// As `--theme`.
    pub(super) theme: Option<super::options::ThemeChoice>,
    /// As `--bell`.
    pub(super) bell: bool,
    /// `false`: as `--no-mouse`.
    pub(super) mouse: Option<bool>,
    /// As `--units`.
    pub(super) units: Option<super::options::UnitsChoice>,
    /// As `--blame-on`.
    #[serde(rename = "blame-on")]
    pub(super) blame_on: Option<super::options::BlameOn>,
    /// Which columns are shown.
    columns: ColumnNames,
    /// Keys by action.
    keys: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ColumnNames {
    always: Vec<String>,
    never: Vec<String>,
}

fn refresh<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::refresh(&text).map(Some).map_err(serde::de::Error::custom)
}

impl Config {
    /// Reads the file that is given, or the user's own; without one, everything is as it is.
    ///
    /// # Errors
    /// The file that is given cannot be read, or a file says something else than a configuration does: in one line.
    pub(super) fn read(given: Option<&Path>) -> Result<Self, String> {
        let Some(path) = given.map(Path::to_owned).or_else(own) else { return Ok(Self::default()) };
        let text = match text(&path, given.is_some()) {
            Ok(text) => text,
            // HOME may be another's, as under setpriv(1) or `sudo -E`.
            Err(error) if given.is_none() && is_none(&error) => return Ok(Self::default()),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map_or(String::new(), |line| format!("{line}: "));
            format!("{}:{line}{}", path.display(), error.message())
        })?;
        let named = |error| format!("{}: {error}", path.display());
        config.keys().map_err(named)?;
        config.wanted().and_then(|_| config.unwanted()).map_err(named)?;
        Ok(config)
    }

    /// Columns that are always shown.
    pub(super) fn wanted(&self) -> Result<Columns, String> {
        self.columns.always.iter().map(|name| column(name)).collect()
    }

    /// Columns that are never shown.
    pub(super) fn unwanted(&self) -> Result<Columns, String> {
        self.columns.never.iter().map(|name| column(name)).collect()
    }

    /// Keys of the user.
    pub(super) fn keys(&self) -> Result<Remapped, String> {
        let actions = bound_actions();
        let line = |(name, keys): (&String, &Vec<String>)| {
            let action = actions.iter().find(|action| action.name() == *name);
            let action = action.ok_or_else(|| {
                let names: Vec<String> = actions.iter().map(|action| action.name()).collect();
                format!("keys.{name}: there is no such action; there are {}", names.join(", "))
            })?;
            let keys: Result<Vec<Key>, String> = keys.iter().map(|key| self::key(key)).collect();
            Ok((*action, keys?))
        };
        self.keys.iter().map(line).collect::<Result<_, String>>().map(Remapped)
    }
}

/// A column by its name.
fn column(name: &str) -> Result<Column, String> {
    Column::ALL.into_iter().find(|column| column.spec().name == name).ok_or_else(|| {
        let names: Vec<&str> = Column::ALL.iter().map(|column| column.spec().name).collect();
        format!("columns: there is no column '{name}'; there are {}", names.join(", "))
    })
}

/// A key by its name: `x`, `ctrl-x`, `f5`, `space`.
fn key(name: &str) -> Result<Key, String> {
    let mut chars = name.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return Ok(Key::Plain(KeyCode::Char(c)));
    }
    let lower = name.to_lowercase();
    if let Some(c) = lower.strip_prefix("ctrl-").and_then(|rest| rest.parse::<char>().ok()) {
        return Ok(Key::Ctrl(c));
    }
    if let Some(n) = lower.strip_prefix('f').and_then(|n| n.parse().ok()).filter(|n| (1..=24).contains(n)) {
        return Ok(Key::Plain(KeyCode::F(n)));
    }
    Ok(Key::Plain(match &*lower {
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "space" => KeyCode::Char(' '),
        "tab" => KeyCode::Tab,
        "backtab" => KeyCode::BackTab,
        "backspace" => KeyCode::Backspace,
        "delete" => KeyCode::Delete,
        "insert" => KeyCode::Insert,
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "pageup" => KeyCode::PageUp,
        "pagedown" => KeyCode::PageDown,
        "home" => KeyCode::Home,
        "end" => KeyCode::End,
        _ => return Err(format!("keys: there is no key '{name}'; keys are x, ctrl-x, f5, enter, space, up and so on")),
    }))
}

/// Where the user's own file is: under sudo that of who called it.
fn own() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let caller = caller().and_then(|uid| nix::unistd::User::from_uid(uid.into()).ok().flatten());
    let directory = match (caller, variable("XDG_CONFIG_HOME")) {
        // XDG_CONFIG_HOME, if sudo kept it, is not root's either; but it need not be the caller's.
        (Some(caller), _) => caller.dir.join(".config"),
        (None, Some(directory)) => directory.into(),
        (None, None) => PathBuf::from(variable("HOME")?).join(".config"),
    };
    Some(directory.join("listentop/config.toml"))
}

/// Who called sudo, if that runs this.
fn caller() -> Option<u32> {
    let uid = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    (uid != 0 && nix::unistd::geteuid().is_root()).then_some(uid)
}

/// Whether there is no file, as far as this user can see.
fn is_none(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// The text of the file. Under sudo the caller's file is read only if it is his: a message must not show him a line of
/// another's.
fn text(path: &Path, given: bool) -> io::Result<String> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let other = |what| Err(io::Error::other(what));
    if !metadata.is_file() || metadata.len() > LARGEST {
        return other("this is no configuration file");
    }
    if let Some(uid) = caller().filter(|_| !given)
        && metadata.uid() != uid
        && metadata.uid() != 0
    {
        return other("it belongs to another user");
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::Action;

    fn parse(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(Some(&path)).map_err(|error| error.replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn everything_can_be_set() {
        let config = parse(
            "refresh = '2s'\ntheme = 'light'\nbell = true\nmouse = false\nunits = 'si'\n\
             [columns]\nalways = ['reads/s']\nnever = ['drops/s', 'finding']\n\
             [keys]\nquit = ['x', 'ctrl-q']\nhelp = ['f5']\nsort-next = ['space']\n",
        )
        .unwrap();
        assert_eq!((config.refresh, config.bell, config.mouse), (Some(Duration::from_secs(2)), true, Some(false)));
        assert_eq!(config.units, Some(crate::cli::options::UnitsChoice::Si));
        assert_eq!(config.wanted().unwrap(), [Column::Reads].into_iter().collect());
        assert_eq!(config.unwanted().unwrap(), [Column::Drops, Column::Finding].into_iter().collect());
        let keys = config.keys().unwrap();
        let of = |action| keys.0.iter().find(|(bound, _)| *bound == action).map(|(_, keys)| keys.clone());
        assert_eq!(of(Action::Quit), Some(vec![Key::Plain(KeyCode::Char('x')), Key::Ctrl('q')]));
        assert_eq!(of(Action::Show("help")), Some(vec![Key::Plain(KeyCode::F(5))]));
        assert_eq!(of(Action::SortNext), Some(vec![Key::Plain(KeyCode::Char(' '))]));
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn the_example_that_packages_bring_is_one() {
        let config = parse(include_str!("../../../deploy/config/config.toml")).unwrap();
        assert_eq!(config.refresh, Some(Duration::from_millis(500)));
        assert_eq!(config.keys().unwrap().0.len(), 2);
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        for (text, says) in [
            ("\n\nrefesh = '2s'", "FILE:3: unknown field `refesh`"),
            ("refresh = '1ms'", "it must be from 50ms to 60s"),
            ("theme = 'pink'", "unknown variant `pink`"),
            ("[keys]\nfly = ['x']", "FILE: keys.fly: there is no such action; there are "),
            ("[keys]\nquit = ['hyper-x']", "there is no key 'hyper-x'"),
            ("[columns]\nnever = ['drop']", "there is no column 'drop'; there are "),
            ("bell = ", "FILE:1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{text}: {error}");
        }
        let missing = Config::read(Some(Path::new("/nonexistent/config.toml"))).unwrap_err();
        assert!(missing.starts_with("/nonexistent/config.toml: No such file"), "{missing}");
        assert!(Config::read(Some(Path::new("/dev/zero"))).unwrap_err().contains("no configuration file"));
    }
}
