//! DMA_MAP and DMA_UNMAP.

use rustix::io::Errno;

use super::dispatch::{Dispatcher, Request};
use crate::backend::{Backend, DmaFlags, DmaMap};
use crate::limits::PAGE_SIZE;
use crate::vfio::dma_unmap;
use crate::wire;

impl Dispatcher {
    /// The specification wants the structure alone; a longer body is a later version's.
    pub(super) fn dma_map(request: Request<'_>, backend: &mut dyn Backend) -> Result<(), Errno> {
        let (map, _) = wire::parse_prefix::<wire::DmaMap>(request.body).ok_or(Errno::INVAL)?;
        let flags = DmaFlags::from_bits(map.flags).ok_or(Errno::INVAL)?;
        if usize::try_from(map.argsz).is_ok_and(|argsz| argsz < size_of::<wire::DmaMap>())
            || flags.is_empty()
        {
            return Err(Errno::INVAL);
        }
        check_range(map.address, map.size)?;
        let mut fds = request.fds.into_vec();
        let file = fds.pop();
        if !fds.is_empty() {
            return Err(Errno::INVAL);
        }
        if file.is_some() {
            let aligned = [map.address, map.size, map.offset]
                .iter()
                .all(|value| value.is_multiple_of(PAGE_SIZE));
            // The file's positions are signed 64-bit numbers (off_t).
            let end = map.offset.checked_add(map.size).ok_or(Errno::INVAL)?;
            if !aligned || i64::try_from(end).is_err() {
                return Err(Errno::INVAL);
            }
        }
        backend.dma_map(DmaMap {
            address: map.address,
            size: map.size,
            flags,
            offset: map.offset,
            file,
        })
    }

    pub(super) fn dma_unmap(
        &mut self,
        body: &[u8],
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        let (unmap, _) = wire::parse_prefix::<wire::DmaUnmap>(body).ok_or(Errno::INVAL)?;
        if usize::try_from(unmap.argsz).is_ok_and(|argsz| argsz < size_of::<wire::DmaUnmap>()) {
            return Err(Errno::INVAL);
        }
        match (unmap.flags, unmap.address, unmap.size) {
            (dma_unmap::ALL, 0, 0) => backend.dma_unmap_all()?,
            (0, address, size) => {
                check_range(address, size)?;
                backend.dma_unmap(address, size)?;
            }
            _ => return Err(Errno::INVAL),
        }
        self.reply.set_body(&unmap);
        Ok(())
    }
}

/// A range is not empty and ends at the end of the address space at the latest.
fn check_range(address: u64, size: u64) -> Result<(), Errno> {
    let last = size
        .checked_sub(1)
        .and_then(|beyond_first| address.checked_add(beyond_first));
    last.map(|_| ()).ok_or(Errno::INVAL)
}
