//! A range of this process's addresses that belongs to one value, and what is mapped there. The only
//! place that maps memory, but for the repair of a fault (`fault`).

use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::fault::{self, Loss, Registration};

/// Whole pages. Losing the file behind them is survived and noted.
pub(super) struct Pages {
    base: NonNull<u8>,
    length: usize,
    writeable: bool,
    /// `None` only while it is being made.
    registration: Option<Registration>,
}

// SAFETY: the pages are plain shared memory that belongs to this value until it is dropped; all
// access goes through `VolatileSlice` or raw pointers, which do not assume that they are the only
// accessors.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// `length` bytes of `file` from `offset`, shared.
    ///
    /// # Errors
    /// What the kernel says, `EINVAL` for one when `offset` is not page aligned or there are no
    /// bytes.
    pub(super) fn of_file(
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
        writeable: bool,
        loss: &Arc<Loss>,
    ) -> Result<Self, Errno> {
        // SAFETY: the kernel chooses an unused address, so no memory of ours is replaced.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                protection(writeable),
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                offset,
            )
        }?;
        Self::registered(base.cast(), length, writeable, loss)
    }

    /// `length` private zero bytes, which cost memory once they are written.
    ///
    /// # Errors
    /// As [`Pages::of_file`].
    pub(super) fn private(length: usize, writeable: bool, loss: &Arc<Loss>) -> Result<Self, Errno> {
        // SAFETY: as in `of_file`.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                protection(writeable),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        Self::registered(base.cast(), length, writeable, loss)
    }

    fn registered(
        base: *mut u8,
        length: usize,
        writeable: bool,
        loss: &Arc<Loss>,
    ) -> Result<Self, Errno> {
        let mut pages = Self {
            base: NonNull::new(base).ok_or(Errno::NOMEM)?,
            length,
            writeable,
            registration: None,
        };
        let start = base.addr();
        pages.registration = Some(fault::register(start..start + length, writeable, loss)?);
        Ok(pages)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn is_writeable(&self) -> bool {
        self.writeable
    }

    /// Puts `length` bytes of `file` from `offset` in the place of what is at `at`, in one step for
    /// who accesses it meanwhile. `at` and `length` must be multiples of the page size.
    ///
    /// # Errors
    /// `EINVAL` outside the pages; otherwise what the kernel says.
    pub(super) fn place_file(
        &self,
        at: usize,
        length: usize,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Result<(), Errno> {
        let to = self.inside(at, length)?;
        // SAFETY: the range was just checked to be ours, and stays mapped with the same
        // rights. Only raw pointers and volatile slices refer to it.
        unsafe {
            mmap(
                to.as_ptr().cast(),
                length,
                protection(self.writeable),
                MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
                file,
                offset,
            )
        }?;
        Ok(())
    }

    /// As [`Pages::place_file`], with private zero bytes.
    ///
    /// # Errors
    /// As [`Pages::place_file`].
    pub(super) fn place_private(&self, at: usize, length: usize) -> Result<(), Errno> {
        let to = self.inside(at, length)?;
        // SAFETY: as in `place_file`.
        unsafe {
            mmap_anonymous(
                to.as_ptr().cast(),
                length,
                protection(self.writeable),
                MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
            )
        }?;
        Ok(())
    }

    fn inside(&self, at: usize, length: usize) -> Result<NonNull<u8>, Errno> {
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(Errno::INVAL);
        }
        // SAFETY: `at` was just checked to lie in the pages.
        Ok(unsafe { self.base.add(at) })
    }
}

fn protection(writeable: bool) -> ProtFlags {
    let mut protection = ProtFlags::READ;
    protection.set(ProtFlags::WRITE, writeable);
    protection
}

impl Drop for Pages {
    fn drop(&mut self) {
        // Before somebody else's memory can be there.
        drop(self.registration.take());
        // SAFETY: the range is the one `mmap` returned, and nothing that refers to it outlives
        // `self`. A failure would leave it mapped, which is safe.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("length", &self.length)
            .field("writeable", &self.writeable)
            .finish_non_exhaustive()
    }
}
