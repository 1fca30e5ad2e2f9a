//! Names of functions, on a thread that keeps the rights for that: it reads the files that other users' processes have
//! mapped, and the kernel's symbols.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    io,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc},
};

use blazesym::{
    MaybeDefault, Pid,
    symbolize::{
        Input, Reason, Sym, Symbolized, Symbolizer,
        source::{Kernel, Process, Source},
    },
};

use super::{
    frames::{Frame, Names},
    perf_map,
};
use crate::{rights, source::live::blame::Charge};

/// What is to be named.
enum Request {
    /// Addresses in a process; it is asked while the process lives.
    Process(u32, Vec<u64>),
    /// Addresses in the kernel.
    Kernel(Vec<u64>),
    /// All names so far.
    Names(mpsc::SyncSender<Names>),
    /// Nothing more for now: what is known is forgotten.
    Forget,
}

/// The thread that names functions. It ends with this.
#[derive(Debug)]
pub struct Symbols {
    requests: mpsc::Sender<Request>,
    /// What was asked for: a name is looked up once.
    asked: HashSet<(u32, u64)>,
    /// What is known so far.
    names: Arc<RwLock<Names>>,
}

/// Addresses that are looked up, at most. Stacks of all programs have far fewer; what is beyond stays an address.
const MOST: usize = 200_000;

impl Symbols {
    /// Starts the thread. To be called before rights are given up.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (requests, wanted) = mpsc::channel();
        let names: Arc<RwLock<Names>> = Arc::default();
        let shared = names.clone();
        std::thread::Builder::new().name("symbols".to_owned()).spawn(move || {
            // If that fails, the thread goes on with the rights that it has.
            let _ = rights::restrict_to_symbols();
            let mut worker = Worker::new(shared);
            while let Ok(request) = wanted.recv() {
                match request {
                    Request::Process(pid, addresses) => worker.process(pid, &addresses),
                    Request::Kernel(addresses) => worker.kernel(&addresses),
                    // Who asked may be gone.
                    Request::Names(sender) => drop(sender.send(worker.names().clone())),
                    Request::Forget => {
                        *worker.names_mut() = Names::default();
                        worker = Worker::new(worker.names.clone());
                    }
                }
            }
        })?;
        Ok(Self { requests, asked: HashSet::new(), names })
    }

    /// Has addresses in a process named, while it lives.
    pub fn process(&mut self, pid: u32, addresses: &[u64]) {
        let new = self.new_ones(pid, addresses);
        if !new.is_empty() {
            let _ = self.requests.send(Request::Process(pid, new));
        }
    }

    /// Has addresses in the kernel named.
    pub fn kernel(&mut self, addresses: &[u64]) {
        let new = self.new_ones(0, addresses);
        if !new.is_empty() {
            let _ = self.requests.send(Request::Kernel(new));
        }
    }

    fn new_ones(&mut self, pid: u32, addresses: &[u64]) -> Vec<u64> {
        let room = MOST.saturating_sub(self.asked.len());
        addresses.iter().copied().filter(|address| self.asked.insert((pid, *address))).take(room).collect()
    }

    /// The frames of a charge, by the names that are known so far.
    #[must_use]
    pub fn frames_so_far(&self, charge: &Charge) -> Vec<Frame> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).frames(charge)
    }

    /// Forgets all names: nobody needs any for now.
    pub fn forget(&mut self) {
        self.asked = HashSet::new();
        let _ = self.requests.send(Request::Forget);
    }

    /// All names that were asked for; none if the thread failed.
    #[must_use]
    pub fn names(&self) -> Names {
        let (sender, names) = mpsc::sync_channel(1);
        let _ = self.requests.send(Request::Names(sender));
        names.recv().unwrap_or_default()
    }
}

struct Worker {
    symbolizer: Symbolizer,
    names: Arc<RwLock<Names>>,
}

impl Worker {
    fn new(names: Arc<RwLock<Names>>) -> Self {
        let symbolizer = Symbolizer::builder().enable_auto_reload(true).enable_code_info(true).build();
        Self { symbolizer, names }
    }

    fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a moment, once the names are found.
    fn names_mut(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&mut self, pid: u32, addresses: &[u64]) {
        let (mut named, mut reasons) = (HashMap::new(), HashMap::new());
        // Links in /proc/PID/map_files lead into the process' own mount namespace, and take a right that may be
        // missing; paths do not.
        for map_files in [true, false] {
            let mut process = Process::new(Pid::from(pid));
            process.map_files = map_files;
            // They are read below, as far as code lies in no file. With them the rest would have no names.
            process.perf_map = false;
            let symbols = self.symbolizer.symbolize(&Source::Process(process), Input::AbsAddr(addresses));
            let Ok(symbols) = symbols else { continue };
            for (address, symbol) in addresses.iter().zip(symbols) {
                match (frames(&symbol, false), symbol) {
                    (Some(frames), _) => _ = named.entry(*address).or_insert(frames),
                    (None, Symbolized::Unknown(reason)) => _ = reasons.entry(*address).or_insert(reason),
                    (None, Symbolized::Sym(_)) => {}
                }
            }
            if named.len() == addresses.len() {
                break;
            }
        }
        let modules = Modules::of(pid);
        let without_file = addresses.iter().copied().filter(|address| modules.is_without_file(*address));
        let perf_map = perf_map::names(pid, without_file.collect());
        let has_perf_map = perf_map.is_some();
        for (address, name) in perf_map.into_iter().flatten() {
            named.insert(address, vec![Frame::named(plain(&name), None, false)]);
        }
        for address in addresses {
            let module = modules.at(*address);
            let is_code = modules.is_code(*address);
            let named = named.remove(address).filter(|_| is_code);
            let frames = named.unwrap_or_else(|| {
                let why = modules.why(*address, reasons.get(address).copied(), has_perf_map);
                vec![Frame { is_code, why: Some(why.to_owned()), ..Frame::unnamed(*address, None, false) }]
            });
            let frames = frames.into_iter().map(|frame| Frame { module: module.clone().or(frame.module), ..frame });
            self.names_mut().user.insert((pid, *address), frames.collect());
        }
    }

    fn kernel(&mut self, addresses: &[u64]) {
        // An image with all types takes seconds to read, and has no other names.
        let kernel = Kernel { vmlinux: MaybeDefault::None, ..Kernel::default() };
        let symbols = self.symbolizer.symbolize(&Source::Kernel(kernel), Input::AbsAddr(addresses)).unwrap_or_default();
        for (address, symbol) in addresses.iter().zip(symbols) {
            if let Some(frames) = frames(&symbol, true) {
                self.names_mut().kernel.insert(*address, frames);
            }
        }
    }
}

/// The frames at an address, of inlined functions the innermost first.
fn frames(symbol: &Symbolized<'_>, kernel: bool) -> Option<Vec<Frame>> {
    let Symbolized::Sym(Sym { name, module, inlined, .. }) = symbol else { return None };
    let module = module.as_deref().and_then(file_name).filter(|_| !kernel);
    let inlined = inlined.iter().rev().map(|function| function.name.to_string());
    let names = inlined.chain([name.to_string()]);
    Some(names.map(|name| Frame::named(plain(&name), module.clone(), kernel)).collect())
}

/// A name without the hash that Rust's older mangling puts at its end.
fn plain(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name.to_owned(),
        // Names that glibc gives its functions for its own calls.
        _ => name.strip_prefix("__GI_").unwrap_or(name).to_owned(),
    }
}

fn file_name(path: &OsStr) -> Option<String> {
    Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Which file is mapped where.
struct Modules(Vec<Mapping>);

struct Mapping {
    addresses: std::ops::Range<u64>,
    name: String,
    is_code: bool,
    is_of_file: bool,
    is_gone: bool,
}

impl Modules {
    fn of(pid: u32) -> Self {
        let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        let maps = String::from_utf8_lossy(&maps);
        Self(maps.lines().filter_map(Self::line).collect())
    }

    /// `begin-end perms offset device inode path`.
    fn line(line: &str) -> Option<Mapping> {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let is_code = fields.next()?.contains('x');
        let path = fields.nth(3).unwrap_or("[anonymous memory]");
        let (is_of_file, is_gone) = (path.starts_with('/'), line.ends_with(" (deleted)"));
        let name = file_name(OsStr::new(path))?;
        let addresses = u64::from_str_radix(begin, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
        Some(Mapping { addresses, name, is_code, is_of_file, is_gone })
    }

    fn mapping(&self, address: u64) -> Option<&Mapping> {
        self.0.iter().find(|mapping| mapping.addresses.contains(&address))
    }

    /// Why nothing there has a name.
    fn why(&self, address: u64, reason: Option<Reason>, has_perf_map: bool) -> &'static str {
        match (self.mapping(address), reason) {
            _ if self.0.is_empty() => "its process has ended",
            (None, _) => "nothing is mapped there",
            // It was compiled later, or the map is older.
            (Some(mapping), _) if !mapping.is_of_file && has_perf_map => "its perf map does not have it",
            (Some(mapping), _) if !mapping.is_of_file => "there is no perf map",
            (_, Some(Reason::MissingSyms | Reason::UnknownAddr)) => "stripped",
            (Some(mapping), _) if mapping.is_gone => "its file is gone",
            _ => "its file cannot be read",
        }
    }

    fn at(&self, address: u64) -> Option<String> {
        self.mapping(address).map(|mapping| mapping.name.clone())
    }

    /// Whether it is in memory that belongs to no file: where compilers put code at run time.
    fn is_without_file(&self, address: u64) -> bool {
        self.mapping(address).is_some_and(|mapping| mapping.name.starts_with('[') && mapping.name != "[vdso]")
    }

    /// Whether code may be there. Where the mappings are not known, it may.
    fn is_code(&self, address: u64) -> bool {
        self.0.is_empty() || self.mapping(address).is_some_and(|mapping| mapping.is_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_of_this_program() -> u64 {
        std::hint::black_box(a_function_of_this_program as fn() -> u64 as usize as u64)
    }

    #[test]
    fn functions_of_a_process_have_names() {
        let mut symbols = Symbols::start().expect("a thread starts");
        let (pid, address) = (std::process::id(), a_function_of_this_program());
        symbols.process(pid, &[address, 4096]);
        let names = symbols.names();
        let of = |address| names.user.get(&(pid, address)).and_then(|frames| frames.first()).cloned();
        let frame = of(address).expect("it was asked for");
        assert!(frame.named && frame.function.ends_with("a_function_of_this_program"), "{frame:?}");
        assert!(frame.module.is_some(), "{frame:?}");
        let why = Some("nothing is mapped there".to_owned());
        let nowhere = Frame { is_code: false, why, ..Frame::unnamed(4096, None, false) };
        assert_eq!(of(4096), Some(nowhere), "nothing is mapped there");
    }

    #[test]
    fn a_process_that_is_gone_has_addresses() {
        let mut symbols = Symbols::start().expect("a thread starts");
        symbols.process(u32::MAX >> 1, &[0x1234]);
        let names = symbols.names();
        let frame = names.user.values().flatten().next().expect("it was asked for");
        assert_eq!(frame.label(), "0x1234 (its process has ended)");
    }

    #[test]
    fn what_has_no_name_says_why() {
        let maps = [
            "1000-2000 r-xp 0 00:00 0",
            "2000-3000 r-xp 0 08:01 7 /usr/bin/shop",
            "3000-4000 r-xp 0 08:01 7 /tmp/a (deleted)",
        ];
        let modules = Modules(maps.into_iter().filter_map(Modules::line).collect());
        let why = |address, reason| modules.why(address, reason, false);
        assert_eq!(why(0x1800, Some(Reason::UnknownAddr)), "there is no perf map");
        assert_eq!(modules.why(0x1800, None, true), "its perf map does not have it");
        assert_eq!(why(0x2800, Some(Reason::MissingSyms)), "stripped");
        assert_eq!(why(0x3800, Some(Reason::MissingSyms)), "stripped", "the link of map_files is the file still");
        assert_eq!(why(0x3800, Some(Reason::IgnoredError)), "its file is gone");
        assert_eq!(why(0x2800, None), "its file cannot be read");
        assert_eq!(why(0x8800, None), "nothing is mapped there");
        assert_eq!(Modules(Vec::new()).why(0x1800, None, true), "its process has ended");
    }

    #[test]
    fn hashes_are_left_out() {
        assert_eq!(plain("core::fmt::write::h0123456789abcdef"), "core::fmt::write");
        assert_eq!(plain("core::fmt::write"), "core::fmt::write");
        assert_eq!(plain("a::h12"), "a::h12");
        assert_eq!(plain("__GI___clock_nanosleep"), "__clock_nanosleep");
    }
}
