//! The caption's lines on clients: what they got, in as many words as there is room for.

use lab_control::{Client, State as Lesson, Tick};
use listentop_model::words;

use super::TALL;
use crate::dashboard::state::State;

/// The loads of the selected server, or of the first one that has any.
pub(in crate::dashboard) fn loads<'a>(lesson: &'a Lesson, state: &State) -> Vec<&'a Client> {
    let port = state.selected_item().map(|item| item.figures().port);
    let of = |port| lesson.clients.iter().filter(|client| client.port == port).collect::<Vec<_>>();
    let clients = port.map(of).unwrap_or_default();
    if clients.is_empty() { lesson.clients.first().map(|first| of(first.port)).unwrap_or_default() } else { clients }
}

/// What the clients of the selected server got: one line for all of its loads; where there is room, one for each, and
/// the last half minute over the depth of the server's queue, on one time axis.
pub(super) fn lines(lesson: &Lesson, state: &State, room: usize) -> Vec<String> {
    let clients = loads(lesson, state);
    let tall = state.size.1 >= TALL;
    let mut lines = match &clients[..] {
        [] => return Vec::new(),
        [client] => vec![of_client(None, client, room)],
        several if tall => several.iter().map(|client| of_client(Some(&client.name), client, room)).collect(),
        several => vec![of_several(several, room)],
    };
    if tall {
        let row = |label: &str, values: &[u64], unit: &str| {
            let most = values.iter().copied().max().unwrap_or(0);
            format!("{label:<20} {} at most {most}{unit}", bars(values, most))
        };
        lines.push(row("retries, failures", &sums(&clients, &|tick| tick.trouble), " in half a second"));
        let depths: Vec<u64> = moments(&clients).iter().map(|tick| tick.depth).collect();
        lines.push(row("accept queue", &depths, " connections"));
    }
    lines
}

/// The moments of the load that began first. The others have the last of them.
pub(in crate::dashboard) fn moments<'a>(clients: &[&'a Client]) -> &'a [Tick] {
    clients.iter().map(|client| &client.ticks[..]).max_by_key(|ticks| ticks.len()).unwrap_or_default()
}

/// The sums over loads at each of these moments.
pub(in crate::dashboard) fn sums(clients: &[&Client], of: &dyn Fn(&Tick) -> u64) -> Vec<u64> {
    let mut sums = vec![0; moments(clients).len()];
    for client in clients {
        for (sum, tick) in sums.iter_mut().rev().zip(client.ticks.iter().rev()) {
            *sum += of(tick);
        }
    }
    sums
}

/// What the clients of several loads got, in one line.
fn of_several(clients: &[&Client], room: usize) -> String {
    let joined = |of: &dyn Fn(&Client) -> String| {
        let parts: Vec<String> = clients.iter().map(|client| of(client)).collect();
        words::clean(&parts.join("; "))
    };
    let served = |client: &Client| {
        if client.served == 0 && client.answers > 0 {
            format!("{} answers", words::grouped(client.answers))
        } else {
            format!("{}/{} served", words::grouped(client.served), words::grouped(client.due))
        }
    };
    let lines = [
        joined(&|client| {
            let (p50, p99) = (time(client.p50_ms), time(client.p99_ms));
            format!("{}: {}, answer p50 {p50} p99 {p99}{}", client.name, served(client), failed(client))
        }),
        joined(&|client| format!("{}: {}, p50 {}{}", client.name, served(client), time(client.p50_ms), failed(client))),
        joined(&|client| format!("{}: {}, p50 {}", client.name, served(client), time(client.p50_ms))),
        joined(&|client| format!("{}: {}", client.name, served(client))),
    ];
    let fits = lines.iter().find(|line| words::width(line) <= room).unwrap_or(&lines[lines.len() - 1]);
    words::fit(fits, room)
}

fn time(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| words::duration((ms * 1000.0) as u64))
}

fn failed(client: &Client) -> String {
    let kinds = client.failed.iter().map(|(kind, count)| format!(", {kind} {}", words::grouped(*count)));
    kinds.collect()
}

/// What the clients of one load got, in a line. Where that has no room, the line says less, but cuts nothing. It names
/// the load if there are others.
pub(super) fn of_client(name: Option<&str>, client: &Client, room: usize) -> String {
    let (long, short) = name.map_or(("clients: ".to_owned(), String::new()), |name| {
        let named = format!("{name}: ");
        (named.clone(), named)
    });
    let (due, served) = (words::grouped(client.due), words::grouped(client.served));
    // Subscribers are served as long as they stay.
    let [of, brief] = if client.served == 0 && client.answers > 0 {
        let of = format!("{due} connected, {} answers", words::grouped(client.answers));
        [of.clone(), of]
    } else {
        [format!("{served} of {due} served"), format!("{served}/{due} served")]
    };
    let times = format!("p50 {} p99 {}", time(client.p50_ms), time(client.p99_ms));
    let again = (client.syn_again > 0).then(|| format!(", SYN again {}", words::grouped(client.syn_again)));
    let again = again.unwrap_or_default();
    let twice = if again.is_empty() { String::new() } else { format!(", twice {}", words::grouped(client.syn_twice)) };
    let failed = failed(client);
    let lines = [
        format!("{long}{of}, first answer {times}{again}{twice}{failed}"),
        format!("{long}{of}, answer {times}{again}{twice}{failed}"),
        format!("{short}{brief}, answer {times}{again}{twice}{failed}"),
        format!("{short}{of}, answer {times}{again}{failed}"),
        format!("{short}{of}{again}{failed}"),
    ];
    let lines = lines.map(|line| words::clean(&line));
    let fits = lines.iter().find(|line| words::width(line) <= room).unwrap_or(&lines[lines.len() - 1]);
    words::fit(fits, room)
}

/// A bar for each value.
fn bars(values: &[u64], most: u64) -> String {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |value: &u64| EIGHTHS[(value * 8).div_ceil(most.max(1)).min(8) as usize];
    values.iter().map(bar).collect()
}
