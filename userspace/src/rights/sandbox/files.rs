//! Files, by Landlock (Linux 5.13 and later; landlock(7)).

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, path_beneath_rules,
};

use super::Allowed;

/// The latest version whose rights we know. An older kernel restricts what it knows.
const VERSION: ABI = ABI::V5;

/// What is read after the start: the kernel's own files, names of network namespaces, time zones, the names of hosts
/// and certificates of their authorities, and the libraries that look for these. No home, no /tmp, next to nothing of
/// /var.
const READ: [&str; 11] = [
    "/proc",
    "/sys",
    "/run",
    "/etc",
    "/dev",
    "/usr/share",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/var/lib/ca-certificates",
];

/// The terminal, and whatever standard output is.
const DEVICES: &str = "/dev";

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Everything but running programs, and making devices, sockets, FIFOs and symbolic links.
fn writing() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::MakeSym;
    AccessFs::from_all(VERSION) & !never
}

/// Leaves the calling thread, and threads that it starts, what is read after the start, and what is `allowed`.
///
/// # Errors
/// Why not, in words.
pub(super) fn confine(allowed: &Allowed) -> Result<(), String> {
    let read = [&READ.map(PathBuf::from), &allowed.reads[..]].concat();
    restrict(&read, &[&[PathBuf::from(DEVICES)], &allowed.writes[..]].concat())
}

/// Leaves the calling thread reading, and nothing else. It may be left without: where there is no Landlock.
pub(crate) fn read_only() {
    let _ = restrict(&[PathBuf::from("/"), PathBuf::from("/proc/1/root")], &[]);
}

fn restrict(read: &[PathBuf], write: &[PathBuf]) -> Result<(), String> {
    let made = || -> Result<RulesetStatus, RulesetError> {
        let rules = Ruleset::default().handle_access(AccessFs::from_all(VERSION))?.create()?;
        // What is not there cannot be read either.
        let rules = rules.add_rules(path_beneath_rules(read, reading()))?;
        Ok(rules.add_rules(path_beneath_rules(write, writing()))?.restrict_self()?.ruleset)
    };
    match made() {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Ok(()),
        Ok(RulesetStatus::NotEnforced) => {
            Err("this kernel has no Landlock: 5.13 or later has, with landlock in its lsm= list".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}
