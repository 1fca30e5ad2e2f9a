//! What packages say of the program.

/// Name of the program and of its packages.
pub(crate) const NAME: &str = "listentop";
/// In one line.
pub(crate) const SUMMARY: &str = "top(1) for listening sockets";
/// In a paragraph, in lines of at most 78 columns.
pub(crate) const DESCRIPTION: &str = "\
listentop shows, live and for each listening socket, how long connections and
bytes wait for a server, what the kernel refused, and why. It measures with
probes in the kernel (eBPF), in every network namespace and container, and
changes nothing. It has a dashboard, reports, a flight recorder, and an
exporter for Prometheus, whose services are installed and not enabled.";
/// The licences, as SPDX writes them.
pub(crate) const LICENCE: &str = "MIT OR Apache-2.0";
/// Revision of a package of one version.
pub(crate) const REVISION: &str = "1";

/// Names of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// Rust's, and RPM's.
    pub(crate) name: &'static str,
    /// Debian's.
    pub(crate) debian: &'static str,
    /// That of executable files (`e_machine`, elf.h).
    pub(crate) elf: u16,
}

/// Those that packages are made for.
pub(crate) const ARCHITECTURES: [Architecture; 2] = [
    Architecture { name: "x86_64", debian: "amd64", elf: 62 },
    Architecture { name: "aarch64", debian: "arm64", elf: 183 },
];

/// The architecture that an executable file is for, if packages are made for it.
pub(crate) fn of_program(bytes: &[u8]) -> Option<Architecture> {
    // e_ident has 16 bytes, and e_type two. Both architectures have the lower byte first.
    let machine = bytes.strip_prefix(b"\x7fELF").and_then(|rest| rest.get(14..16))?;
    let machine = u16::from_le_bytes([machine[0], machine[1]]);
    ARCHITECTURES.into_iter().find(|architecture| architecture.elf == machine)
}

#[cfg(test)]
mod tests {
    use super::of_program;

    #[test]
    fn a_program_says_what_it_is_for() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(of_program(&own).map(|architecture| architecture.name), Some(std::env::consts::ARCH));
        assert_eq!(of_program(b"#!/bin/sh\n"), None);
        assert_eq!(of_program(b"\x7fELF"), None);
    }
}
