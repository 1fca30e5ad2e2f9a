//! Names of Rust: a module, a method of a trait, a closure, a function that is inlined.

use std::{
    io::{BufRead as _, Write as _},
    net::TcpListener,
    thread::sleep,
    time::Duration,
};

mod shop {
    use super::{Duration, sleep};

    pub(crate) trait Store {
        fn store(&self, ms: u64) -> u64;
    }

    pub(crate) struct Journal;

    impl Store for Journal {
        #[inline(never)]
        fn store(&self, ms: u64) -> u64 {
            rest(ms) + 1
        }
    }

    #[inline(always)]
    fn rest(ms: u64) -> u64 {
        sleep(Duration::from_millis(ms));
        std::hint::black_box(ms)
    }
}

#[inline(never)]
fn through(action: &dyn Fn(u64) -> u64) -> u64 {
    action(500) + 1
}

fn main() {
    use shop::Store as _;
    let port = std::env::args().next_back().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    println!("ready");
    std::io::stdout().flush().expect("open");
    std::io::stdin().lock().read_line(&mut String::new()).expect("open");
    let connection = listener.accept();
    let slept = through(&|ms| shop::Journal.store(ms) + 1);
    println!("{slept} 0");
    std::io::stdout().flush().expect("open");
    sleep(Duration::from_secs(600));
    drop(connection);
}
