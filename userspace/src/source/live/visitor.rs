//! Running the probes' programs that visit things: sockets, threads, or the elements of a map.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::programs::{Iter, Program, ProgramError, RawTracePoint};
use aya_obj::generated::bpf_map_type;

use super::{bpf, error::StartError};
use crate::{errors::Shortage, say::say};

/// What an iterator visits if it visits the elements of a map, as the kernel calls it.
pub(super) const MAP_ELEMENTS: &str = "bpf_map_elem";

/// Elements that are read with one call, where user space has to read them: few calls, and little memory.
const AT_A_TIME: usize = 1024;

/// The outcome of loading a program.
type Loaded = Result<(), ProgramError>;

/// A program that visits things, ready to run.
#[derive(Debug)]
pub(crate) struct Visitor(Way);

#[derive(Debug)]
enum Way {
    /// The kernel walks, and runs the program of this link.
    Iterator(OwnedFd),
    /// User space walks over the keys of the map, and has the program run for so many at once.
    TestRuns { program: OwnedFd, map: OwnedFd, keys: Keys, at_once: usize },
}

/// The keys of a map.
#[derive(Debug, Clone, Copy)]
enum Keys {
    /// An array: the numbers below this.
    Below(u32),
    /// An array of so many words: the numbers of those that are not 0. At the others there is nothing to visit, and
    /// mostly they are many.
    Words(u32),
    /// A hash table, whose values have so many bytes.
    Hashed(u32),
}

impl Keys {
    fn of(map: BorrowedFd<'_>) -> io::Result<Self> {
        let info = bpf::map_info(map)?;
        let is_array = info.type_ == bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        let is_of_words = info.value_size as usize == size_of::<u64>();
        Ok(match (is_array, is_of_words) {
            (true, true) => Self::Words(info.max_entries),
            (true, false) => Self::Below(info.max_entries),
            (false, _) => Self::Hashed(info.value_size),
        })
    }

    /// Does something with all of them, so many at once. What comes or goes meanwhile may be left out.
    fn each(
        self,
        map: BorrowedFd<'_>,
        at_once: usize,
        mut each: impl FnMut(&[u64]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Below(end) => (0..end).try_for_each(|index| each(&[index.into()])),
            Self::Words(count) => {
                let words = bpf::words(map, count)?;
                (0..).zip(words).filter(|(_, word)| *word != 0).try_for_each(|(index, _)| each(&[index]))
            }
            Self::Hashed(value_size) => {
                let mut batches = bpf::KeyBatches::new(map, AT_A_TIME, value_size);
                while let Some(keys) = batches.next()? {
                    in_runs(keys, at_once, &mut each)?;
                }
                Ok(())
            }
        }
    }
}

/// Does something with so many keys at once. 0, which is the key of nothing, fills the last run up.
fn in_runs(keys: &[u64], at_once: usize, mut each: impl FnMut(&[u64]) -> io::Result<()>) -> io::Result<()> {
    let (whole, rest) = keys.split_at(keys.len() / at_once * at_once);
    whole.chunks(at_once).try_for_each(&mut each)?;
    if rest.is_empty() {
        return Ok(());
    }
    let mut last = rest.to_vec();
    last.resize(at_once, 0);
    each(&last)
}

impl Visitor {
    /// Runs the program for everything that it visits.
    ///
    /// # Errors
    /// What bpf(2) or read(2) says.
    pub(crate) fn run(&self) -> io::Result<()> {
        match &self.0 {
            Way::Iterator(link) => bpf::run_iterator(link.as_fd()),
            Way::TestRuns { program, map, keys, at_once } => {
                keys.each(map.as_fd(), *at_once, |keys| bpf::test_run(program.as_fd(), keys))
            }
        }
    }

    /// Where user space walks over a hash table, the program takes so many keys at once.
    pub(super) fn by(mut self, keys: usize) -> Self {
        if let Way::TestRuns { at_once, .. } = &mut self.0 {
            *at_once = keys;
        }
        self
    }

    /// Whether user space walks, because the kernel refuses to.
    pub(crate) fn is_by_test_runs(&self) -> bool {
        matches!(self.0, Way::TestRuns { .. })
    }
}

/// What is needed to load programs that visit things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visitors<'a> {
    /// The kernel's types.
    pub btf: &'a aya::Btf,
    /// Kinds of iterators (`iter/bpf_map_elem`) that count as refused by the kernel.
    pub refuse: &'a [String],
}

impl Visitors<'_> {
    /// Loads a program: the iterator, or, if the kernel refuses that one and there is another, the one that does the
    /// same in test runs. `with` runs something with the program of a name.
    ///
    /// The kernel may refuse iterators over elements only (EPERM): through their context a program can write to values.
    pub(super) fn load(
        self,
        (name, visits): (&str, &str),
        mut with: impl FnMut(&str, &mut dyn FnMut(&mut Program) -> Loaded) -> Loaded,
    ) -> Loaded {
        let is_refused = self.refuse.iter().any(|refused| *refused == format!("iter/{visits}"));
        let refused = if is_refused {
            let io_error = io::Error::from_raw_os_error(libc::EPERM);
            ProgramError::LoadError { io_error, verifier_log: aya_obj::VerifierLog::new(String::new()) }
        } else {
            let iterator = with(name, &mut |program| match <&mut Iter>::try_from(program)?.load(visits, self.btf) {
                // It was loaded beside others.
                Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
                Err(error) => Err(error),
            });
            match iterator {
                Err(error) if is_denied(&error) => error,
                outcome => return outcome,
            }
        };
        if visits != MAP_ELEMENTS {
            return Err(refused);
        }
        let one = with(&of_one(name), &mut |program| match <&mut RawTracePoint>::try_from(program)?.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
            Err(error) => Err(error),
        });
        // Where neither is allowed, the first says which right is missing.
        one.map_err(|error| if is_denied(&error) { refused } else { error })
    }

    /// Loads and attaches an iterator, over the elements of `map` if it is one for maps.
    pub(super) fn attach(
        self,
        ebpf: &mut aya::Ebpf,
        (name, visits): (&str, &str),
        map: Option<&OwnedFd>,
    ) -> Result<Visitor, StartError> {
        let refused = |error: ProgramError| refused(visits, &error);
        let loaded = self.load((name, visits), |name, load| {
            // One that the object does not have cannot be loaded.
            ebpf.program_mut(name).ok_or(ProgramError::NotLoaded).and_then(load)
        });
        loaded.map_err(refused)?;
        let io = |error| StartError::Io("an iterator cannot be attached", error);
        let program = |name: &str| ebpf.program(name).ok_or(ProgramError::NotLoaded).and_then(Program::fd);
        if let (Ok(program), Some(map)) = (program(&of_one(name)), map) {
            let program = program.as_fd().try_clone_to_owned().map_err(io)?;
            let keys = Keys::of(map.as_fd()).map_err(io)?;
            return Ok(Visitor(Way::TestRuns { program, map: map.try_clone().map_err(io)?, keys, at_once: 1 }));
        }
        let program = program(name).map_err(refused)?;
        let link = bpf::attach_iterator(program.as_fd(), map.map(OwnedFd::as_fd)).map_err(io)?;
        Ok(Visitor(Way::Iterator(link)))
    }
}

/// Unloads what a walk was loaded for, in both of its forms.
pub(super) fn unload(ebpf: &mut aya::Ebpf, name: &str) {
    for name in [name, &of_one(name)] {
        // What is not loaded need not be unloaded.
        let _ = match ebpf.program_mut(name) {
            Some(Program::Iter(program)) => program.unload(),
            Some(Program::RawTracePoint(program)) => program.unload(),
            _ => Ok(()),
        };
    }
}

/// The program that does the same as an iterator, for the elements that it is told.
pub(super) fn of_one(name: &str) -> String {
    format!("{name}_one")
}

fn is_denied(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EPERM))
}

/// Why the kernel does not take an iterator. The verifier's log goes to the debug output only.
fn refused(visits: &str, error: &ProgramError) -> StartError {
    match error {
        ProgramError::LoadError { io_error, .. } if is_denied(error) => {
            StartError::NotPermitted(format!("iter/{visits}: {io_error}"))
        }
        _ => {
            if std::env::var_os("LISTENTOP_VERIFIER_LOG").is_some() {
                say(error);
            }
            let text = format!("iter/{visits}: {}", error.to_string().lines().next().unwrap_or_default());
            match Shortage::behind(error) {
                Some(shortage) => StartError::Short(shortage, text),
                None => StartError::Object(text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::in_runs;

    #[test]
    fn each_key_is_in_one_run_and_every_run_is_full() {
        let runs = |keys: &[u64], at_once| {
            let mut runs = Vec::new();
            in_runs(keys, at_once, |run| {
                runs.push(run.to_vec());
                Ok(())
            })
            .expect("nothing fails");
            runs
        };
        assert_eq!(runs(&[7, 8, 9], 1), [[7], [8], [9]]);
        assert_eq!(runs(&[5, 6, 7, 8], 2), [[5, 6], [7, 8]]);
        assert_eq!(runs(&[5, 6, 7], 2), [[5, 6], [7, 0]]);
        assert_eq!(runs(&[], 2), [] as [Vec<u64>; 0]);
    }
}
