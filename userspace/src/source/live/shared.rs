//! Arrays that the probes write and that are read here through a mapping.

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped BPF array of `T`, which must be the map's value type (records of `listentop_abi`: integers only).
pub(super) struct SharedArray<T> {
    base: NonNull<u8>,
    bytes: NonZeroUsize,
    length: u32,
    values: PhantomData<T>,
}

// SAFETY: the mapping is owned, and shared with the kernel only; all access is volatile or atomic.
unsafe impl<T: Send> Send for SharedArray<T> {}

impl<T: Copy> SharedArray<T> {
    /// Distance between elements: the kernel rounds their size up to 8 bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps an array of `length` elements that was made with BPF_F_MMAPABLE.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(super) fn map(fd: BorrowedFd<'_>, length: u32) -> io::Result<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.map_or(4096, |size| size as usize);
        let bytes = NonZeroUsize::new((Self::STRIDE * length as usize).next_multiple_of(page))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a fresh shared mapping of a descriptor that is open; nothing else has its addresses.
        let base =
            unsafe { mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { base: base.cast(), bytes, length, values: PhantomData })
    }

    /// Address of an element; it is valid for as long as the array is.
    pub(super) fn pointer(&self, index: u32) -> *mut T {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: the index is inside the mapping.
        unsafe { self.base.as_ptr().add(index as usize * Self::STRIDE) }.cast()
    }

    /// Copies an element. The probes may be writing it: each integer is whole, the record as such may be between two states.
    pub(super) fn read(&self, index: u32) -> T {
        // SAFETY: inside the mapping, aligned to 8 by the stride, and any bytes make a valid `T`.
        unsafe { self.pointer(index).read_volatile() }
    }

    /// Replaces an element that no probe is writing (a free slot's).
    pub(super) fn write(&self, index: u32, value: T) {
        // SAFETY: as for `read`.
        unsafe { self.pointer(index).write_volatile(value) }
    }

    /// Takes an 8-byte element and leaves 0, in one step.
    pub(super) fn take(&self, index: u32) -> u64 {
        const { assert!(size_of::<T>() == 8) }
        // SAFETY: 8 bytes, aligned to 8, inside the mapping.
        unsafe { AtomicU64::from_ptr(self.pointer(index).cast()) }.swap(0, Ordering::Relaxed)
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), self.bytes.get()) };
    }
}
