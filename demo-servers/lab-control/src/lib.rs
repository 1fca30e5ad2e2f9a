//! How a lab, its dashboard and its programs speak to each other.
//!
//! Each message is one line of JSON with a `type`, on a Unix stream socket with an abstract name. The environment
//! variable [`VARIABLE`] has the name. There is one socket in the lab's network namespace and one, with the same name,
//! outside. docs/lab-control.md describes the messages for those who write their own programs.

mod connection;
mod message;

pub use connection::{Connection, Reader, Writer, listen, take_line};
pub use message::{Act, Client, Expected, FromLab, Mark, Order, Role, State, Tick, ToLab};

/// Version of the messages. A lab refuses programs of another one.
pub const VERSION: u32 = 1;

/// The environment variable that names the socket of the lab in which a program runs.
pub const VARIABLE: &str = "LISTENTOP_LAB";

/// The environment variable with the name that a program has in the lesson.
pub const NAME_VARIABLE: &str = "LISTENTOP_LAB_NAME";

/// The longest message in bytes. Reports of some hundred listeners fit.
pub const LONGEST: usize = 4 << 20;
