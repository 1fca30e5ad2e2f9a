//! The lab's control socket: who is connected, and what they send.

use super::crew::Event;
use super::namespace::Namespace;
use anyhow::Context;
use lab_control::{Connection, FromLab, Role, State, ToLab, VERSION, Writer};
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};
use nix::unistd::getuid;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

/// The number of the next connection. One lesson's may be reported as gone when the next lesson runs.
static NUMBERS: AtomicUsize = AtomicUsize::new(0);

/// The most connections at a time: a lesson's programs, a dashboard, and some of one's own.
const MOST: usize = 128;

/// What comes from a connection.
#[derive(Debug)]
pub(super) enum Incoming {
    /// It has introduced itself.
    Hello(Role, String, Writer),
    /// A message.
    Message(ToLab),
    /// It is gone.
    Gone,
}

/// One that is connected.
#[derive(Debug)]
struct Client {
    role: Role,
    name: String,
    writer: Writer,
}

/// All that are connected.
#[derive(Debug)]
pub(super) struct Hub {
    /// The name of the socket.
    pub(super) name: String,
    lesson: &'static str,
    clients: BTreeMap<usize, Client>,
    orders: u64,
    doors: Vec<Door>,
}

/// A listening socket, and the thread that accepts from it.
#[derive(Debug)]
struct Door {
    listener: Arc<UnixListener>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Door {
    fn drop(&mut self) {
        // The name must be free for the next lesson.
        self.ended.store(true, Ordering::Relaxed);
        // It fails only if the socket does not listen, and then nothing waits for it.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Hub {
    /// Listens under a name of its own, outside and in the lab's namespace. What comes becomes an event.
    ///
    /// # Errors
    /// The name is taken, or no thread can be started.
    pub(super) fn open(
        lesson: &'static str,
        namespace: &Namespace,
        sender: &SyncSender<Event>,
    ) -> anyhow::Result<Self> {
        let name = format!("listentop-lab-{}", std::process::id());
        let outside = lab_control::listen(&name).context("cannot open the lab's control socket")?;
        let own = namespace.another()?;
        let wanted = name.clone();
        let inside = std::thread::scope(|scope| {
            let listen = move || {
                nix::sched::setns(&own, nix::sched::CloneFlags::CLONE_NEWNET)?;
                lab_control::listen(&wanted)
            };
            let thread = std::thread::Builder::new().spawn_scoped(scope, listen)?;
            thread.join().map_err(|_| io::Error::other("a thread panicked"))?
        });
        let inside = inside.context("cannot open the lab's control socket in its namespace")?;
        let open = Arc::new(AtomicUsize::new(0));
        let mut doors = Vec::new();
        for listener in [outside, inside].map(Arc::new) {
            let (sender, open) = (sender.clone(), Arc::clone(&open));
            let ended = Arc::<AtomicBool>::default();
            let (own, stop) = (Arc::clone(&listener), Arc::clone(&ended));
            let take = move || accept(&own, lesson, &sender, &open, &stop);
            let thread = std::thread::Builder::new().name("control".to_owned()).spawn(take).context("no thread")?;
            doors.push(Door { listener, ended, thread: Some(thread) });
        }
        Ok(Self { name, lesson, clients: BTreeMap::new(), orders: 0, doors })
    }

    /// Takes note of what came from a connection. Returns what the lab itself must answer, with the connection's
    /// number.
    pub(super) fn receive(&mut self, number: usize, incoming: Incoming) -> Option<ToLab> {
        match incoming {
            Incoming::Hello(role, name, writer) => {
                self.clients.insert(number, Client { role, name, writer });
                let welcome = FromLab::Welcome { version: VERSION, lesson: self.lesson.to_owned() };
                self.send(number, &welcome);
                None
            }
            Incoming::Message(message) => Some(message),
            Incoming::Gone => {
                self.clients.remove(&number);
                None
            }
        }
    }

    /// Sends a message to one connection, and ends the connection if it does not take it.
    pub(super) fn send(&mut self, number: usize, message: &FromLab) {
        if let Some(client) = self.clients.get_mut(&number)
            && client.writer.send(message).is_err()
        {
            client.writer.close();
            self.clients.remove(&number);
        }
    }

    /// Sends the state to all that are no programs.
    pub(super) fn tell(&mut self, state: &State) {
        let watching: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| matches!(client.role, Role::Listentop | Role::Observer))
            .map(|(number, _)| *number)
            .collect();
        let message = FromLab::State(Box::new(state.clone()));
        for number in watching {
            self.send(number, &message);
        }
    }

    /// Asks listentop for its report. Returns the number of the request; `None` if no listentop is connected.
    pub(super) fn ask_report(&mut self) -> Option<u64> {
        let (listentop, _) = self.clients.iter().find(|(_, client)| client.role == Role::Listentop)?;
        let listentop = *listentop;
        self.orders += 1;
        self.send(listentop, &FromLab::Report { number: self.orders });
        self.clients.contains_key(&listentop).then_some(self.orders)
    }

    /// Sends an order to the server or load of this name. Returns its number; `None` if it is not connected.
    pub(super) fn order(&mut self, role: Role, name: &str, order: lab_control::Order) -> Option<u64> {
        let is_it = |client: &Client| client.role == role && client.name == name;
        let (program, _) = self.clients.iter().find(|(_, client)| is_it(client))?;
        let program = *program;
        self.orders += 1;
        self.send(program, &FromLab::Order { number: self.orders, order });
        self.clients.contains_key(&program).then_some(self.orders)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.doors.clear();
        for client in self.clients.values() {
            client.writer.close();
        }
    }
}

/// Accepts connections until the hub is dropped.
fn accept(
    listener: &UnixListener,
    lesson: &'static str,
    sender: &SyncSender<Event>,
    open: &Arc<AtomicUsize>,
    ended: &AtomicBool,
) {
    for stream in listener.incoming() {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else {
            // Such as no descriptor left: the next may have one.
            std::thread::sleep(std::time::Duration::from_millis(100));
            continue;
        };
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let Some(mut connection) = welcome(stream, open) else { continue };
        let (sender, open) = (sender.clone(), Arc::clone(open));
        open.fetch_add(1, Ordering::Relaxed);
        let serve = move || {
            serve(number, &mut connection, &sender);
            open.fetch_sub(1, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name("client".to_owned()).spawn(serve).is_err() {
            say_full(lesson);
        }
    }
}

fn say_full(lesson: &str) {
    crate::sys::say(format_args!("lab: {lesson}: no thread for another connection to the control socket"));
}

/// A connection, unless it is a stranger's or one too many: abstract names have no owner and no permissions.
fn welcome(stream: UnixStream, open: &AtomicUsize) -> Option<Connection> {
    let peer = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
    let reason = if peer.uid() != getuid().as_raw() && peer.uid() != 0 {
        "this lab belongs to another user"
    } else if open.load(Ordering::Relaxed) >= MOST {
        "too many connections"
    } else {
        return Connection::of(stream).ok();
    };
    let mut connection = Connection::of(stream).ok()?;
    // If it is gone, it need not know.
    let _ = connection.writer.send(&FromLab::Refused { reason: reason.to_owned() });
    None
}

/// Passes on what a connection sends, until it is gone.
fn serve(number: usize, connection: &mut Connection, sender: &SyncSender<Event>) {
    let mut known = false;
    let reason = loop {
        let message = match connection.reader.receive::<ToLab>() {
            Ok(Some(message)) => message,
            Ok(None) => break None,
            Err(error) => break Some(format!("no message of version {VERSION}: {error}")),
        };
        let incoming = match message {
            ToLab::Hello { version, .. } if version != VERSION => {
                break Some(format!("the lab speaks version {VERSION}, not {version}"));
            }
            ToLab::Hello { role, name, .. } if !known => {
                known = true;
                let Ok(writer) = connection.writer.another() else { break None };
                Incoming::Hello(role, name, writer)
            }
            _ if !known => break Some("the first message must be a hello".to_owned()),
            message => Incoming::Message(message),
        };
        if sender.send(Event::Control(number, incoming)).is_err() {
            return;
        }
    };
    if let Some(reason) = reason {
        // If it is gone, it need not know.
        let _ = connection.writer.send(&FromLab::Refused { reason });
    }
    connection.writer.close();
    if known {
        // The lab has ended if nobody receives it.
        let _ = sender.send(Event::Control(number, Incoming::Gone));
    }
}
