//! What a running lesson can be asked to do, by itself, by key and through the control socket.

use super::crew::Kind;
use super::run::{Leave, Pending, Run};
use lab_control::{Act, Order, Role};

const COOKIES: &str = "net/ipv4/tcp_syncookies";

/// The shares of its own rate at which a load may go on, in percent.
const RATES: std::ops::RangeInclusive<u32> = 1..=1000;

impl Run<'_> {
    /// Begins to do what `client` wants; nobody: the lesson itself.
    ///
    /// # Errors
    /// Why it cannot be done, in one line.
    pub(super) fn act(&mut self, client: Option<usize>, act: &Act) -> Result<(), String> {
        match act {
            Act::Stall { server } => self.order_server(client, server.as_deref(), &Order::Stall, "stall"),
            Act::Release { server } => self.order_server(client, server.as_deref(), &Order::Release, "release"),
            Act::Backlog { server, backlog } => {
                let what = format!("backlog {backlog}");
                self.order_server(client, server.as_deref(), &Order::Backlog { backlog: *backlog }, &what)
            }
            Act::AddAcceptor { server } => {
                self.order_server(client, server.as_deref(), &Order::AddAcceptor, "one more acceptor")
            }
            Act::Rate { load, percent } => self.set_rate(client, load.as_deref(), *percent),
            Act::Cookies { value } => {
                if *value > 2 {
                    return Err("cookies are 0 (off), 1 (if the SYN queue is full) or 2 (always)".to_owned());
                }
                self.sampler.set(COOKIES, &value.to_string()).map_err(|error| format!("{error:#}"))?;
                self.state.cookies = *value;
                self.note(format!("SYN cookies {value}"), None, client.is_none());
                Ok(())
            }
            Act::NextStep => {
                if self.state.left.is_none() {
                    return Err("the last step is over".to_owned());
                }
                self.skip = true;
                self.note("next step".to_owned(), None, false);
                Ok(())
            }
            Act::Repeat => {
                self.leave = Some(Leave::Repeat);
                Ok(())
            }
            Act::Course => {
                self.leave = Some(Leave::Course);
                Ok(())
            }
        }
    }

    /// The server of this name or port, or the only one.
    fn server(&self, wanted: Option<&str>) -> Result<&'static str, String> {
        let servers = &self.plan.servers;
        let known = || servers.iter().map(|server| format!("{} ({})", server.name, server.port)).collect::<Vec<_>>();
        match (wanted, &servers[..]) {
            (None, [only]) => Ok(only.name),
            (None, _) => Err(format!("which server? {}", known().join(", "))),
            (Some(wanted), _) => {
                let is_it = |server: &&super::plan::Server| server.name == wanted || server.port.to_string() == wanted;
                // Of several that had a port in turn, the last one that was started.
                let running = |server: &&super::plan::Server| {
                    let mut members = self.crew.members.iter();
                    members.any(|member| {
                        member.kind == Kind::Server && member.name == server.name && member.status.is_none()
                    })
                };
                let mut found = servers.iter().filter(is_it).filter(running);
                let found =
                    found.next_back().ok_or_else(|| format!("no server {wanted} runs: {}", known().join(", ")))?;
                Ok(found.name)
            }
        }
    }

    fn order_server(
        &mut self,
        client: Option<usize>,
        wanted: Option<&str>,
        order: &Order,
        what: &str,
    ) -> Result<(), String> {
        let name = self.server(wanted)?;
        let port = self.plan.servers.iter().find(|server| server.name == name).map_or(0, |server| server.port);
        let number = self.hub.order(Role::Server, name, order.clone());
        let number = number.ok_or_else(|| format!("{name} takes no orders"))?;
        let what = format!("{what} {name}");
        self.orders.insert(number, Pending { client, what, of: Some((port, order.clone())) });
        Ok(())
    }

    /// A program has carried out an order.
    pub(super) fn done(&mut self, pending: Pending) {
        let Some((port, order)) = pending.of else { return };
        // It stays stalled whatever else it is ordered to do.
        if matches!(order, Order::Stall | Order::Release) {
            self.state.stalled.retain(|stalled| *stalled != port);
        }
        if order == Order::Stall {
            self.state.stalled.push(port);
        }
        self.note(pending.what, Some(port), pending.client.is_none());
    }

    fn set_rate(&mut self, client: Option<usize>, wanted: Option<&str>, percent: u32) -> Result<(), String> {
        if !RATES.contains(&percent) {
            return Err(format!("a rate is from {} to {} percent", RATES.start(), RATES.end()));
        }
        let loads = self.plan.loads.iter().map(|load| load.name);
        let loads: Vec<_> = loads.filter(|name| wanted.is_none_or(|wanted| wanted == *name)).collect();
        let mut ordered = false;
        for name in loads {
            if let Some(number) = self.hub.order(Role::Load, name, Order::Rate { percent }) {
                self.orders.insert(number, Pending { client, what: format!("rate of {name}"), of: None });
                ordered = true;
            }
        }
        if !ordered {
            let runs = self.crew.members.iter().any(|member| member.kind == Kind::Load && member.status.is_none());
            return Err(match wanted {
                Some(wanted) => format!("no load {wanted} runs"),
                // `wire` starts them in a namespace of their own, which the control socket is not in.
                None if runs => "the loads that run now are on hosts of their own, and take no orders".to_owned(),
                None => "no load runs now".to_owned(),
            });
        }
        self.state.rate = percent;
        self.note(format!("load at {percent} %"), None, client.is_none());
        Ok(())
    }
}
