//! Many listeners, in the bench's own process.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The port of all of them.
pub(crate) const PORT: u16 = 20_000;
/// Listeners per address: with one port for each of 10,000 listeners, the ports would reach the clients' range.
const PER_ADDRESS: usize = 200;
/// Threads that use the listeners, each an equal share.
const THREADS: usize = 8;

/// Opens so many listeners, a few hundred on each address.
///
/// # Errors
/// When a process may not have so many descriptors.
pub(crate) fn open(count: usize) -> Result<Vec<TcpListener>> {
    // Room for the other open files. Any user may raise the limit up to the hard limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    let wanted = count as u64 + 1_000;
    ensure!(
        hard >= wanted,
        "a process may have {hard} descriptors only, not {wanted}: raise its hard limit (ulimit -Hn)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit")?;
    let address = |n: usize| Ipv4Addr::new(127, 0, 1 + (n / PER_ADDRESS) as u8, 1 + (n % PER_ADDRESS) as u8);
    let open = |n| TcpListener::bind(SocketAddr::from((address(n), PORT))).context("a listener cannot be opened");
    (0..count).map(open).collect()
}

/// Lets each listener serve a connection. The threads that serve stay alive while `then` runs.
///
/// # Errors
/// When a connection fails, or `then` does.
pub(crate) fn in_use<T>(listeners: &[TcpListener], then: impl FnOnce() -> Result<T>) -> Result<T> {
    let served = Barrier::new(THREADS + 1);
    let done = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        let share = listeners.len().div_ceil(THREADS);
        let workers: Vec<_> = (0..THREADS)
            .map(|n| {
                let (served, done) = (&served, &done);
                scope.spawn(move || {
                    let result = listeners.iter().skip(n * share).take(share).try_for_each(serve);
                    served.wait();
                    done.wait();
                    result
                })
            })
            .collect();
        served.wait();
        let outcome = then();
        done.wait();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a thread failed"))?.context("a connection failed")?;
        }
        outcome
    })
}

fn serve(listener: &TcpListener) -> std::io::Result<()> {
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"?")?;
    let mut byte = [0];
    server.read_exact(&mut byte)?;
    server.write_all(b"!")?;
    client.read_exact(&mut byte)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::in_use;

    #[test]
    fn every_listener_is_used_before_the_measurement() {
        let listeners: Vec<_> = (0..20).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let looks = AtomicUsize::new(0);
        let waiting = in_use(&listeners, || {
            looks.fetch_add(1, Ordering::Relaxed);
            listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
            Ok(listeners.iter().filter(|listener| listener.accept().is_ok()).count())
        });
        assert_eq!((waiting.unwrap(), looks.into_inner()), (0, 1));
    }
}
