//! What a device model gives the server: the [`Backend`] trait and the values that cross it.
//!
//! Nothing here touches a socket or knows the wire format; nothing here knows PCI beyond the
//! region and interrupt indexes that VFIO fixes for it (those are in [`crate::vfio`]).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bitflags::bitflags;
use rustix::io::Errno;

use crate::server::Peer;

bitflags! {
    /// `VFIO_DEVICE_FLAGS_*` of DEVICE_GET_INFO.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceFlags: u32 {
        /// The device accepts DEVICE_RESET.
        const RESET = 1 << 0;
        /// The device is a PCI device.
        const PCI = 1 << 1;
    }

    /// `VFIO_REGION_INFO_FLAG_*`, without the CAPS flag, which the wire format derives.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RegionFlags: u32 {
        /// REGION_READ is allowed.
        const READ = 1 << 0;
        /// REGION_WRITE is allowed.
        const WRITE = 1 << 1;
    }

    /// `VFIO_IRQ_INFO_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IrqFlags: u32 {
        /// The interrupt can be signalled through an eventfd.
        const EVENTFD = 1 << 0;
        /// SET_IRQS accepts MASK and UNMASK.
        const MASKABLE = 1 << 1;
        /// The interrupt masks itself when it fires.
        const AUTOMASKED = 1 << 2;
        /// The whole set must be disabled before more sub-indexes are enabled.
        const NORESIZE = 1 << 3;
    }

    /// Access rights of a DMA mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DmaFlags: u32 {
        /// The server may read the range.
        const READ = 1 << 0;
        /// The server may write the range.
        const WRITE = 1 << 1;
    }
}

/// The reply to DEVICE_GET_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Kind of device and whether it can be reset.
    pub flags: DeviceFlags,
    /// Number of regions; valid indexes are below it.
    pub num_regions: u32,
    /// Number of interrupt indexes; valid indexes are below it.
    pub num_irqs: u32,
}

/// One region of the device, as its backend describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Size in bytes; 0 for a region that does not exist.
    pub size: u64,
    /// Which messages the region accepts.
    pub flags: RegionFlags,
}

/// The part of a region that a client may map itself: one file, one offset, areas within.
#[derive(Clone, Debug)]
pub struct RegionMapping {
    /// The file; the server sends a duplicate of the descriptor.
    pub file: Arc<OwnedFd>,
    /// Offset in the file of the region's first byte, in bytes.
    pub offset: u64,
    /// The areas that may be mapped, at most [`MAX_SPARSE_AREAS`](crate::limits::MAX_SPARSE_AREAS).
    /// Empty means the whole region.
    pub areas: Vec<SparseArea>,
}

/// One `vfio_region_sparse_mmap_area`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseArea {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

/// One ioeventfd of a region (GET_REGION_IO_FDS).
#[derive(Clone, Debug)]
pub struct IoEventFd {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Size of the access that signals, in bytes; 0 for any.
    pub size: u64,
    /// The value that signals; `None` for any.
    pub datamatch: Option<u64>,
    /// The eventfd; the server sends a duplicate of the descriptor.
    pub event: Arc<OwnedFd>,
}

/// One interrupt index (GET_IRQ_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irq {
    /// What SET_IRQS may do with it.
    pub flags: IrqFlags,
    /// Number of interrupts (sub-indexes).
    pub count: u32,
}

/// The action of SET_IRQS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqAction {
    /// Mask.
    Mask,
    /// Unmask.
    Unmask,
    /// Trigger, or set where to trigger to.
    Trigger,
}

/// The data of SET_IRQS, one element per sub-index of the range.
#[derive(Debug)]
pub enum IrqData<'a> {
    /// The action is carried out on every sub-index of the range.
    None,
    /// The action is carried out on the sub-indexes whose byte is not zero.
    Bool(&'a [u8]),
    /// The action is bound to these eventfds. Empty: what was bound is released.
    EventFds(Vec<OwnedFd>),
}

/// A SET_IRQS request whose range, flags and amount of data have been checked.
///
/// `start + count` is within the index's count. The request that disables a whole index
/// (DATA_NONE, TRIGGER, count 0) arrives as [`Backend::disable_irqs`] instead.
#[derive(Debug)]
pub struct IrqRequest<'a> {
    /// The interrupt index (see [`crate::vfio::irq`]).
    pub index: u32,
    /// First sub-index.
    pub start: u32,
    /// Number of sub-indexes, at least 1.
    pub count: u32,
    /// What to do.
    pub action: IrqAction,
    /// On which of them, or bound to which eventfds.
    pub data: IrqData<'a>,
}

/// A range of client memory (DMA_MAP).
#[derive(Debug)]
pub struct DmaMap {
    /// First DMA address.
    pub address: u64,
    /// Length in bytes; never 0, and `address + size` does not overflow.
    pub size: u64,
    /// Access rights.
    pub flags: DmaFlags,
    /// Offset of the range in `file`, in bytes.
    pub offset: u64,
    /// The file to map. `None`: the range is reached by DMA_READ and DMA_WRITE messages.
    pub file: Option<OwnedFd>,
}

/// A device model as a vfio-user server sees it.
///
/// One session calls one backend from one thread; the server has checked every length, index
/// and range against what the backend described, so a call never sees one outside it. An
/// `Err` becomes the errno of the reply and the connection lives on.
pub trait Backend {
    /// The device. Must not change during a session.
    fn device_info(&self) -> DeviceInfo;

    /// A region below `num_regions`. Must not change during a session.
    fn region(&self, index: u32) -> Region;

    /// What of the region the client may map; asked at each GET_REGION_INFO.
    fn region_mapping(&self, index: u32) -> Option<RegionMapping> {
        let _ = index;
        None
    }

    /// The region's ioeventfds; asked at each GET_REGION_IO_FDS.
    fn region_io_event_fds(&self, index: u32) -> Vec<IoEventFd> {
        let _ = index;
        Vec::new()
    }

    /// An interrupt index below `num_irqs`. Must not change during a session once
    /// [`first_use`](Self::first_use) has returned.
    fn irq(&self, index: u32) -> Irq;

    /// VERSION was agreed; `peer` reaches the client for DMA messages.
    fn connected(&mut self, peer: &Peer) {
        let _ = peer;
    }

    /// The first message that is neither VERSION, DMA_MAP nor DMA_UNMAP has arrived and has
    /// not been answered yet.
    ///
    /// # Errors
    /// The message gets the error. The client may then unmap its memory and leave; another use ends the connection.
    fn first_use(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    /// REGION_READ: fills `data` from `offset`.
    ///
    /// # Errors
    /// The errno of the reply.
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// REGION_WRITE, one element of REGION_WRITE_MULTI, or a posted write.
    ///
    /// # Errors
    /// The errno of the reply; of no consequence for a posted write.
    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// SET_IRQS.
    ///
    /// # Errors
    /// The errno of the reply.
    fn set_irqs(&mut self, request: IrqRequest<'_>) -> Result<(), Errno>;

    /// SET_IRQS that disables a whole index: every eventfd of it is dropped.
    ///
    /// # Errors
    /// The errno of the reply.
    fn disable_irqs(&mut self, index: u32) -> Result<(), Errno>;

    /// DMA_MAP. The server keeps no table of its own: the backend refuses overlaps (`EEXIST`)
    /// and too many maps (`ENOSPC`).
    ///
    /// # Errors
    /// The errno of the reply.
    fn dma_map(&mut self, map: DmaMap) -> Result<(), Errno>;

    /// DMA_UNMAP: everything wholly inside `address..address + size` goes, and when this
    /// returns nobody accesses it any more. A range without any mapping is no error; a mapping
    /// that would be cut in two is (`EINVAL`), and then nothing is unmapped. `size` is not 0 and
    /// `address + size` does not exceed 2^64.
    ///
    /// # Errors
    /// The errno of the reply.
    fn dma_unmap(&mut self, address: u64, size: u64) -> Result<(), Errno>;

    /// DMA_UNMAP of everything (`VFIO_DMA_UNMAP_FLAG_ALL`), otherwise as
    /// [`dma_unmap`](Self::dma_unmap). By default that is called for each half of the address
    /// space, which does for every backend without a mapping across the middle.
    ///
    /// # Errors
    /// The errno of the reply.
    fn dma_unmap_all(&mut self) -> Result<(), Errno> {
        const HALF: u64 = 1 << 63;
        self.dma_unmap(0, HALF)?;
        self.dma_unmap(HALF, HALF)
    }

    /// DEVICE_RESET.
    ///
    /// # Errors
    /// The errno of the reply.
    fn reset(&mut self) -> Result<(), Errno>;
}
