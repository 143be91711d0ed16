//! A range of this process's addresses that belongs to one value, and what is mapped there. The only
//! place that maps memory, but for the repair of a fault (`fault`).

use std::ffi::c_void;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap, mmap_anonymous, mremap_fixed, munmap};

use super::fault::{self, Loss, Registration};

/// Most bytes of address space for all of them together: half of what four levels of page tables give a
/// process. A file costs nothing where it is empty, so one client could otherwise take all of it, and this
/// process could not even start a thread any more.
const MAX_MAPPED: usize = 1 << 46;

/// The kernel's default of `vm.max_map_count`, for where it cannot be read.
const DEFAULT_MAX_MAP_COUNT: usize = 65_530;

/// `f_type` of a file system of huge pages (`HUGETLBFS_MAGIC`).
const HUGE_PAGES: i128 = 0x9584_58f6;

/// Whole pages. Losing the file behind them is survived and noted.
pub(super) struct Pages {
    base: NonNull<u8>,
    length: usize,
    writeable: bool,
    /// Dropped first: withdrawn before somebody else's memory can be there.
    _registration: Registration,
    _mapped: Mapped,
}

// SAFETY: the pages are plain shared memory that belongs to this value until it is dropped; all
// access goes through `VolatileSlice` or raw pointers, which do not assume that they are the only
// accessors.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

/// Addresses that are mapped until this is dropped.
struct Mapped {
    start: NonNull<u8>,
    reserved: Reserved,
}

impl Mapped {
    /// What `map` maps, `length` bytes, of which the kernel will have made up to so many `pieces`.
    fn new(
        length: usize,
        pieces: usize,
        map: impl FnOnce() -> Result<*mut c_void, Errno>,
    ) -> Result<Self, Errno> {
        let reserved = Reserved::new(length, pieces)?;
        let start = NonNull::new(map()?.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, reserved })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the range is the one `mmap` returned, and nothing that refers to it outlives
        // `self`. A failure would leave it mapped, which is safe.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.reserved.length) };
    }
}

/// A share of what this process can map.
struct Reserved {
    length: usize,
    pieces: usize,
}

/// Bytes that are reserved, of [`MAX_MAPPED`].
static LENGTHS: AtomicUsize = AtomicUsize::new(0);

/// Mappings of the kernel's that are reserved, of [`max_pieces`].
static PIECES: AtomicUsize = AtomicUsize::new(0);

impl Reserved {
    fn new(length: usize, pieces: usize) -> Result<Self, Errno> {
        reserve(&LENGTHS, length, MAX_MAPPED)?;
        // From here on it is given back.
        let mut reserved = Self { length, pieces: 0 };
        reserve(&PIECES, pieces, max_pieces())?;
        reserved.pieces = pieces;
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        LENGTHS.fetch_sub(self.length, Ordering::Relaxed);
        PIECES.fetch_sub(self.pieces, Ordering::Relaxed);
    }
}

fn reserve(all: &AtomicUsize, more: usize, most: usize) -> Result<(), Errno> {
    all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
        all.checked_add(more).filter(|all| *all <= most)
    })
    .map(|_| ())
    .map_err(|_| Errno::NOMEM)
}

/// Most mappings of the kernel's for all pages together: three quarters of what a process may have. Without
/// the rest it could not start a thread, nor repair what a file that shrinks leaves.
fn max_pieces() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        limit.unwrap_or(DEFAULT_MAX_MAP_COUNT) / 4 * 3
    })
}

/// How the kernel maps a file: in pieces of how many bytes, huge pages or 1.
///
/// It rounds the length of a mapping of huge pages up without a word, and refuses to unmap or replace
/// a part of one.
fn granule(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let status = rustix::fs::fstatfs(file)?;
    if i128::from(status.f_type) != HUGE_PAGES {
        return Ok(1);
    }
    u64::try_from(status.f_bsize).map_err(|_| Errno::INVAL)
}

/// Whether a file is of huge pages, of which [`Pages::place_file`] cannot place a part.
///
/// # Errors
/// What the kernel says.
pub(super) fn is_of_huge_pages(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(granule(file)? != 1)
}

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
        // Whole huge pages, whatever part of them was asked for.
        let granule = granule(file)?;
        let before = offset.checked_rem(granule).ok_or(Errno::INVAL)?;
        let skipped = usize::try_from(before).map_err(|_| Errno::INVAL)?;
        let whole = usize::try_from(granule)
            .ok()
            .and_then(|granule| {
                skipped
                    .checked_add(length)?
                    .checked_next_multiple_of(granule)
            })
            .filter(|_| length > 0)
            .ok_or(Errno::INVAL)?;
        let mapped = Mapped::new(whole, 1, || {
            map_anywhere(file, offset - before, whole, writeable)
        })?;
        Self::registered(mapped, skipped, length, writeable, loss)
    }

    /// `length` private zero bytes, which cost memory once they are written. So many `pieces` of files
    /// will be placed in them.
    ///
    /// # Errors
    /// As [`Pages::of_file`].
    pub(super) fn private(
        length: usize,
        pieces: usize,
        writeable: bool,
        loss: &Arc<Loss>,
    ) -> Result<Self, Errno> {
        let mapped = Mapped::new(length, pieces, || {
            // SAFETY: the kernel chooses an unused address, so no memory of ours is replaced.
            unsafe {
                mmap_anonymous(
                    ptr::null_mut(),
                    length,
                    protection(writeable),
                    MapFlags::PRIVATE | MapFlags::NORESERVE,
                )
            }
        })?;
        Self::registered(mapped, 0, length, writeable, loss)
    }

    /// `length` bytes of what is mapped, from `skipped`.
    fn registered(
        mapped: Mapped,
        skipped: usize,
        length: usize,
        writeable: bool,
        loss: &Arc<Loss>,
    ) -> Result<Self, Errno> {
        let start = mapped.start.addr().get();
        let registration = fault::register(start..start + mapped.reserved.length, writeable, loss)?;
        Ok(Self {
            // SAFETY: `skipped` lies in what is mapped.
            base: unsafe { mapped.start.add(skipped) },
            length,
            writeable,
            _registration: registration,
            _mapped: mapped,
        })
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
    /// `EINVAL` outside the pages, `EOPNOTSUPP` for a file of huge pages; otherwise what the kernel says.
    /// It is memory all the same then.
    pub(super) fn place_file(
        &self,
        at: usize,
        length: usize,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Result<(), Errno> {
        let to = self.inside(at, length)?;
        if is_of_huge_pages(file)? {
            return Err(Errno::OPNOTSUPP);
        }
        // Elsewhere first. Mapping it there at once would leave a hole if the file, which is a client's,
        // refuses; what comes to lie in the hole would be unmapped with these pages.
        let piece = map_anywhere(file, offset, length, self.writeable)?;
        // SAFETY: the piece is ours. The range was just checked to be ours too, and stays mapped with
        // the same rights. Only raw pointers and volatile slices refer to it.
        let moved = unsafe {
            mremap_fixed(
                piece,
                length,
                length,
                MremapFlags::MAYMOVE,
                to.as_ptr().cast(),
            )
        };
        let Err(error) = moved else {
            return Ok(());
        };
        // SAFETY: nothing refers to the piece.
        let _ = unsafe { munmap(piece, length) };
        // What was there may be gone.
        self.place_private(at, length)?;
        Err(error)
    }

    /// As [`Pages::place_file`], with private zero bytes.
    ///
    /// # Errors
    /// As [`Pages::place_file`].
    pub(super) fn place_private(&self, at: usize, length: usize) -> Result<(), Errno> {
        let to = self.inside(at, length)?;
        // SAFETY: the range was just checked to be ours, as in `place_file`.
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

/// Maps `length` bytes of a file where the kernel finds room. The caller unmaps them.
fn map_anywhere(
    file: BorrowedFd<'_>,
    offset: u64,
    length: usize,
    writeable: bool,
) -> Result<*mut c_void, Errno> {
    // SAFETY: the kernel chooses an unused address, so no memory of ours is replaced.
    unsafe {
        mmap(
            ptr::null_mut(),
            length,
            protection(writeable),
            MapFlags::SHARED | MapFlags::NORESERVE,
            file,
            offset,
        )
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::MemfdFlags;

    use super::*;

    const PAGE: usize = 4096;
    const HUGE: usize = 2 << 20;

    /// A file of this many huge pages. Nothing touches them: there may be none to be had.
    fn huge(pages: usize) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        let file = rustix::fs::memfd_create("huge", flags).unwrap();
        rustix::fs::ftruncate(&file, (pages * HUGE) as u64).unwrap();
        file
    }

    fn inode(file: &OwnedFd) -> String {
        rustix::fs::fstat(file).unwrap().st_ino.to_string()
    }

    /// How many bytes of a file this process has mapped.
    fn mapped(file: &OwnedFd) -> usize {
        let inode = inode(file);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let lines = maps.lines().filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            (words.get(4) == Some(&inode.as_str())).then_some(words[0])
        });
        lines
            .map(|range| {
                let (start, end) = range.split_once('-').unwrap();
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                number(end) - number(start)
            })
            .sum()
    }

    #[test]
    fn huge_pages_are_mapped_and_given_back_whole() {
        let file = huge(2);
        let loss = Arc::new(Loss::new());
        for (offset, length, whole) in [
            (0, PAGE, HUGE),
            (PAGE, PAGE, HUGE),
            (HUGE - PAGE, 2 * PAGE, 2 * HUGE),
            (HUGE, HUGE, HUGE),
        ] {
            let pages = Pages::of_file(file.as_fd(), offset as u64, length, true, &loss).unwrap();
            assert_eq!(mapped(&file), whole, "{length:#x} at {offset:#x}");
            assert_eq!(pages.base().addr().get() % HUGE, offset % HUGE);
            assert_eq!(pages.length(), length);
            drop(pages);
            assert_eq!(mapped(&file), 0);
        }
    }

    #[test]
    fn what_cannot_be_placed_leaves_memory_there() {
        let file = huge(2);
        let loss = Arc::new(Loss::new());
        // Somewhere in it a huge page could begin.
        let pages = Pages::private(2 * HUGE, 1, true, &loss).unwrap();
        let at = pages.base().addr().get().next_multiple_of(HUGE) - pages.base().addr().get();
        // SAFETY: both lie in the pages, which are writeable.
        let [first, beyond] = unsafe { [at, at + PAGE].map(|at| pages.base().add(at).as_ptr()) };
        for offset in [0, PAGE, HUGE] {
            for address in [first, beyond] {
                // SAFETY: as above.
                unsafe { address.write_volatile(7) };
            }
            let placed = pages.place_file(at, PAGE, file.as_fd(), offset as u64);
            assert_eq!(placed, Err(Errno::OPNOTSUPP));
            for address in [first, beyond] {
                // SAFETY: as above.
                assert_eq!(unsafe { address.read_volatile() }, 7);
            }
        }
        assert_eq!(mapped(&file), 0);
    }

    #[test]
    fn mappings_are_left_for_others() {
        let loss = Arc::new(Loss::new());
        let most = max_pieces();
        // All but a few, which are for the other tests of this process.
        let all = Pages::private(PAGE, most - most / 8, true, &loss).unwrap();
        let error = Pages::private(PAGE, most / 8 + 1, true, &loss).unwrap_err();
        assert_eq!(error, Errno::NOMEM);
        drop(all);
        assert!(Pages::private(PAGE, most / 8 + 1, true, &loss).is_ok());
    }

    #[test]
    fn address_space_is_left_for_others() {
        let file = rustix::fs::memfd_create("sparse", MemfdFlags::CLOEXEC).unwrap();
        // Some is left for the other tests of this process.
        let length = MAX_MAPPED / 8 - (1 << 30);
        rustix::fs::ftruncate(&file, length as u64).unwrap();
        let loss = Arc::new(Loss::new());
        let map = || Pages::of_file(file.as_fd(), 0, length, true, &loss);
        let all: Vec<_> = (0..9).map_while(|_| map().ok()).collect();
        assert!((1..9).contains(&all.len()), "{}", all.len());
        assert_eq!(map().unwrap_err(), Errno::NOMEM);
        drop(all);
        assert!(map().is_ok());
    }
}
