//! What of a function's BARs is answered without calling the device: doorbells, whose writes signal
//! an event, and sections, ranges backed by a file.
//!
//! [`Mmio`] is the device's handle. The transport looks here before every call into the device. The
//! MSI-X table and pending-bit array, which have the right of way over sections, are not here.

mod doorbell;
mod section;

use std::fmt;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use hdv_pci::BarIndex;
use hdv_vfio_user::backend::SparseArea;
use rustix::io::Errno;

pub use doorbell::{AccessSize, Doorbell};
pub use section::{Section, SectionFlags};

use crate::access::BarAccess;

/// Why a doorbell or a section could not be had, or not be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MmioError {
    /// A range that is empty, misaligned, wraps, or leaves its BAR.
    #[error("offset {offset:#x} of {bar}, {length:#x} bytes: {problem}")]
    Range {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same doorbell is registered, or another section overlaps.
    #[error("offset {offset:#x} of {bar} is taken")]
    Taken {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
    },
    /// There is no such doorbell or section.
    #[error("there is nothing at offset {offset:#x} of {bar}")]
    NotFound {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
    },
    /// The client has mapped the section and cannot be made to give it back.
    #[error(
        "offset {offset:#x} of {bar} is mapped by the client: it is free when the client has left"
    )]
    Mapped {
        /// Which BAR.
        bar: BarIndex,
        /// Offset in the BAR, in bytes.
        offset: u64,
    },
    /// The descriptor is not an eventfd.
    #[error("a doorbell's event must be an eventfd")]
    NotAnEvent,
    /// The descriptor cannot be mapped, or does not have the range.
    #[error("the section's file cannot be mapped: {0}")]
    File(Errno),
    /// The function has been torn down.
    #[error("the device is gone")]
    Gone,
}

/// What a client may map of a BAR: one file, `offset` its byte that is the BAR's first, and areas.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) file: Arc<OwnedFd>,
    pub(crate) offset: u64,
    /// Sorted, whole pages, never empty.
    pub(crate) areas: Vec<SparseArea>,
}

/// A doorbell as a client may be given it (GET_REGION_IO_FDS).
#[derive(Clone, Debug)]
pub(crate) struct OfferedDoorbell {
    pub(crate) doorbell: Doorbell,
    pub(crate) event: Arc<OwnedFd>,
}

/// The handle through which a device places doorbells and sections into its BARs. Clones
/// act on the same function; usable from any thread, also inside a call into the device.
///
/// Everything placed here is released when the device is torn down.
#[derive(Clone)]
pub struct Mmio {
    _shared: Arc<()>,
}

impl Mmio {
    /// Nothing placed, and no BAR known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            _shared: Arc::new(()),
        }
    }

    /// Registers a doorbell: a guest's write that it matches signals `event` and is discarded; the
    /// device is not called. `event`, an eventfd, is duplicated.
    ///
    /// # Errors
    /// [`MmioError`].
    pub fn register_doorbell(
        &self,
        _doorbell: Doorbell,
        _event: BorrowedFd<'_>,
    ) -> Result<(), MmioError> {
        Err(MmioError::Gone)
    }

    /// Takes a doorbell back.
    ///
    /// # Errors
    /// [`MmioError::NotFound`].
    pub fn unregister_doorbell(&self, _doorbell: &Doorbell) -> Result<(), MmioError> {
        Err(MmioError::Gone)
    }

    /// Registers a whole page of 4096 bytes, number `page` of the BAR: any write of any size to it that no
    /// [`Doorbell`] matches signals `event` and is discarded.
    ///
    /// # Errors
    /// [`MmioError`].
    pub fn register_doorbell_page(
        &self,
        _bar: BarIndex,
        _page: u64,
        _event: BorrowedFd<'_>,
    ) -> Result<(), MmioError> {
        Err(MmioError::Gone)
    }

    /// Takes a doorbell page back.
    ///
    /// # Errors
    /// [`MmioError::NotFound`].
    pub fn unregister_doorbell_page(&self, _bar: BarIndex, _page: u64) -> Result<(), MmioError> {
        Err(MmioError::Gone)
    }

    /// Backs a range of a BAR with a range of `file`, which is duplicated.
    ///
    /// # Errors
    /// [`MmioError`].
    pub fn create_section(
        &self,
        _section: Section,
        _file: BorrowedFd<'_>,
    ) -> Result<(), MmioError> {
        Err(MmioError::Gone)
    }

    /// Takes the section that begins at `offset` of the BAR, in bytes, back.
    ///
    /// # Errors
    /// [`MmioError::NotFound`], [`MmioError::Mapped`].
    pub fn destroy_section(&self, _bar: BarIndex, _offset: u64) -> Result<(), MmioError> {
        Err(MmioError::Gone)
    }

    /// Says how large the BARs are, in bytes, and where interrupt tables lie, whose pages are never offered to a
    /// client and whose bytes no section answers. Known from power-on; what was placed before
    /// and does not fit is never reached.
    pub fn set_layout(
        &self,
        _bar_sizes: [u64; BarIndex::ALL.len()],
        _tables: Vec<(BarIndex, Range<u64>)>,
    ) {
    }

    /// Whether nothing at all is placed: the answer of most functions, without a search.
    pub(crate) fn is_empty(&self) -> bool {
        true
    }

    /// Answers a read from a section, unless an interrupt table is there; false if there is none.
    pub(crate) fn read(&self, _access: BarAccess, _data: &mut [u8]) -> bool {
        false
    }

    /// Carries out a write that a doorbell or a section takes, interrupt tables excepted from the
    /// latter; false if none does.
    pub(crate) fn write(&self, _access: BarAccess, _data: &[u8]) -> bool {
        false
    }

    /// As [`Mmio::read`], interrupt tables included: for a function whose device keeps them in a section.
    pub(crate) fn read_section(&self, _access: BarAccess, _data: &mut [u8]) -> bool {
        false
    }

    /// Writes a section, interrupt tables included and whatever the guest may write: for the host's own
    /// writes to an interrupt table.
    pub(crate) fn write_section(&self, _access: BarAccess, _data: &[u8]) -> bool {
        false
    }

    /// What this client may map of a BAR. Once asked, the answer holds until
    /// [`Mmio::client_left`], and what it names counts as mapped.
    pub(crate) fn offer(&self, _bar: BarIndex) -> Option<Arc<Offer>> {
        None
    }

    /// Doorbells of a BAR that a client may signal itself.
    pub(crate) fn offered_doorbells(&self, _bar: BarIndex) -> Vec<OfferedDoorbell> {
        Vec::new()
    }

    /// The client is gone and has nothing mapped any more.
    pub(crate) fn client_left(&self) {}

    /// The function has been torn down: releases everything and refuses anything new.
    pub(crate) fn close(&self) {}
}

impl Default for Mmio {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Mmio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mmio").finish_non_exhaustive()
    }
}
