//! Servers and clients that speak real protocols, with the libraries that real programs use: HTTP/1.1 and HTTP/2
//! (hyper), WebSocket (tungstenite), gRPC (tonic), TLS (rustls), push to subscribers, sessions, and proxies.
//!
//! Two programs: `proto-server` and `proto-load`. They count their own system calls that move bytes, so listentop's
//! counts can be compared with theirs.

mod control;
pub mod counted;
pub mod echo;
mod io;
pub mod load;
mod orders;
mod protocol;
pub mod proxy;
pub mod push;
mod ring;
pub mod server;
pub mod sessions;
pub mod summary;
mod tls;
