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
}

/// Those that packages are made for.
pub(crate) const ARCHITECTURES: [Architecture; 2] =
    [Architecture { name: "x86_64", debian: "amd64" }, Architecture { name: "aarch64", debian: "arm64" }];
