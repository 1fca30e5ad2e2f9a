//! Requests that are orders of a shop: each computes, waits for a lock and sleeps, in functions of their own, and for
//! times that are known. So it can be checked what a profiler says of them.

use super::service::Service;
use crate::sys::{now_ns, set_thread_name, thread_cpu_ns};
use anyhow::Context;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fs;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What an order takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// CPU time that its price takes.
    price: Duration,
    /// How long the inventory holds the stock's lock at a time.
    stock: Duration,
    /// Sleep until its line is in the journal.
    journal: Duration,
}

impl Costs {
    /// Parses `PRICE:STOCK:JOURNAL` in milliseconds.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let times: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
        match times.as_deref() {
            Some(&[price, stock, journal]) if price.max(stock).max(journal) <= 10_000 => {
                let [price, stock, journal] = [price, stock, journal].map(Duration::from_millis);
                Ok(Self { price, stock, journal })
            }
            _ => Err("must be PRICE:STOCK:JOURNAL in milliseconds, each at most 10000".to_owned()),
        }
    }
}

/// A shop.
#[derive(Debug)]
pub(super) struct Shop {
    costs: Costs,
    /// The lock of the stock: a semaphore of 1.
    stock: EventFd,
    spent: Spent,
}

/// Times of the orders so far, in nanoseconds.
#[derive(Debug, Default)]
struct Spent {
    orders: AtomicU64,
    price: AtomicU64,
    stock: AtomicU64,
    journal: AtomicU64,
    stock_asleep: AtomicU64,
    journal_asleep: AtomicU64,
    between: AtomicU64,
    on_cpu: AtomicU64,
    run_queue: AtomicU64,
    /// The kernel did not say how long a thread waited for a CPU.
    unknown: AtomicBool,
}

/// The same, as printed: microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Orders that are done.
    pub orders: u64,
    /// What they took, with the time between them.
    pub total_us: u64,
    /// Of that, in `price_order`.
    pub price_us: u64,
    /// Of that, in `reserve_stock`.
    pub stock_us: u64,
    /// Of that, in `write_journal`.
    pub journal_us: u64,
    /// Of `stock_us`, asleep; `None` if the kernel does not say how long threads wait for a CPU.
    pub stock_asleep_us: Option<u64>,
    /// Of `journal_us`, likewise.
    pub journal_asleep_us: Option<u64>,
    /// Of that, since the end of the order before, which the same thread served: accepting, reading, writing, or
    /// nothing.
    pub between_us: u64,
    /// Of all of that, on a CPU.
    pub running_us: u64,
    /// Of all of that, waiting for a CPU; `None` if the kernel does not say it.
    pub runnable_us: Option<u64>,
    /// The rest of it.
    pub asleep_us: Option<u64>,
}

impl Shop {
    /// A shop without orders yet.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn new(costs: Costs) -> nix::Result<Self> {
        let stock = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_SEMAPHORE)?;
        Ok(Self { costs, stock, spent: Spent::default() })
    }

    /// Carries out an order.
    pub(super) fn order(&self) {
        let begins = Moment::now();
        price_order(self.costs.price);
        let priced = Moment::now();
        if !self.costs.stock.is_zero() {
            reserve_stock(&self.stock);
        }
        let reserved = Moment::now();
        if !self.costs.journal.is_zero() {
            write_journal(self.costs.journal);
        }
        let after = Moment::now();

        let spent = &self.spent;
        spent.orders.fetch_add(1, Relaxed);
        let before = LAST.replace(Some(after)).unwrap_or(begins);
        spent.between.fetch_add(begins.wall_ns - before.wall_ns, Relaxed);
        spent.price.fetch_add(priced.wall_ns - begins.wall_ns, Relaxed);
        spent.stock.fetch_add(reserved.wall_ns - priced.wall_ns, Relaxed);
        spent.stock_asleep.fetch_add(reserved.asleep_since(&priced), Relaxed);
        spent.journal.fetch_add(after.wall_ns - reserved.wall_ns, Relaxed);
        spent.journal_asleep.fetch_add(after.asleep_since(&reserved), Relaxed);
        spent.on_cpu.fetch_add(after.on_cpu_ns - before.on_cpu_ns, Relaxed);
        match before.run_queue_ns.zip(after.run_queue_ns) {
            Some((before_ns, after_ns)) => drop(spent.run_queue.fetch_add(after_ns - before_ns, Relaxed)),
            None => spent.unknown.store(true, Relaxed),
        }
    }

    /// What the orders took so far.
    pub(super) fn report(&self) -> Report {
        let spent = &self.spent;
        let [price_us, stock_us, journal_us, between_us] =
            [&spent.price, &spent.stock, &spent.journal, &spent.between].map(|time| time.load(Relaxed) / 1000);
        let total_us = price_us + stock_us + journal_us + between_us;
        let running_us = spent.on_cpu.load(Relaxed) / 1000;
        let runnable_us = (!spent.unknown.load(Relaxed)).then(|| spent.run_queue.load(Relaxed) / 1000);
        Report {
            orders: spent.orders.load(Relaxed),
            total_us,
            price_us,
            stock_us,
            journal_us,
            stock_asleep_us: runnable_us.map(|_| spent.stock_asleep.load(Relaxed) / 1000),
            journal_asleep_us: runnable_us.map(|_| spent.journal_asleep.load(Relaxed) / 1000),
            between_us,
            running_us,
            runnable_us,
            asleep_us: runnable_us.map(|runnable_us| total_us.saturating_sub(running_us + runnable_us)),
        }
    }
}

/// Steps between two looks at the clock: so many that a profiler seldom finds the clock.
const STEPS: u64 = 100_000;

/// Computes a price, which takes CPU time.
#[inline(never)]
fn price_order(length: Duration) {
    let end = thread_cpu_ns() + length.as_nanos() as u64;
    while thread_cpu_ns() < end {
        here::count(STEPS);
    }
}

/// Takes the stock's lock, which the inventory holds most of the time, for a moment.
#[inline(never)]
fn reserve_stock(stock: &EventFd) {
    let mut free = 0u64;
    // SAFETY: the number that is written outlives the call.
    while unsafe { here::call(libc::SYS_read, [stock.as_raw_fd() as usize, (&raw mut free).addr(), 8, 0]) } == EINTR {}
    give_back(stock);
}

/// Sleeps, as for a disk that takes its time.
#[inline(never)]
fn write_journal(length: Duration) {
    let until = TimeSpec::from_duration(Duration::from_nanos(now_ns()) + length);
    let (clock, absolute) = (libc::CLOCK_MONOTONIC as usize, libc::TIMER_ABSTIME as usize);
    // SAFETY: the time that is read outlives the call.
    while unsafe { here::call(libc::SYS_clock_nanosleep, [clock, absolute, (&raw const until).addr(), 0]) } == EINTR {}
}

/// How the kernel says that a signal interrupted a call.
const EINTR: isize = -(libc::EINTR as isize);

fn give_back(stock: &EventFd) {
    // It fails only if the counter is full, and it is 1 at most.
    let _ = stock.write(1);
}

/// What stays in the function that calls it, in every build: so stacks begin there, also without frame pointers.
#[expect(clippy::inline_always, reason = "stacks are to begin in the function that calls")]
mod here {
    use std::arch::asm;

    /// Counts down to 0.
    #[inline(always)]
    pub(super) fn count(steps: u64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it changes a register that it declares.
        unsafe {
            asm!("2: sub {0}, 1", "jnz 2b", inout(reg) steps => _, options(nomem, nostack));
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: it changes a register that it declares.
        unsafe {
            asm!("2: subs {0}, {0}, #1", "b.ne 2b", inout(reg) steps => _, options(nomem, nostack));
        }
    }

    /// A system call. A negative result is an error.
    ///
    /// # Safety
    /// As the system call.
    #[inline(always)]
    pub(super) unsafe fn call(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> isize {
        let result: isize;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller answers for the call; registers that the kernel changes are declared.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number as isize => result,
                in("rdi") a,
                in("rsi") b,
                in("rdx") c,
                in("r10") d,
                out("rcx") _,
                out("r11") _,
                options(nostack)
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: likewise.
        unsafe {
            asm!(
                "svc 0",
                in("x8") number,
                inlateout("x0") a as isize => result,
                in("x1") b,
                in("x2") c,
                in("x3") d,
                options(nostack)
            );
        }
        result
    }
}

/// Holds the lock of the stock again and again, as if it counted it, until the server ends.
///
/// # Errors
/// No thread can be started.
pub(super) fn inventory(service: &Arc<Service>) -> anyhow::Result<Option<JoinHandle<()>>> {
    let held = service.shop().map_or(Duration::ZERO, |shop| shop.costs.stock);
    if held.is_zero() {
        return Ok(None);
    }
    let service = Arc::clone(service);
    let count = move || {
        set_thread_name("inventory");
        let Some(shop) = service.shop() else { return };
        while !service.stopping() {
            if shop.stock.read().is_ok() {
                service.sleep(held);
                give_back(&shop.stock);
            }
            // Long enough that whoever waits for the lock gets it.
            service.sleep(held / 10);
        }
    };
    thread::Builder::new().spawn(count).context("cannot start a thread").map(Some)
}

thread_local! {
    /// The end of the order that this thread served last.
    static LAST: Cell<Option<Moment>> = const { Cell::new(None) };
}

/// Times of the calling thread at a moment.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "all are in nanoseconds")]
struct Moment {
    wall_ns: u64,
    on_cpu_ns: u64,
    /// How long it has waited for a CPU; `None` if the kernel does not say it.
    run_queue_ns: Option<u64>,
}

impl Moment {
    fn now() -> Self {
        let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let run_queue_ns = schedstat.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
        Self { wall_ns: now_ns(), on_cpu_ns: thread_cpu_ns(), run_queue_ns }
    }

    /// How long the thread slept since then: it neither ran nor waited for a CPU.
    fn asleep_since(&self, earlier: &Self) -> u64 {
        let run_queue = |moment: &Self| moment.run_queue_ns.unwrap_or_default();
        let awake_ns = self.on_cpu_ns - earlier.on_cpu_ns + run_queue(self).saturating_sub(run_queue(earlier));
        (self.wall_ns - earlier.wall_ns).saturating_sub(awake_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read() {
        let [price, stock, journal] = [5, 40, 10].map(Duration::from_millis);
        assert_eq!(Costs::parse("5:40:10"), Ok(Costs { price, stock, journal }));
        for bad in ["", "5", "5:40", "5:40:10:1", "a:b:c", "-1:0:0", "1:2:10001"] {
            assert!(Costs::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_order_takes_what_it_costs() {
        let shop = Shop::new(Costs::parse("4:1:20").unwrap()).unwrap();
        assert_eq!(shop.stock.read(), Ok(1), "the lock is held");
        thread::scope(|scope| {
            scope.spawn(|| shop.order());
            // The order waits for the lock meanwhile.
            thread::sleep(Duration::from_millis(60));
            assert_eq!(shop.report().orders, 0);
            give_back(&shop.stock);
        });
        let report = shop.report();
        assert_eq!((report.orders, shop.stock.read()), (1, Ok(1)), "it is free again");
        assert!(report.price_us >= 4_000 && report.journal_us >= 20_000, "{report:?}");
        assert!(report.running_us >= 4_000 && report.running_us < report.total_us, "{report:?}");
        assert_eq!(report.total_us, report.price_us + report.stock_us + report.journal_us, "nothing is between one");
        if let (Some(runnable_us), Some(asleep_us)) = (report.runnable_us, report.asleep_us) {
            assert_eq!(report.running_us + runnable_us + asleep_us, report.total_us);
            assert!(asleep_us >= 20_000, "{report:?}");
        }
    }
}
