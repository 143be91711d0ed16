//! Apertures: guest memory mapped into this process, contiguous whatever regions it spans. How they follow
//! when memory goes and comes is in `watch`.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

use hdv_vfio_user::limits::PAGE_SIZE;
use rustix::io::Errno;
use vm_memory::{GuestAddress, VolatileSlice};

use super::files::Source;
use super::map::{Backing, Piece, RegionMap};
use super::pages::Pages;
use super::watch::{self, Part, Shown};
use super::{GuestMemory, MemoryError, none_at_all};

/// Guest memory mapped into this process. Dropping it takes the mapping away.
///
/// It is always memory: when the client takes a part of the range away, private zero pages are there
/// instead, and what is written to them is lost. When the client gives the same range of the same file
/// back, with rights that suffice, guest memory is there again. Once the client has left, or its memory file
/// has shrunk, the pages are private for good.
///
/// It may outlive its device and every handle of its memory.
///
/// A thread that accesses it must not have SIGBUS blocked, or the kernel ends the process where the client's
/// file has shrunk. The thread that creates an aperture, and every one that reads or writes guest memory, has
/// it unblocked by that.
pub struct Aperture {
    memory: GuestMemory,
    /// Among the memory's apertures.
    id: u64,
    pages: Arc<Pages>,
    address: GuestAddress,
    /// Of the first byte in the pages.
    offset: usize,
    length: usize,
}

impl Aperture {
    /// The first byte, that of the guest address that was asked for.
    ///
    /// Valid for [`Aperture::len`] bytes as long as this value lives. The guest writes the memory at
    /// any time: through the pointer only volatile or atomic accesses are sound in Rust.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.pages.base().as_ptr().wrapping_add(self.offset)
    }

    /// The guest address of the first byte.
    #[must_use]
    pub fn address(&self) -> GuestAddress {
        self.address
    }

    /// Length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an aperture is never empty")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// The memory, for access from Rust.
    ///
    /// Writing to a write-protected aperture's slice ends the process: look at
    /// [`Aperture::is_write_protected`].
    #[must_use]
    pub fn as_volatile_slice(&self) -> VolatileSlice<'_> {
        // SAFETY: `offset..offset + length` lies in the pages, which are mapped as long as `self`, and so
        // the slice, lives.
        unsafe { VolatileSlice::new(self.as_ptr(), self.length) }
    }

    /// Whether it was created for reading only.
    #[must_use]
    pub fn is_write_protected(&self) -> bool {
        !self.pages.is_writeable()
    }
}

impl fmt::Debug for Aperture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aperture")
            .field("address", &self.address)
            .field("length", &self.length)
            .field("write_protected", &self.is_write_protected())
            .finish_non_exhaustive()
    }
}

impl Drop for Aperture {
    fn drop(&mut self) {
        self.memory.upkeep().apertures.remove(self.id);
    }
}

impl GuestMemory {
    /// Maps `length` bytes of guest memory from `address` into this process; neither needs to be
    /// page aligned.
    ///
    /// # Errors
    /// [`MemoryError`]: not (wholly) guest memory, read-only memory without `write_protected`,
    /// memory that came without a descriptor (or in more than 16 files) or in huge pages, an empty range or one that wraps,
    /// memory that is lost, or a mapping that failed.
    pub fn aperture(
        &self,
        address: GuestAddress,
        length: usize,
        write_protected: bool,
    ) -> Result<Aperture, MemoryError> {
        let last = (length as u64)
            .checked_sub(1)
            .and_then(|span| address.0.checked_add(span))
            .ok_or(MemoryError::BadRange { address, length })?;
        let failed = |reason| MemoryError::MappingFailed { address, reason };
        let start = address.0 - address.0 % PAGE_SIZE;
        let last = last | (PAGE_SIZE - 1);
        let whole = usize::try_from(last - start)
            .ok()
            .and_then(|span| span.checked_add(1));

        // The map does not change while this is locked.
        let mut settled = self.settled();
        // Mapping takes a while, and nobody should wait for the map's guard so long.
        let (whole, parts, loss) = self.with_map(|owner, map| {
            check(map, address, length, write_protected)?;
            owner.not_lost(address)?;
            let whole = whole.ok_or_else(|| failed(Errno::NOMEM))?;
            let parts = parts(map, start, whole)?;
            Ok::<_, MemoryError>((whole, parts, Arc::clone(&owner.shared.loss)))
        })?;
        let pages = Pages::private(whole, parts.len(), !write_protected, &loss).map_err(failed)?;
        let mut at = 0;
        for part in &parts {
            let length = watch::length(part.start, part.last).map_err(failed)?;
            pages
                .place_file(at, length, part.source.file.as_fd(), part.source.offset)
                .map_err(failed)?;
            at += length;
        }
        let pages = Arc::new(pages);
        let id = settled.own.apertures.add(Shown {
            pages: Arc::clone(&pages),
            start,
            last,
            parts,
        });
        Ok(Aperture {
            memory: self.clone(),
            id,
            pages,
            address,
            offset: usize::try_from(address.0 - start).map_err(|_| failed(Errno::NOMEM))?,
            length,
        })
    }
}

/// Whether the range can be shown.
fn check(
    map: &RegionMap,
    address: GuestAddress,
    length: usize,
    write_protected: bool,
) -> Result<(), MemoryError> {
    let rights = watch::rights(!write_protected);
    map.pieces(address.0, length, |piece| {
        super::allowed(&piece, rights)?;
        source(&piece).map(|_| ())
    })
    .map_err(|error| none_at_all(map, error))
}

/// What a piece can be mapped from.
fn source<'a>(piece: &Piece<'a>) -> Result<&'a Source, MemoryError> {
    let address = GuestAddress(piece.region.start + piece.offset);
    let source = match &piece.region.backing {
        Backing::Mapped(backed) => backed.source.as_ref(),
        Backing::Messages => None,
    }
    .ok_or(MemoryError::NoDescriptor(address))?;
    if source.file.is_of_huge_pages() {
        return Err(MemoryError::HugePages(address));
    }
    Ok(source)
}

/// The files of whole pages; regions with files are made of such.
fn parts(map: &RegionMap, start: u64, length: usize) -> Result<Vec<Part>, MemoryError> {
    let mut parts = Vec::new();
    map.pieces(start, length, |piece| {
        let start = piece.region.start + piece.offset;
        let source = source(&piece)?;
        parts.push(Part {
            start,
            last: start + (piece.buffer.len() as u64 - 1),
            source: Source {
                file: Arc::clone(&source.file),
                offset: source.offset + piece.offset,
            },
            shown: true,
        });
        Ok::<_, MemoryError>(())
    })?;
    Ok(parts)
}
