//! Lines of JSON on a Unix stream socket with an abstract name.

use crate::{FromLab, LONGEST, NAME_VARIABLE, Role, ToLab, VARIABLE, VERSION};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

/// How long the other side may take to take a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listens on an abstract name in the calling thread's network namespace. The name is gone with the socket.
///
/// # Errors
/// The name is taken.
pub fn listen(name: &str) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// A connection to a lab.
#[derive(Debug)]
pub struct Connection {
    /// Receives.
    pub reader: Reader,
    /// Sends.
    pub writer: Writer,
}

impl Connection {
    /// Connects to the lab that the environment names, if it names one, and introduces itself.
    ///
    /// # Errors
    /// There is no such lab, or it refuses.
    pub fn of_environment(role: Role) -> io::Result<Option<Self>> {
        let text = |variable| std::env::var_os(variable).and_then(|text| text.into_string().ok()).unwrap_or_default();
        match text(VARIABLE).as_str() {
            "" => Ok(None),
            socket => Self::to(socket, role, &text(NAME_VARIABLE)).map(Some),
        }
    }

    /// Connects to the lab with this socket and introduces itself.
    ///
    /// # Errors
    /// There is no such lab, or it refuses.
    pub fn to(socket: &str, role: Role, name: &str) -> io::Result<Self> {
        let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(socket)?)?;
        let mut connection = Self::of(stream)?;
        connection.writer.send(&ToLab::Hello { version: VERSION, role, name: name.to_owned() })?;
        connection.reader.stream.get_ref().set_read_timeout(Some(5 * PATIENCE))?;
        let answer = connection.reader.receive::<FromLab>()?;
        connection.reader.stream.get_ref().set_read_timeout(None)?;
        match answer {
            Some(FromLab::Welcome { .. }) => Ok(connection),
            Some(FromLab::Refused { reason }) => Err(io::Error::new(ErrorKind::ConnectionRefused, reason)),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "the lab does not answer a hello")),
        }
    }

    /// A connection on this socket.
    ///
    /// # Errors
    /// The socket cannot be used twice.
    pub fn of(stream: UnixStream) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        let writer = Writer(stream.try_clone()?);
        Ok(Self { reader: Reader { stream: BufReader::new(stream) }, writer })
    }
}

/// The receiving side.
#[derive(Debug)]
pub struct Reader {
    stream: BufReader<UnixStream>,
}

impl Reader {
    /// Waits for the next message. `None`: the other side is gone.
    ///
    /// # Errors
    /// The line is longer than [`LONGEST`] or no such message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(line) = take_line(&mut self.stream, LONGEST)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&line)?))
    }

    /// Whether a part of another message was received already.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.stream.buffer().is_empty()
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

/// The sending side.
#[derive(Debug)]
pub struct Writer(UnixStream);

impl Writer {
    /// Sends a message. The other side has a second to take it.
    ///
    /// # Errors
    /// The other side is gone or takes nothing.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// The same for another thread.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn another(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Ends the connection for both sides.
    pub fn close(&self) {
        // It fails only if the other side has ended it.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// The next line without its end, at most `longest` bytes. `None` at the end of the stream.
///
/// # Errors
/// The line is longer, or the stream fails.
pub fn take_line(stream: &mut impl BufRead, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(longest as u64 + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > longest {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a line is longer than {longest} bytes")));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Act;
    use std::thread;

    #[test]
    fn a_line_has_an_end_and_a_limit() {
        let mut stream = &b"one\n\ntwo"[..];
        let mut next = || take_line(&mut stream, 5).unwrap();
        assert_eq!(next(), Some(b"one".to_vec()));
        assert_eq!(next(), Some(Vec::new()));
        assert_eq!(next(), Some(b"two".to_vec()));
        assert_eq!(next(), None);
        assert_eq!(take_line(&mut &b"12345\n"[..], 5).unwrap(), Some(b"12345".to_vec()));
        assert_eq!(take_line(&mut &b"123456\n"[..], 5).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn a_program_introduces_itself_and_is_welcome_or_not() {
        let name = format!("lab-control-test-{}", std::process::id());
        let listener = listen(&name).unwrap();
        assert_eq!(listen(&name).unwrap_err().kind(), ErrorKind::AddrInUse);
        let lab = thread::spawn(move || {
            let answers = [
                FromLab::Welcome { version: VERSION, lesson: "x".to_owned() },
                FromLab::Refused { reason: "no room".to_owned() },
            ];
            let mut acts = Vec::new();
            for answer in answers {
                let mut one = Connection::of(listener.accept().unwrap().0).unwrap();
                let hello = one.reader.receive::<ToLab>().unwrap().unwrap();
                assert_eq!(hello, ToLab::Hello { version: VERSION, role: Role::Observer, name: String::new() });
                one.writer.send(&answer).unwrap();
                acts.extend(one.reader.receive::<ToLab>().unwrap());
            }
            acts
        });
        let mut welcome = Connection::to(&name, Role::Observer, "").unwrap();
        welcome.writer.send(&ToLab::Act(Act::NextStep)).unwrap();
        drop(welcome);
        let refused = Connection::to(&name, Role::Observer, "").unwrap_err();
        assert_eq!(refused.to_string(), "no room");
        assert_eq!(lab.join().unwrap(), [ToLab::Act(Act::NextStep)]);
        assert!(Connection::to(&name, Role::Observer, "").is_err(), "the name is gone with the socket");
    }
}
