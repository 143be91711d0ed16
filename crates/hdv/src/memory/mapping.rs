//! One range of a file, mapped into this process. The only place that maps guest memory.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vm_memory::VolatileSlice;

/// A shared mapping of `length` bytes. It does not keep the file's descriptor: a client may
/// map thousands of ranges, and descriptors are scarcer than mappings.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is plain shared memory that belongs to this value until it is dropped; all
// access goes through `VolatileSlice`, which does not assume that it is the only accessor.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `file` from `offset`.
    ///
    /// # Errors
    /// `EINVAL` when the range does not lie in the file (touching it would raise SIGBUS) or is not
    /// page aligned, otherwise what the kernel says.
    pub(crate) fn new(
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
        writeable: bool,
    ) -> Result<Self, Errno> {
        let end = offset.checked_add(length).ok_or(Errno::INVAL)?;
        let status = rustix::fs::fstat(file)?;
        if u64::try_from(status.st_size).unwrap_or(0) < end {
            return Err(Errno::INVAL);
        }
        let length = usize::try_from(length).map_err(|_| Errno::NOMEM)?;
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writeable);
        // SAFETY: the kernel chooses an unused address, so no memory of ours is replaced.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                offset,
            )
        }?;
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?,
            length,
        })
    }

    /// `length` bytes from `offset`, if they lie in the mapping.
    pub(crate) fn slice(&self, offset: u64, length: usize) -> Option<VolatileSlice<'_>> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(length)? > self.length {
            return None;
        }
        // SAFETY: `offset..offset + length` was just checked to lie in the mapping, which lives
        // as long as the borrow of `self` that the slice carries. Callers write only where
        // the region's rights, with which it was mapped, allow it.
        Some(unsafe { VolatileSlice::new(self.base.as_ptr().add(offset), length) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one `mmap` returned, and no slice of it outlives `self`.
        // A failure would leave the mapping in place, which is safe.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
