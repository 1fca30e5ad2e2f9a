//! Names of network interfaces. A listener knows its interface by an index, which has a meaning in its namespace only.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::net::UnixDatagram,
    },
    path::PathBuf,
};

use listentop_model::sample::{Device, NamespaceId};

use super::{namespaces, owners::Scan};

/// The interfaces that listeners are bound to.
#[derive(Debug, Default)]
pub(super) struct Devices {
    known: HashMap<(NamespaceId, u32), Device>,
    /// Those without a name, with the number of the scan that was of no help.
    nameless: HashMap<(NamespaceId, u32), u64>,
}

impl Devices {
    /// An interface; without its name if that is not known.
    pub(super) fn get(&self, namespace: NamespaceId, index: u32) -> Device {
        self.known.get(&(namespace, index)).copied().unwrap_or_else(|| Device::unnamed(index))
    }

    /// Looks up the names of interfaces that are not known yet; true if one was found.
    pub(super) fn look_up(&mut self, wanted: &[(NamespaceId, u32)], scan: &Scan) -> bool {
        let mut found = false;
        let mut files: Option<HashMap<u32, PathBuf>> = None;
        for &(namespace, index) in wanted {
            let key = (namespace, index);
            // The same processes lead nowhere again.
            if self.known.contains_key(&key) || self.nameless.get(&key) == Some(&scan.number) {
                continue;
            }
            let file = files.get_or_insert_with(|| namespaces::scanned(scan)).get(&namespace.inode);
            let name = file.and_then(|file| {
                namespaces::inside(file, || {
                    let socket = UnixDatagram::unbound()?;
                    if namespace.cookie.is_some() && namespaces::cookie_of(&socket) != namespace.cookie {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    name_of(&socket, index)
                })
                .ok()
            });
            match name {
                Some(device) => {
                    self.nameless.remove(&key);
                    self.known.insert(key, device);
                    found = true;
                }
                None => {
                    self.nameless.insert(key, scan.number);
                }
            }
        }
        found
    }

    /// Forgets the interfaces that `keep` does not name.
    pub(super) fn retain(&mut self, keep: impl Fn(NamespaceId) -> bool) {
        self.known.retain(|(namespace, _), _| keep(*namespace));
        self.nameless.retain(|(namespace, _), _| keep(*namespace));
    }
}

/// The interface with this index in the namespace of a socket, whatever sort of socket that is.
///
/// # Errors
/// If there is no such interface (any more).
pub(super) fn name_of(socket: &impl AsFd, index: u32) -> io::Result<Device> {
    // SAFETY: zero is valid for all members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = libc::c_int::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the call reads the index from the request and writes the name into it; the request outlives the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFNAME as _, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let name: Vec<u8> = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    Ok(Device::new(index, &name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::proc;

    #[test]
    fn loopback_is_the_first_of_every_namespace() {
        let socket = UnixDatagram::unbound().expect("a socket");
        assert_eq!(name_of(&socket, 1).expect("every namespace has it").name(), "lo");
        assert!(name_of(&socket, u32::MAX).is_err() && name_of(&socket, 1_000_000).is_err());
    }

    #[test]
    fn what_has_no_name_is_asked_for_again_with_the_next_scan() {
        let inode = proc::our_namespace().expect("we run");
        let id = NamespaceId { inode, cookie: namespaces::our_cookie() };
        let mut devices = Devices::default();
        let mut scan =
            Scan { number: 1, namespaces: HashMap::from([(inode, vec![std::process::id()])]), ..Scan::default() };
        assert!(devices.look_up(&[(id, 1), (id, 1_000_000)], &scan));
        assert_eq!((devices.get(id, 1).name(), devices.get(id, 1_000_000).name()), ("lo", "if1000000"));
        assert!(!devices.look_up(&[(id, 1), (id, 1_000_000)], &scan));
        scan.number = 2;
        let elsewhere = NamespaceId { cookie: Some(u64::MAX), ..id };
        assert!(!devices.look_up(&[(elsewhere, 1)], &scan), "another namespace, which had this inode before");
        devices.retain(|kept| kept == elsewhere);
        assert!(devices.look_up(&[(id, 1)], &scan));
    }
}
