//! Apertures: guest memory mapped into this process, contiguous whatever regions it spans.

use std::fmt;

use vm_memory::{GuestAddress, VolatileSlice};

use super::{GuestMemory, MemoryError};

/// Guest memory mapped into this process. Dropping it takes the mapping away.
///
/// It is always memory: when the client takes a part of the range away, private zero pages are there
/// instead, and when it gives the same range of the same file back, guest memory is.
pub struct Aperture {
    _private: (),
}

impl Aperture {
    /// The first byte, that of the guest address that was asked for.
    ///
    /// Valid for [`Aperture::len`] bytes as long as this value lives. The guest writes the memory at
    /// any time: through the pointer only volatile or atomic accesses are sound in Rust.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        std::ptr::null_mut()
    }

    /// Length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an aperture is never empty")]
    pub fn len(&self) -> usize {
        0
    }

    /// The memory, for access from Rust.
    ///
    /// Writing to a write-protected aperture's slice ends the process: look at
    /// [`Aperture::is_write_protected`].
    #[must_use]
    pub fn as_volatile_slice(&self) -> VolatileSlice<'_> {
        VolatileSlice::from(&mut [][..])
    }

    /// Whether it was created for reading only.
    #[must_use]
    pub fn is_write_protected(&self) -> bool {
        true
    }
}

impl fmt::Debug for Aperture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aperture").finish_non_exhaustive()
    }
}

impl GuestMemory {
    /// Maps `length` bytes of guest memory from `address` into this process; neither needs to be
    /// page aligned.
    ///
    /// # Errors
    /// [`MemoryError`]: not (wholly) guest memory, read-only memory without `write_protected`,
    /// memory that came without a descriptor, an empty range, or a mapping that failed.
    pub fn aperture(
        &self,
        address: GuestAddress,
        _length: usize,
        _write_protected: bool,
    ) -> Result<Aperture, MemoryError> {
        Err(MemoryError::NotMapped(address))
    }
}
