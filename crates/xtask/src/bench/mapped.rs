//! Page-aligned memory for copies, anonymous or of a file: the only unsafe code of the benchmarks.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A mapping that can be read and written.
#[derive(Debug)]
pub(super) struct Mapped {
    base: NonNull<u8>,
    length: usize,
}

impl Mapped {
    /// Fresh memory of this process alone.
    pub(super) fn anonymous(length: usize) -> Result<Self, Errno> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an unused address, so no memory of ours is replaced.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), length, rights, MapFlags::PRIVATE) }?;
        Self::from_base(base.cast(), length)
    }

    /// The first `length` bytes of a file that is at least as long.
    pub(super) fn of_file(file: BorrowedFd<'_>, length: usize) -> Result<Self, Errno> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as above.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                rights,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        Self::from_base(base.cast(), length)
    }

    fn from_base(base: *mut u8, length: usize) -> Result<Self, Errno> {
        let base = NonNull::new(base).ok_or(Errno::NOMEM)?;
        Ok(Self { base, length })
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `length` bytes long, initialized by the kernel, and lives as long
        // as `self`, which is borrowed exclusively. Nobody accesses the file's memory through
        // another mapping meanwhile: the contenders take turns on one thread.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and no slice of it outlives `self`.
        // A failure would leave the mapping in place, which is safe.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}
