//! The limits of this implementation, all of them, by name. Nothing from outside is believed
//! beyond them.

use std::time::Duration;

use crate::wire;

/// Most file descriptors that one message may carry, in either direction. What we announce
/// as `max_msg_fds`; QEMU refuses a peer that announces more.
pub const MAX_MESSAGE_FDS: usize = 16;

/// Most data bytes of one read or write message. What we announce as `max_data_xfer_size`.
pub const MAX_DATA_TRANSFER: usize = 1 << 20;

/// Largest message, header included, in bytes: the largest transfer, its fixed fields, and
/// room for what a later minor version may add. A larger one breaks framing.
pub const MAX_MESSAGE_SIZE: usize = MAX_DATA_TRANSFER + 4096;

/// Largest VERSION message, header included, in bytes.
pub const MAX_VERSION_SIZE: usize = 16 * 1024;

/// Bytes that a connection's read-ahead buffer and its reply buffer have at rest. Messages
/// up to this size are handled without any allocation; a larger one grows the buffer for as
/// long as it is being handled.
pub const RESTING_BUFFER: usize = 4096 + 256;

/// Most regions that a device may have.
pub const MAX_REGIONS: u32 = 64;

/// Most interrupt indexes that a device may have.
pub const MAX_IRQ_INDEXES: u32 = 64;

/// Most DMA mappings that we announce (`max_dma_maps`); the backend is what counts them.
pub const MAX_DMA_MAPS: u32 = 65_535;

/// Granularity of DMA mappings that come with a descriptor, in bytes (`pgsizes`).
pub const PAGE_SIZE: u64 = 4096;

/// Longest region information, in bytes: what our client accepts and our server sends.
pub const MAX_REGION_INFO: u32 = 64 * 1024;

/// Most areas of a region that can be mapped: as many as fit [`MAX_REGION_INFO`].
pub const MAX_SPARSE_AREAS: usize = (MAX_REGION_INFO as usize
    - size_of::<wire::RegionInfo>()
    - size_of::<wire::CapabilityHeader>()
    - size_of::<wire::SparseHeader>())
    / size_of::<wire::SparseAreaEntry>();

/// How long a DMA_READ or DMA_WRITE of ours waits for its reply. Shorter than the five
/// seconds after which QEMU gives up on a reply of ours, so that a device that waits here
/// while it is being accessed still answers in time.
pub const DMA_REPLY_TIMEOUT: Duration = Duration::from_secs(3);
