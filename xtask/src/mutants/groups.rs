//! The code that is mutated, and the share of its mutants that the tests must catch.

/// Code with a common bound.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its name on the command line and in the table.
    pub(crate) name: &'static str,
    /// The package.
    pub(crate) package: &'static str,
    /// Globs of its files; none means all of the package.
    pub(crate) files: &'static [&'static str],
    /// Globs of files that it leaves out, beyond those in `.cargo/mutants.toml`.
    pub(crate) excluded: &'static [&'static str],
    /// Packages whose tests run, when that is not only the package itself.
    pub(crate) test_packages: &'static [&'static str],
    /// Test targets that run besides the unit tests.
    pub(crate) test_targets: &'static [&'static str],
    /// At least this share of the viable mutants must be caught.
    pub(crate) bound: f64,
}

/// The snapshot tests of the dashboard.
const SNAPSHOTS: &str = "dashboard_snapshots";

/// All groups.
pub(crate) const GROUPS: [Group; 4] = [
    Group {
        name: "model",
        package: "listentop-model",
        files: &[],
        excluded: &["userspace/model/src/words/**"],
        test_packages: &[],
        test_targets: &[],
        bound: 0.95,
    },
    Group {
        name: "words",
        package: "listentop-model",
        files: &["userspace/model/src/words/**"],
        excluded: &[],
        // Report, doctor and dashboard show them: their tests and snapshots count too.
        test_packages: &["listentop-model", "listentop"],
        test_targets: &[SNAPSHOTS],
        bound: 0.90,
    },
    Group {
        name: "report",
        package: "listentop",
        files: &["userspace/src/report/**"],
        excluded: &[],
        test_packages: &[],
        test_targets: &[SNAPSHOTS],
        bound: 0.90,
    },
    Group {
        name: "dashboard",
        package: "listentop",
        files: &["userspace/src/dashboard/*.rs", "userspace/src/dashboard/app/**", "userspace/src/dashboard/state/**"],
        // State only: these read and drive the terminal, and colour what views and widgets draw. Tests on a
        // pseudo-terminal cover the terminal; pictures have no colours.
        excluded: &[
            "userspace/src/dashboard/input.rs",
            "userspace/src/dashboard/run.rs",
            "userspace/src/dashboard/terminal.rs",
            "userspace/src/dashboard/theme.rs",
        ],
        test_packages: &[],
        test_targets: &[SNAPSHOTS],
        bound: 0.90,
    },
];

/// The names of all groups.
pub(crate) fn names() -> [&'static str; GROUPS.len()] {
    GROUPS.map(|group| group.name)
}
