//! `listentop man`.

use std::path::PathBuf;

use clap::Args;

use super::Failure;

/// Options of the manual.
#[derive(Debug, Clone, Args)]
#[cfg_attr(not(feature = "manual"), expect(dead_code, reason = "this build only says what it lacks"))]
pub(super) struct Options {
    /// Write a page for each command into this folder, which is made if it is missing: listentop.1, listentop-report.1
    /// and so on. Pages of these names are replaced
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What a build without the feature says.
#[cfg(not(feature = "manual"))]
pub(super) fn lacking(command: &str) -> String {
    format!("this build has no '{command}': 'cargo xtask build' makes one that has (feature manual)")
}

/// This build has none.
#[cfg(not(feature = "manual"))]
pub(super) fn run(_: &Options) -> Result<u8, Failure> {
    Err(Failure::Usage(lacking("man")))
}

/// Prints the page of the program itself, or writes all pages.
#[cfg(feature = "manual")]
pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let pages = pages::all();
    match &options.dir {
        None => super::print("standard output", &pages[0].text)?,
        Some(dir) => pages::write(&pages, dir)?,
    }
    Ok(super::OK)
}

#[cfg(feature = "manual")]
mod pages {
    use std::{
        fs::{self, OpenOptions},
        io::{self, Write as _},
        os::unix::fs::OpenOptionsExt as _,
        path::Path,
    };

    use anyhow::Context as _;
    use clap::{Command, CommandFactory as _};
    use clap_mangen::{
        Man,
        roff::{Roff, bold, roman},
    };

    use crate::cli::options::Cli;

    /// A page.
    pub(super) struct Page {
        name: String,
        pub(super) text: String,
    }

    /// The page of the program, then one for each command.
    pub(super) fn all() -> Vec<Page> {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let names: Vec<String> = program.get_subcommands().map(display_name).collect();
        let mut pages = vec![page(&program, &names)];
        pages.extend(program.get_subcommands().map(|command| page(command, &[display_name(&program)])));
        pages
    }

    /// Writes them into the folder.
    ///
    /// # Errors
    /// The folder cannot be made, or a page cannot be written.
    pub(super) fn write(pages: &[Page], dir: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        for page in pages {
            let path = dir.join(&page.name);
            let mut options = OpenOptions::new();
            // Another user's symbolic link, as there may be one in /tmp, is not followed.
            options.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
            let written = options.open(&path).and_then(|mut file| file.write_all(page.text.as_bytes()));
            written.with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn display_name(command: &Command) -> String {
        command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
    }

    fn page(command: &Command, see_also: &[String]) -> Page {
        let name = display_name(command);
        let man =
            Man::new(command.clone()).source(concat!("listentop ", env!("CARGO_PKG_VERSION"))).manual("User Commands");
        let mut text = Vec::new();
        render(&man, command, &name, see_also, &mut text).unwrap_or_else(|_| unreachable!("memory takes everything"));
        Page { name: format!("{name}.1"), text: String::from_utf8_lossy(&text).into_owned() }
    }

    fn render(man: &Man, command: &Command, name: &str, see_also: &[String], to: &mut Vec<u8>) -> io::Result<()> {
        let mut head = Roff::new();
        // Without a date: the same program prints the same page each time.
        let program = concat!("listentop ", env!("CARGO_PKG_VERSION"));
        head.control("TH", [name.to_uppercase().as_str(), "1", "", program, "User Commands"]);
        // apropos(1) shows the first sentence.
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        head.control("SH", ["NAME"]).text([roman(format!("{name} - {about}"))]);
        head.to_writer(to)?;
        man.render_synopsis_section(to)?;
        man.render_description_section(to)?;
        man.render_options_section(to)?;
        if command.has_subcommands() {
            man.render_subcommands_section(to)?;
        }
        let mut rest = Roff::new();
        if let Some(help) = command.get_after_help() {
            notes(&help.to_string(), &mut rest);
        }
        rest.control("SH", ["SEE ALSO"]);
        rest.text([roman(see_also.iter().map(|page| format!("{page}(1)")).collect::<Vec<_>>().join(", "))]);
        rest.to_writer(to)
    }

    /// What stands below the options in the help: its paragraphs, and its table with a heading of its own.
    fn notes(help: &str, roff: &mut Roff) {
        let (tables, paragraphs): (Vec<&str>, Vec<&str>) =
            help.split("\n\n").partition(|paragraph| paragraph.contains(":\n  "));
        if !paragraphs.is_empty() {
            roff.control("SH", ["NOTES"]);
        }
        for (at, paragraph) in paragraphs.into_iter().enumerate() {
            if at > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(paragraph)]);
        }
        for table in tables {
            let (heading, rows) = table.split_once(":\n").unwrap_or((table, ""));
            roff.control("SH", [heading.to_uppercase().as_str()]);
            for row in rows.lines() {
                let (code, meaning) = row.trim().split_once("  ").unwrap_or((row.trim(), ""));
                roff.control("TP", []).text([bold(code)]).text([roman(meaning.trim())]);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::{all, write};

        #[test]
        fn every_command_has_a_page_with_its_options_and_exit_status() {
            let pages = all();
            let names: Vec<&str> = pages.iter().map(|page| &*page.name).collect();
            assert_eq!(names[..3], ["listentop.1", "listentop-top.1", "listentop-report.1"]);
            let page = |name: &str| &pages.iter().find(|page| page.name == name).expect("there is one").text;
            let main = page("listentop.1");
            assert!(main.contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\nsuccess\n"), "{main}");
            assert!(main.contains("listentop\\-report(1)") && main.contains("SH NOTES"), "{main}");
            // Options that hold for all commands are on each page; what is hidden is on none.
            for page in &pages {
                assert!(page.text.contains("\\-\\-max\\-listeners"), "{}", page.name);
                assert!(!page.text.contains("empty\\-programs"), "{}", page.name);
            }
            assert!(page("listentop-record.1").contains("\\-\\-freeze\\-on"));
        }

        #[test]
        fn pages_are_written_and_links_are_not_followed() {
            let dir = tempfile::tempdir().unwrap();
            let pages = all();
            let folder = dir.path().join("man/man1");
            write(&pages, &folder).unwrap();
            write(&pages, &folder).unwrap();
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), pages.len());

            let mine = dir.path().join("mine");
            std::fs::write(&mine, "kept").unwrap();
            std::fs::remove_file(folder.join("listentop.1")).unwrap();
            std::os::unix::fs::symlink(&mine, folder.join("listentop.1")).unwrap();
            let error = format!("{:#}", write(&pages, &folder).unwrap_err());
            assert!(error.contains("man1/listentop.1: "), "{error}");
            assert_eq!(std::fs::read_to_string(mine).unwrap(), "kept");
        }
    }
}
