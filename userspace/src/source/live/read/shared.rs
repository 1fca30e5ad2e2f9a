//! Arrays that the probes write and that are read here through a mapping.

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A part of a map's memory, shared with the kernel.
struct Mapping {
    base: NonNull<u8>,
    bytes: NonZeroUsize,
}

// SAFETY: the mapping is owned, and shared with the kernel only; all access is volatile or atomic.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `bytes` (a multiple of the page size) of an array that was made with BPF_F_MMAPABLE, from `offset`
    /// (likewise) on.
    fn new(fd: BorrowedFd<'_>, offset: usize, bytes: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let bytes = NonZeroUsize::new(bytes).ok_or_else(invalid)?;
        let offset = libc::off_t::try_from(offset).map_err(|_| invalid())?;
        // SAFETY: a fresh shared mapping of a descriptor that is open; nothing else has its addresses.
        let base = unsafe {
            mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, offset)
        }?;
        Ok(Self { base: base.cast(), bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), self.bytes.get()) };
    }
}

fn page_size() -> io::Result<usize> {
    Ok(nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.map_or(4096, |size| size as usize))
}

/// Distance between elements of an array: the kernel rounds their size up to 8 bytes.
const fn stride<T>() -> usize {
    size_of::<T>().next_multiple_of(8)
}

/// A mapped BPF array of `T`, which must be the map's value type (records of `listentop_abi`: integers only).
pub(crate) struct SharedArray<T> {
    mapping: Mapping,
    length: u32,
    values: PhantomData<T>,
}

impl<T: Copy> SharedArray<T> {
    /// Maps an array of `length` elements that was made with BPF_F_MMAPABLE.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(crate) fn map(fd: BorrowedFd<'_>, length: u32) -> io::Result<Self> {
        let bytes = (stride::<T>() * length as usize).next_multiple_of(page_size()?);
        Ok(Self { mapping: Mapping::new(fd, 0, bytes)?, length, values: PhantomData })
    }

    /// Number of elements.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// Address of an element; it is valid for as long as the array is.
    pub(crate) fn pointer(&self, index: u32) -> *mut T {
        assert!(index < self.length, "element {index} of {}", self.length);
        // SAFETY: the index is inside the mapping.
        unsafe { self.mapping.base.as_ptr().add(index as usize * stride::<T>()) }.cast()
    }

    /// Copies an element. The probes may be writing it: each integer is whole, the record as such may be between two
    /// states.
    pub(crate) fn read(&self, index: u32) -> T {
        // SAFETY: inside the mapping, aligned to 8 by the stride, and any bytes make a valid `T`.
        unsafe { self.pointer(index).read_volatile() }
    }

    /// Replaces an element that no probe is writing (a free slot's).
    pub(crate) fn write(&self, index: u32, value: T) {
        // SAFETY: as for `read`.
        unsafe { self.pointer(index).write_volatile(value) }
    }

    /// Takes an 8-byte element and leaves 0, in one step.
    pub(crate) fn take(&self, index: u32) -> u64 {
        const { assert!(size_of::<T>() == 8) }
        // SAFETY: 8 bytes, aligned to 8, inside the mapping.
        let element = unsafe { AtomicU64::from_ptr(self.pointer(index).cast()) };
        // Mostly there is nothing to take, and looking costs less than swapping.
        if element.load(Ordering::Relaxed) == 0 { 0 } else { element.swap(0, Ordering::Relaxed) }
    }
}

/// Like [`SharedArray`], but each window is mapped when one of its elements is first used. Mapping makes all pages
/// resident at once. For a large array with few elements in use, those would be most of the process' memory.
pub(crate) struct WindowedArray<T> {
    fd: OwnedFd,
    length: u32,
    /// Elements per window, so many that a window ends where a page does.
    per_window: usize,
    windows: Vec<Option<Window>>,
    values: PhantomData<T>,
}

struct Window {
    mapping: Mapping,
    /// It was asked for since [`WindowedArray::unmap_unused`].
    used: bool,
}

impl<T: Copy> WindowedArray<T> {
    /// An array of `length` elements that was made with BPF_F_MMAPABLE. Nothing is mapped yet.
    ///
    /// # Errors
    /// If the descriptor cannot be duplicated.
    pub(crate) fn new(fd: BorrowedFd<'_>, length: u32) -> io::Result<Self> {
        let page = page_size()?;
        let shared_bits = stride::<T>().trailing_zeros().min(page.trailing_zeros());
        let per_window = page >> shared_bits;
        let windows = (length as usize).div_ceil(per_window);
        Ok(Self {
            fd: fd.try_clone_to_owned()?,
            length,
            per_window,
            windows: std::iter::repeat_with(|| None).take(windows).collect(),
            values: PhantomData,
        })
    }

    /// Unmaps the windows that were not used since the last call.
    pub(crate) fn unmap_unused(&mut self) {
        for window in &mut self.windows {
            if window.as_mut().is_some_and(|window| !std::mem::take(&mut window.used)) {
                *window = None;
            }
        }
    }

    /// Address of an element; it is valid until the next [`WindowedArray::unmap_unused`].
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(crate) fn pointer(&mut self, index: u32) -> io::Result<*mut T> {
        assert!(index < self.length, "element {index} of {}", self.length);
        let (window, place) = (index as usize / self.per_window, index as usize % self.per_window);
        let slot = &mut self.windows[window];
        let window = if let Some(window) = slot {
            window
        } else {
            let bytes = self.per_window * stride::<T>();
            let end = (self.length as usize * stride::<T>()).next_multiple_of(page_size()?);
            let offset = window * bytes;
            let mapping = Mapping::new(self.fd.as_fd(), offset, bytes.min(end - offset))?;
            slot.insert(Window { mapping, used: true })
        };
        window.used = true;
        // SAFETY: the place is inside the window.
        Ok(unsafe { window.mapping.base.as_ptr().add(place * stride::<T>()) }.cast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_show_the_same_memory_as_the_whole() {
        let length = 100_u32;
        let file = nix::sys::memfd::memfd_create("array", nix::sys::memfd::MFdFlags::empty()).expect("a file");
        let bytes = (stride::<[u64; 720]>() * length as usize).next_multiple_of(page_size().expect("a size"));
        nix::unistd::ftruncate(&file, bytes as i64).expect("room");
        let whole = SharedArray::<[u64; 720]>::map(file.as_fd(), length).expect("mapped");
        for index in 0..length {
            whole.write(index, [u64::from(index) + 1; 720]);
        }
        let mut windows = WindowedArray::<[u64; 720]>::new(file.as_fd(), length).expect("an array");
        assert!(windows.windows.iter().all(Option::is_none));
        for index in [99, 0, 31, 32, 64, 98] {
            let pointer = windows.pointer(index).expect("mapped");
            // SAFETY: an element inside the mapping; any bytes are valid.
            assert_eq!(unsafe { pointer.read_volatile() }, [u64::from(index) + 1; 720]);
        }
        assert_eq!(windows.windows.len(), 4);
        let mapped = |windows: &WindowedArray<_>| windows.windows.iter().filter(|window| window.is_some()).count();
        windows.unmap_unused();
        assert_eq!(mapped(&windows), 4, "all were used");
        windows.pointer(40).expect("mapped");
        windows.unmap_unused();
        assert_eq!(mapped(&windows), 1);
    }
}
