//! Taking capabilities from the calling thread.

use caps::{CapSet, Capability, CapsHashSet};

use super::RightsError;

/// Leaves the calling thread only those of `keep` that it has, and prevents it from gaining others.
///
/// # Errors
/// What capset(2) or prctl(2) says.
pub(super) fn restrict(keep: &[Capability]) -> Result<(), RightsError> {
    // Remembers the process' set before anything is given up.
    super::held();
    let failed = |error: caps::errors::CapsError| RightsError::Refused(error.to_string());
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let keep: CapsHashSet = keep.iter().copied().filter(|kept| permitted.contains(kept)).collect();
    // First, because it needs CAP_SETPCAP. Without it the set stays, which no_new_privs makes meaningless.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed)? {
        for capability in caps::read(None, CapSet::Bounding).map_err(failed)? {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::set(None, CapSet::Effective, &keep).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &keep).map_err(failed)?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| RightsError::Refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_any_has_none_and_cannot_get_any() {
        std::thread::spawn(|| {
            restrict(&[]).expect("giving up needs no right");
            for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient] {
                assert_eq!(caps::read(None, set).expect("readable"), CapsHashSet::new(), "{set:?}");
            }
            assert_eq!(nix::sys::prctl::get_no_new_privs(), Ok(true));
            assert!(caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).is_err());
            // Once more: there is nothing to give up, which is no failure.
            restrict(&[]).expect("nothing to do");
        })
        .join()
        .expect("the thread does not fail");
    }
}
