//! Names of things: addresses, processes, patterns, severities.

use std::net::IpAddr;

use super::{
    prose::grouped,
    text::{clean, fit, width},
};
use crate::{
    device::Device,
    model::{ListenerModel, Model, Severity, ThreadModel},
};

/// Address and port as they are written everywhere: `[::]:80`; a dual-stack or all-addresses socket is `*:80`.
///
/// `0.0.0.0` stays as it is: it accepts IPv4 only, which `*` would hide. A device comes behind the address, as ss(8)
/// writes it: `127.0.0.1%lo:80`, `[fe80::1]%eth0:80`.
#[must_use]
pub fn endpoint(address: IpAddr, port: u16, v6only: bool, device: Option<&Device>) -> String {
    let (mark, device) = device.map_or(("", ""), |device| ("%", device.name()));
    match address {
        IpAddr::V4(a) => format!("{a}{mark}{device}:{port}"),
        IpAddr::V6(a) if a.is_unspecified() && !v6only => format!("*{mark}{device}:{port}"),
        IpAddr::V6(a) => format!("[{a}]{mark}{device}:{port}"),
    }
}

/// Columns that [`endpoint`] takes, without making the text: a refresh measures thousands.
#[must_use]
pub fn endpoint_width(address: IpAddr, port: u16, v6only: bool, device: Option<&Device>) -> usize {
    let digits = |n: u16| n.checked_ilog10().unwrap_or(0) as usize + 1;
    // A device's name is ASCII.
    let behind = device.map_or(0, |device| 1 + device.name().len());
    let address = match address {
        IpAddr::V4(a) => a.octets().into_iter().map(|byte| digits(byte.into())).sum::<usize>() + 4 + digits(port),
        IpAddr::V6(_) => endpoint(address, port, v6only, None).len(),
    };
    address + behind
}

/// [`endpoint`] of a listener.
#[must_use]
pub fn listener_endpoint(listener: &ListenerModel) -> String {
    endpoint(listener.address, listener.port, listener.v6only, listener.device.as_ref())
}

/// [`listener_endpoint`]; with the number of the shard, if it is one of several: `10.0.0.1:8443 shard 4`.
#[must_use]
pub fn numbered_endpoint(model: &Model, listener: &ListenerModel) -> String {
    let group = listener.group.and_then(|id| model.groups.iter().find(|group| group.id == id));
    let number = group.and_then(|group| group.shards.iter().position(|shard| *shard == listener.id));
    let shard = number.map_or(String::new(), |at| format!(" shard {}", at + 1));
    listener_endpoint(listener) + &shard
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

/// `comm[pid]`, and the number of further processes that hold the listener; `?` if no holder is visible.
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

/// [`process`] in at most `columns`: the name alone where both do not fit, because it says more than the id.
#[must_use]
pub fn process_within(listener: &ListenerModel, columns: usize) -> String {
    let whole = process(listener);
    match &listener.process {
        Some(process) if width(&whole) > columns => fit(&clean(&process.comm), columns),
        _ => fit(&whole, columns),
    }
}

/// Name of a thread; of a sum, how many ended threads it is, as short as a name: `(20,000 ended)`.
#[must_use]
pub fn thread_name(thread: &ThreadModel) -> String {
    match &thread.summed {
        Some(summed) => format!("({} ended)", grouped(summed.threads)),
        None => clean(&thread.comm),
    }
}

/// Name of a listener's namespace, or its inode.
#[must_use]
pub fn netns(listener: &ListenerModel) -> String {
    listener.netns_name.as_deref().map_or_else(|| listener.netns.to_string(), clean)
}

/// [`netns`] in at most `columns`: of a name the beginning, of a number the end, in which numbers differ.
#[must_use]
pub fn netns_within(listener: &ListenerModel, columns: usize) -> String {
    let whole = netns(listener);
    if listener.netns_name.is_some() || width(&whole) <= columns {
        return fit(&whole, columns);
    }
    let digits = whole.len() - columns.saturating_sub(1);
    format!("…{}", &whole[digits..])
}

/// Where its process runs: `pod/container`, or the container, each by name or else by id; a container within another is
/// `outer/inner`. Empty for a process in none.
#[must_use]
pub fn container(listener: &ListenerModel) -> String {
    let Some(process) = &listener.process else { return String::new() };
    let Some(container) = process.in_container() else { return String::new() };
    match process.pod_name.as_deref().or(process.container_outer.as_deref()) {
        Some(around) => format!("{}/{}", clean(around), clean(container)),
        None => clean(container),
    }
}

/// [`container`], with the Kubernetes namespace before it: `shop/web-0/nginx`.
#[must_use]
pub fn container_in_full(listener: &ListenerModel) -> String {
    let namespace = listener.process.as_ref().and_then(|process| process.pod_namespace.as_deref());
    match (namespace, container(listener)) {
        (Some(namespace), container) if !container.is_empty() => format!("{}/{container}", clean(namespace)),
        (_, container) => container,
    }
}

/// The systemd service that its process runs in; of a user's: `web.service of user 1000`. Empty for a process in none.
#[must_use]
pub fn service(listener: &ListenerModel) -> String {
    let process = listener.process.as_ref();
    let Some((process, service)) = process.and_then(|process| Some((process, process.service.as_deref()?))) else {
        return String::new();
    };
    match process.service_uid {
        Some(uid) => format!("{} of user {uid}", clean(service)),
        None => clean(service),
    }
}

/// The symbol of a severity: colour alone carries no meaning.
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
    use crate::{fixtures, sample::Process, tracker::Tracker};

    fn listener() -> ListenerModel {
        let samples = fixtures::quiet();
        let mut listener = Tracker::new(&samples[0]).model().listeners[0].clone();
        let process = listener.process.as_mut().expect("it has one");
        (process.comm, process.pid) = ("nginx\u{1b}".to_owned(), 123);
        listener.holders = vec![123];
        listener
    }

    #[test]
    fn widths_are_those_of_the_text() {
        for address in ["0.0.0.0", "127.0.0.1", "192.168.100.99", "::", "::1", "2001:db8::1"] {
            for (port, v6only) in [(0, false), (9, true), (80, false), (65_535, true)] {
                let address = address.parse().unwrap();
                for device in [None, Some(Device::new(2, b"eth0"))] {
                    let text = endpoint(address, port, v6only, device.as_ref());
                    assert_eq!(endpoint_width(address, port, v6only, device.as_ref()), text.len(), "{text}");
                }
            }
        }
    }

    #[test]
    fn endpoints() {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert_eq!(endpoint("0.0.0.0".parse().unwrap(), 80, false, None), "0.0.0.0:80");
        assert_eq!(endpoint(any, 80, false, None), "*:80");
        assert_eq!(endpoint(any, 80, true, None), "[::]:80");
        assert_eq!(endpoint("fe80::1".parse().unwrap(), 80, false, None), "[fe80::1]:80");
        let device = Some(Device::new(2, b"eth0"));
        assert_eq!(endpoint("127.0.0.1".parse().unwrap(), 80, false, device.as_ref()), "127.0.0.1%eth0:80");
        assert_eq!(endpoint("fe80::1".parse().unwrap(), 80, false, device.as_ref()), "[fe80::1]%eth0:80");
        assert_eq!(endpoint(any, 80, false, device.as_ref()), "*%eth0:80");
    }

    #[test]
    fn families() {
        let mut listener = listener();
        for (address, v6only, endpoint, words) in [
            ("0.0.0.0", false, "0.0.0.0:80", "IPv4"),
            ("::", false, "*:80", "IPv4 and IPv6"),
            ("::", true, "[::]:80", "IPv6"),
            ("::1", false, "[::1]:80", "IPv6"),
        ] {
            (listener.address, listener.port, listener.v6only) = (address.parse().unwrap(), 80, v6only);
            assert_eq!((listener_endpoint(&listener), family(&listener)), (endpoint.to_owned(), words));
        }
    }

    #[test]
    fn processes_have_an_id_and_the_number_of_other_holders() {
        let mut listener = listener();
        assert_eq!(process(&listener), "nginx?[123]");
        listener.holders = vec![123, 124, 125];
        assert_eq!(process(&listener), "nginx?[123]+2");
        assert_eq!(process_within(&listener, 13), "nginx?[123]+2");
        assert_eq!(process_within(&listener, 12), "nginx?");
        assert_eq!(process_within(&listener, 4), "ngi…");
        listener.process = None;
        assert_eq!((process(&listener), process_within(&listener, 9)), ("?".to_owned(), "?".to_owned()));
    }

    #[test]
    fn namespaces_have_a_name_or_an_inode() {
        let mut listener = listener();
        (listener.netns, listener.netns_name) = (4_026_531_840, None);
        assert_eq!(netns(&listener), "4026531840");
        assert_eq!(
            [12, 10, 8].map(|columns| netns_within(&listener, columns)),
            ["4026531840", "4026531840", "…6531840"]
        );
        listener.netns_name = Some("blue\n".to_owned());
        assert_eq!(netns(&listener), "blue?");
        assert_eq!(netns_within(&listener, 4), "blu…");
    }

    #[test]
    fn containers_are_named_by_what_tells_them_apart() {
        let mut listener = listener();
        assert_eq!((container(&listener), service(&listener)), (String::new(), String::new()));
        let process = |listener: &mut ListenerModel, change: fn(&mut Process)| {
            change(listener.process.as_mut().expect("it has one"));
        };
        process(&mut listener, |process| {
            (process.service, process.container) = (Some("a.service".to_owned()), Some("a.service".to_owned()));
        });
        assert_eq!((container(&listener), service(&listener)), (String::new(), "a.service".to_owned()));
        process(&mut listener, |process| process.service_uid = Some(1000));
        assert_eq!(service(&listener), "a.service of user 1000");
        process(&mut listener, |process| process.container = Some("0123456789ab".to_owned()));
        assert_eq!(container(&listener), "0123456789ab");
        process(&mut listener, |process| process.container_outer = Some("dind".to_owned()));
        assert_eq!(container(&listener), "dind/0123456789ab");
        process(&mut listener, |process| {
            process.container_name = Some("nginx\u{1b}".to_owned());
            (process.pod_name, process.pod_namespace) = (Some("web-0".to_owned()), Some("shop".to_owned()));
        });
        assert_eq!(
            (container(&listener), container_in_full(&listener)),
            ("web-0/nginx?".to_owned(), "shop/web-0/nginx?".to_owned())
        );
        listener.process = None;
        assert_eq!((container_in_full(&listener), service(&listener)), (String::new(), String::new()));
    }

    #[test]
    fn severities_have_symbols() {
        assert_eq!([Severity::Info, Severity::Warning, Severity::Critical].map(severity_mark), ["i", "*", "!"]);
    }
}
