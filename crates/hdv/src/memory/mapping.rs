//! One range of a file, mapped into this process.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;
use vm_memory::VolatileSlice;

use super::fault::Loss;
use super::pages::Pages;

/// A shared mapping. It does not keep the file's descriptor: a client may map thousands of ranges,
/// and descriptors are scarcer than mappings.
///
/// When the file shrinks, accesses find zeros from then on, writes are lost, and
/// [`Mapping::is_lost`] says so.
pub(crate) struct Mapping {
    pages: Pages,
    loss: Arc<Loss>,
}

impl Mapping {
    /// Maps `length` bytes of `file` from `offset`.
    ///
    /// # Errors
    /// `EINVAL` when the range does not lie in the file or is not page aligned, otherwise what the
    /// kernel says.
    pub(crate) fn new(
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
        writeable: bool,
    ) -> Result<Self, Errno> {
        Self::sharing_loss(file, offset, length, writeable, &Arc::new(Loss::new()))
    }

    /// [`Mapping::new`] for several mappings that are lost together.
    ///
    /// # Errors
    /// As [`Mapping::new`].
    pub(super) fn sharing_loss(
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
        writeable: bool,
        loss: &Arc<Loss>,
    ) -> Result<Self, Errno> {
        let end = offset.checked_add(length).ok_or(Errno::INVAL)?;
        let status = rustix::fs::fstat(file)?;
        if u64::try_from(status.st_size).unwrap_or(0) < end {
            return Err(Errno::INVAL);
        }
        let length = usize::try_from(length).map_err(|_| Errno::NOMEM)?;
        Ok(Self {
            pages: Pages::of_file(file, offset, length, writeable, loss)?,
            loss: Arc::clone(loss),
        })
    }

    /// `length` bytes from `offset`, if they lie in the mapping.
    pub(crate) fn slice(&self, offset: u64, length: usize) -> Option<VolatileSlice<'_>> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(length)? > self.pages.length() {
            return None;
        }
        // SAFETY: `offset..offset + length` was just checked to lie in the mapping, which lives
        // as long as the borrow of `self` that the slice carries. Callers write only where
        // the region's rights, with which it was mapped, allow it.
        Some(unsafe { VolatileSlice::new(self.pages.base().as_ptr().add(offset), length) })
    }

    /// Whether the file shrank so that an access met its end.
    pub(crate) fn is_lost(&self) -> bool {
        self.loss.is_lost()
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("length", &self.pages.length())
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::MemfdFlags;
    use vm_memory::Bytes;

    use super::*;

    const PAGE: u64 = 4096;

    fn file(size: u64) -> std::os::fd::OwnedFd {
        let file = rustix::fs::memfd_create("mapping", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, size).unwrap();
        rustix::io::pwrite(&file, &[7; 4096], 0).unwrap();
        file
    }

    fn byte(mapping: &Mapping, offset: u64) -> u8 {
        let mut byte = [0];
        mapping.slice(offset, 1).unwrap().copy_to(&mut byte);
        byte[0]
    }

    #[test]
    fn a_file_that_shrinks_costs_its_mapping_only() {
        for writeable in [false, true] {
            let (shrinks, stays) = (file(4 * PAGE), file(PAGE));
            let lost = Mapping::new(shrinks.as_fd(), 0, 4 * PAGE, writeable).unwrap();
            let kept = Mapping::new(stays.as_fd(), 0, PAGE, writeable).unwrap();
            assert_eq!(byte(&lost, 8), 7);
            rustix::fs::ftruncate(&shrinks, 2 * PAGE).unwrap();
            assert_eq!(byte(&lost, 8), 7);
            assert_eq!(byte(&lost, 2 * PAGE - 1), 0);
            assert!(!lost.is_lost(), "nobody has met the end");
            assert_eq!(byte(&lost, 2 * PAGE), 0);
            assert!(lost.is_lost());
            // All of it is private now, and goes on as memory.
            assert_eq!(byte(&lost, 8), 0);
            if writeable {
                lost.slice(3 * PAGE, 4)
                    .unwrap()
                    .write_obj(5_u32, 0)
                    .unwrap();
                assert_eq!(byte(&lost, 3 * PAGE), 5);
                lost.slice(0, 1).unwrap().copy_from(&[9_u8]);
            }
            let mut in_file = [0];
            rustix::io::pread(&shrinks, &mut in_file, 0).unwrap();
            assert_eq!(in_file, [7]);
            assert!(!kept.is_lost());
            assert_eq!(byte(&kept, 8), 7);
        }
    }

    #[test]
    fn a_write_beyond_the_end_is_survived() {
        let shrinks = file(2 * PAGE);
        let lost = Mapping::new(shrinks.as_fd(), PAGE, PAGE, true).unwrap();
        rustix::fs::ftruncate(&shrinks, 0).unwrap();
        lost.slice(4, 4).unwrap().write_obj(5_u32, 0).unwrap();
        assert!(lost.is_lost());
        assert_eq!(byte(&lost, 4), 5);
    }

    #[test]
    fn many_threads_meet_one_loss() {
        let shrinks = file(64 * PAGE);
        let lost = Mapping::new(shrinks.as_fd(), 0, 64 * PAGE, true).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let lost = &lost;
                scope.spawn(move || {
                    while !lost.is_lost() {
                        for page in 0..64 {
                            byte(lost, (page * (thread + 1)) % 64 * PAGE);
                        }
                    }
                });
            }
            rustix::fs::ftruncate(&shrinks, 0).unwrap();
        });
        assert!(lost.is_lost());
    }

    #[test]
    fn thousands_of_mappings_are_told_apart() {
        let files = [file(2 * PAGE), file(2 * PAGE)];
        let mappings: Vec<_> = (0..4000_usize)
            .map(|index| {
                // No two neighbours of one file, so that the kernel joins none.
                Mapping::new(files[index % 2].as_fd(), PAGE, PAGE, true).unwrap()
            })
            .collect();
        rustix::fs::ftruncate(&files[1], PAGE).unwrap();
        for mapping in mappings.iter().skip(1).step_by(4) {
            byte(mapping, 0);
        }
        for (index, mapping) in mappings.iter().enumerate() {
            byte(mapping, 0);
            assert_eq!(mapping.is_lost(), index % 2 == 1);
        }
    }
}
