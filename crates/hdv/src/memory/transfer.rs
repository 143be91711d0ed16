//! The caller's side of an access to guest memory: a slice to fill or one to write out.

use std::ops::Range;

use hdv_vfio_user::backend::DmaFlags;
use hdv_vfio_user::server::{DmaError, Peer};

use super::mapping::Mapping;

/// Moves bytes between the caller's slice and guest memory.
pub(super) trait Transfer {
    /// Bytes in the caller's slice.
    fn length(&self) -> usize;

    /// The right a region must give.
    fn rights(&self) -> DmaFlags;

    /// Moves `range` of the slice from or to `offset` of a mapping.
    fn copy(&mut self, mapping: &Mapping, offset: u64, range: Range<usize>);

    /// Moves `range` of the slice by messages.
    fn exchange(&mut self, peer: &Peer, address: u64, range: Range<usize>) -> Result<(), DmaError>;
}

/// From guest memory.
pub(super) struct Reading<'a>(pub(super) &'a mut [u8]);

/// To guest memory.
pub(super) struct Writing<'a>(pub(super) &'a [u8]);

impl Transfer for Reading<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn rights(&self) -> DmaFlags {
        DmaFlags::READ
    }

    fn copy(&mut self, mapping: &Mapping, offset: u64, range: Range<usize>) {
        if let Some(slice) = mapping.slice(offset, range.len()) {
            slice.copy_to(&mut self.0[range]);
        }
    }

    fn exchange(&mut self, peer: &Peer, address: u64, range: Range<usize>) -> Result<(), DmaError> {
        peer.dma_read(address, &mut self.0[range])
    }
}

impl Transfer for Writing<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn rights(&self) -> DmaFlags {
        DmaFlags::WRITE
    }

    fn copy(&mut self, mapping: &Mapping, offset: u64, range: Range<usize>) {
        if let Some(slice) = mapping.slice(offset, range.len()) {
            slice.copy_from(&self.0[range]);
        }
    }

    fn exchange(&mut self, peer: &Peer, address: u64, range: Range<usize>) -> Result<(), DmaError> {
        peer.dma_write(address, &self.0[range])
    }
}
