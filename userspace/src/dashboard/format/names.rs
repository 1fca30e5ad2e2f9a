//! Names of things: addresses, processes, patterns, severities.

use std::net::IpAddr;

use listentop_model::model::{ListenerModel, Severity};

use super::text::{clean, fit, width};

/// Address and port as they are written everywhere: `[::]:80`; a dual-stack or all-addresses socket is `*:80`.
///
/// `0.0.0.0` stays as it is: it takes IPv4 only, which `*` would hide.
#[must_use]
pub fn endpoint(address: IpAddr, port: u16, v6only: bool) -> String {
    match address {
        IpAddr::V4(a) => format!("{a}:{port}"),
        IpAddr::V6(a) if a.is_unspecified() && !v6only => format!("*:{port}"),
        IpAddr::V6(a) => format!("[{a}]:{port}"),
    }
}

/// Columns that [`endpoint`] takes; there may be thousands to be measured at each refresh.
#[must_use]
pub fn endpoint_width(address: IpAddr, port: u16, v6only: bool) -> usize {
    let digits = |n: u16| n.checked_ilog10().unwrap_or(0) as usize + 1;
    match address {
        IpAddr::V4(a) => a.octets().into_iter().map(|byte| digits(byte.into())).sum::<usize>() + 4 + digits(port),
        IpAddr::V6(_) => endpoint(address, port, v6only).len(),
    }
}

/// [`endpoint`] of a listener.
#[must_use]
pub fn listener_endpoint(listener: &ListenerModel) -> String {
    endpoint(listener.address, listener.port, listener.v6only)
}

/// IPv4, IPv6 or both.
#[must_use]
pub fn family(listener: &ListenerModel) -> &'static str {
    match listener.address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(a) if a.is_unspecified() && !listener.v6only => "IPv4 and IPv6",
        IpAddr::V6(_) => "IPv6",
    }
}

/// `comm[pid]`, with the number of further processes that hold the listener; `?` where no holder may be seen.
#[must_use]
pub fn process(listener: &ListenerModel) -> String {
    match &listener.process {
        None => "?".to_owned(),
        Some(p) if listener.holders.len() > 1 => {
            format!("{}[{}]+{}", clean(&p.comm), p.pid, listener.holders.len() - 1)
        }
        Some(p) => format!("{}[{}]", clean(&p.comm), p.pid),
    }
}

/// [`process`] in at most `columns`: without the id where both have no room, because the name says more.
#[must_use]
pub fn process_within(listener: &ListenerModel, columns: usize) -> String {
    let whole = process(listener);
    match &listener.process {
        Some(process) if width(&whole) > columns => fit(&clean(&process.comm), columns),
        _ => fit(&whole, columns),
    }
}

/// Name of a listener's namespace, or its inode.
#[must_use]
pub fn netns(listener: &ListenerModel) -> String {
    listener.netns_name.as_deref().map_or_else(|| listener.netns.to_string(), clean)
}

/// The sign of a finding: a symbol, so that it is told without colour.
#[must_use]
pub const fn severity_mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "i",
        Severity::Warning => "*",
        Severity::Critical => "!",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn widths_are_those_of_the_text() {
        for address in ["0.0.0.0", "127.0.0.1", "192.168.100.99", "::", "::1", "2001:db8::1"] {
            for (port, v6only) in [(0, false), (9, true), (80, false), (65_535, true)] {
                let address = address.parse().unwrap();
                let text = endpoint(address, port, v6only);
                assert_eq!(endpoint_width(address, port, v6only), text.len(), "{text}");
            }
        }
    }

    #[test]
    fn endpoints() {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert_eq!(endpoint("0.0.0.0".parse().unwrap(), 80, false), "0.0.0.0:80");
        assert_eq!(endpoint(any, 80, false), "*:80");
        assert_eq!(endpoint(any, 80, true), "[::]:80");
        assert_eq!(endpoint("fe80::1".parse().unwrap(), 80, false), "[fe80::1]:80");
    }
}
