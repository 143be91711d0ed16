//! Regions: DEVICE_GET_REGION_INFO, DEVICE_GET_REGION_IO_FDS, REGION_READ, REGION_WRITE,
//! REGION_WRITE_MULTI.

use std::os::fd::AsFd;

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::dispatch::Dispatcher;
use crate::backend::{Backend, RegionFlags};
use crate::limits::MAX_REGION_INFO;
use crate::vfio::{io_fd, region_info};
use crate::wire::{self, RegionAccess, size_as_u32};

impl Dispatcher {
    pub(super) fn region_read(
        &mut self,
        body: &[u8],
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        self.statistics.count_read();
        let (access, data) = wire::parse_prefix::<RegionAccess>(body).ok_or(Errno::INVAL)?;
        if !data.is_empty() {
            return Err(Errno::INVAL);
        }
        let count = self.check_access(&access, RegionFlags::READ)?;
        let reply = self.reply.body(size_of::<RegionAccess>() + count);
        let (fixed, data) = reply.split_at_mut(size_of::<RegionAccess>());
        fixed.copy_from_slice(access.as_bytes());
        data.fill(0);
        backend.region_read(access.region, access.offset, data)
    }

    pub(super) fn region_write(
        &mut self,
        body: &[u8],
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        self.statistics.count_writes(1);
        let (access, data) = wire::parse_prefix::<RegionAccess>(body).ok_or(Errno::INVAL)?;
        let count = self.check_access(&access, RegionFlags::WRITE)?;
        if data.len() != count {
            return Err(Errno::INVAL);
        }
        backend.region_write(access.region, access.offset, data)?;
        self.reply.set_body(&access);
        Ok(())
    }

    /// The writes are carried out in order up to the first that fails; the error is the reply
    /// only if that is the first of all, otherwise the reply says how many were done.
    pub(super) fn region_write_multi(
        &mut self,
        body: &[u8],
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        let entries = wire::write_entries(body).ok_or(Errno::INVAL)?;
        let mut done = 0;
        for entry in entries {
            let access = RegionAccess {
                offset: entry.offset,
                region: entry.region,
                count: entry.count,
            };
            let result = self
                .check_access(&access, RegionFlags::WRITE)
                .and_then(|count| entry.data.get(..count).ok_or(Errno::INVAL))
                .and_then(|data| backend.region_write(entry.region, entry.offset, data));
            match result {
                Ok(()) => done += 1,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        self.statistics.count_writes(done);
        self.reply.set_body(&wire::WriteMulti { wr_cnt: done });
        Ok(())
    }

    /// Checks an access against what the backend said of the region; returns its length.
    fn check_access(&self, access: &RegionAccess, right: RegionFlags) -> Result<usize, Errno> {
        let region = self.region(access.region)?;
        let count = usize::try_from(access.count).map_err(|_| Errno::INVAL)?;
        let end = access.offset.checked_add(u64::from(access.count));
        let inside = end.is_some_and(|end| end <= region.size);
        if count > self.max_transfer || !inside || !region.flags.contains(right) {
            return Err(Errno::INVAL);
        }
        Ok(count)
    }

    fn region(&self, index: u32) -> Result<&crate::Region, Errno> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.regions.get(index))
            .ok_or(Errno::INVAL)
    }

    pub(super) fn device_get_region_info(
        &mut self,
        body: &[u8],
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        const FIXED: u32 = size_as_u32::<wire::RegionInfo>();
        let (request, _) = wire::parse_prefix::<wire::RegionInfo>(body).ok_or(Errno::INVAL)?;
        if request.argsz < FIXED {
            return Err(Errno::INVAL);
        }
        let region = self.region(request.index)?;
        let mut info = wire::RegionInfo {
            argsz: FIXED,
            flags: region.flags.bits(),
            index: request.index,
            cap_offset: 0,
            size: region.size,
            offset: 0,
        };
        // A client that takes no descriptors cannot map anything.
        let mapping = if region.size == 0 || self.client_fds == 0 {
            None
        } else {
            backend.region_mapping(request.index)
        };
        let Some(mapping) = mapping else {
            self.reply.set_body(&info);
            return Ok(());
        };
        info.flags |= region_info::MMAP;
        info.offset = mapping.offset;
        if !mapping.areas.is_empty() {
            info.flags |= region_info::CAPS;
            // Also in a reply without room for them: QEMU refuses 0 before it asks again with more.
            info.cap_offset = FIXED;
            info.argsz = u32::try_from(mapping.areas.len())
                .ok()
                .and_then(|areas| areas.checked_mul(size_as_u32::<wire::SparseAreaEntry>()))
                .and_then(|size| {
                    size.checked_add(
                        FIXED
                            + size_as_u32::<wire::CapabilityHeader>()
                            + size_as_u32::<wire::SparseHeader>(),
                    )
                })
                .filter(|size| *size <= MAX_REGION_INFO)
                .ok_or(Errno::OVERFLOW)?;
        }
        if request.argsz < info.argsz {
            self.reply.set_body(&info);
            return Ok(());
        }
        self.reply.attach(mapping.file.as_fd())?;
        if mapping.areas.is_empty() {
            self.reply.set_body(&info);
            return Ok(());
        }
        let size = usize::try_from(info.argsz).map_err(|_| Errno::OVERFLOW)?;
        let mut rest = self.reply.body(size);
        put(&mut rest, info.as_bytes());
        let header = wire::CapabilityHeader {
            id: region_info::CAP_SPARSE_MMAP,
            version: region_info::CAP_SPARSE_MMAP_VERSION,
            next: 0,
        };
        put(&mut rest, header.as_bytes());
        let sparse = wire::SparseHeader {
            nr_areas: u32::try_from(mapping.areas.len()).map_err(|_| Errno::OVERFLOW)?,
            reserved: 0,
        };
        put(&mut rest, sparse.as_bytes());
        for area in &mapping.areas {
            let entry = wire::SparseAreaEntry {
                offset: area.offset,
                size: area.size,
            };
            put(&mut rest, entry.as_bytes());
        }
        Ok(())
    }

    /// When there are more ioeventfds than the client takes descriptors in one message, it is
    /// given as many as it takes; the others' accesses arrive as writes.
    pub(super) fn device_get_region_io_fds(
        &mut self,
        body: &[u8],
        backend: &mut dyn Backend,
    ) -> Result<(), Errno> {
        const FIXED: u32 = size_as_u32::<wire::IoFds>();
        const ENTRY: u32 = size_as_u32::<wire::IoFdEntry>();
        let (request, _) = wire::parse_prefix::<wire::IoFds>(body).ok_or(Errno::INVAL)?;
        if request.argsz < FIXED || request.flags != 0 || request.count != 0 {
            return Err(Errno::INVAL);
        }
        self.region(request.index)?;
        let mut events = backend.region_io_event_fds(request.index);
        events.truncate(self.client_fds);
        let count = u32::try_from(events.len()).map_err(|_| Errno::OVERFLOW)?;
        let info = wire::IoFds {
            argsz: FIXED + count * ENTRY,
            flags: 0,
            index: request.index,
            count,
        };
        if request.argsz < info.argsz {
            self.reply.set_body(&info);
            return Ok(());
        }
        let size = usize::try_from(info.argsz).map_err(|_| Errno::OVERFLOW)?;
        let mut rest = self.reply.body(size);
        put(&mut rest, info.as_bytes());
        for (event, fd_index) in events.iter().zip(0..) {
            let entry = wire::IoFdEntry {
                offset: event.offset,
                size: event.size,
                fd_index,
                kind: io_fd::TYPE_IOEVENTFD,
                flags: if event.datamatch.is_some() {
                    io_fd::FLAG_DATAMATCH
                } else {
                    0
                },
                padding: 0,
                datamatch: event.datamatch.unwrap_or(0),
            };
            put(&mut rest, entry.as_bytes());
        }
        for event in &events {
            self.reply.attach(event.event.as_fd())?;
        }
        Ok(())
    }
}

/// Puts bytes at the front of `rest` and moves it behind them.
fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    let (front, behind) = std::mem::take(rest).split_at_mut(bytes.len());
    front.copy_from_slice(bytes);
    *rest = behind;
}
