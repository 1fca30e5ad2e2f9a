//! Blame while the probes run: its programs and maps are an object of their own, which is loaded when somebody asks and
//! gone when nobody does any more. Until then it costs a few descriptors. It shares the probes' tables.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::Ebpf;

use super::{Blame, Refused, Watching, attach::start_unwinder, copies::Unwinder};
use crate::source::live::{
    Options,
    attach::tracefs,
    error::StartError,
    start::{
        loader,
        machine::{Geometry, Machine},
        maps::descriptor,
    },
};

/// The probes' tables that blame's programs read: listeners, and through which of them a connection came.
const SHARED: [&str; 5] = ["LISTENERS", "INFO", "CONNECTIONS", "SPILLED", "LOSSES"];

/// What is needed to attach blame's programs later.
pub struct Apart {
    shared: Vec<(&'static str, OwnedFd)>,
    options: Options,
    geometry: Geometry,
    /// It keeps rights that the thread which attaches gives up.
    unwinder: Result<Unwinder, String>,
}

impl std::fmt::Debug for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apart").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Apart {
    /// Notes the tables of the probes, which must not have been taken from the object yet.
    pub(in crate::source::live) fn of(ebpf: &Ebpf, options: &Options, geometry: Geometry) -> Result<Self, StartError> {
        let share = |name: &'static str| {
            let fd = descriptor(ebpf, name)?.try_clone_to_owned();
            Ok((name, fd.map_err(|error| StartError::Io("a map cannot be opened", error))?))
        };
        let shared = SHARED.into_iter().map(share).collect::<Result<_, StartError>>()?;
        let options = Options { blame: true, ..options.clone() };
        Ok(Self { shared, options, geometry, unwinder: start_unwinder() })
    }

    /// Makes the ids of system call tracepoints readable to this thread and those that it starts, if it may mount what
    /// has them. Later a sandbox refuses that. If it fails, [`Apart::attach`] says so where they are needed.
    pub fn prepare_thread(&self) {
        let _ = tracefs::available_to_this_thread();
    }

    /// Loads and attaches the programs, on a thread that was prepared. That takes the rights of the probes, and some
    /// tenths of a second.
    ///
    /// # Errors
    /// Why nobody can be blamed here.
    pub fn attach(&self) -> Result<Watch, Refused> {
        let machine = Machine::types()?;
        let mut ebpf = loader::load_apart(&self.options, &machine, self.geometry)?;
        for (name, fd) in &self.shared {
            replace(descriptor(&ebpf, name)?, fd.as_fd())
                .map_err(|error| StartError::Io("a map cannot be shared", error))?;
        }
        let blame = Blame::attach(&mut ebpf, &self.options, &machine, self.geometry.slots, &self.unwinder)?;
        // The programs hold those that they use.
        let others: Vec<String> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        others.iter().for_each(|name| drop(ebpf.take_map(name)));
        Ok(Watch { blame, ebpf })
    }
}

/// Puts another open file behind a descriptor. The loader has written the numbers of the descriptors into programs that
/// the kernel has not seen: it will find the probes' map behind the number of an empty one.
fn replace(map: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open. The number stays with its owner, who closes the new file as he would have the old one.
    let made = unsafe { libc::dup3(by.as_raw_fd(), map.as_raw_fd(), libc::O_CLOEXEC) };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Programs that are attached. Dropping it detaches them, and gives their maps back.
#[derive(Debug)]
pub struct Watch {
    blame: Blame,
    ebpf: Ebpf,
}

impl Watch {
    /// What they watch.
    pub fn watching(&mut self) -> Watching<'_> {
        Watching { blame: &mut self.blame, ebpf: &mut self.ebpf }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::OwnedFd};

    use super::*;

    #[test]
    fn a_descriptor_gets_another_file() {
        let (null, zero) =
            (File::open("/dev/null").expect("it is there"), File::open("/dev/zero").expect("it is there"));
        let number = null.as_raw_fd();
        replace(null.as_fd(), zero.as_fd()).expect("there is room");
        drop(zero);
        let null: OwnedFd = null.into();
        assert_eq!(null.as_raw_fd(), number);
        let link = std::fs::read_link(format!("/proc/self/fd/{number}")).expect("it is open");
        assert_eq!(link.to_str(), Some("/dev/zero"));
    }
}
