//! Regions: DEVICE_GET_REGION_INFO, DEVICE_GET_REGION_IO_FDS, REGION_READ, REGION_WRITE,
//! REGION_WRITE_MULTI.

use std::os::fd::OwnedFd;

use zerocopy::IntoBytes;

use super::{Client, ClientError};
use crate::backend::{RegionFlags, SparseArea};
use crate::limits::{MAX_MESSAGE_FDS, MAX_REGION_INFO};
use crate::vfio::{io_fd, region_info};
use crate::wire::size_as_u32;
use crate::wire::{self, Command, RegionAccess};

/// What DEVICE_GET_REGION_INFO says of a region.
#[derive(Debug)]
pub struct ClientRegion {
    /// Which accesses it takes.
    pub flags: RegionFlags,
    /// Whether it, or part of it, can be mapped.
    pub mappable: bool,
    /// Size in bytes; 0 for a region that does not exist.
    pub size: u64,
    /// Offset in `file` of the region's first byte, in bytes.
    pub offset: u64,
    /// The areas that can be mapped, each inside the region. Empty for a mappable region: all
    /// of it.
    pub areas: Vec<SparseArea>,
    /// The file to map, if the server sent one.
    pub file: Option<OwnedFd>,
}

/// One ioeventfd of a region.
#[derive(Debug)]
pub struct ClientIoEventFd {
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// Size of the access that signals, in bytes; 0 for any.
    pub size: u64,
    /// The value that signals; `None` for any.
    pub datamatch: Option<u64>,
    /// The eventfd.
    pub event: OwnedFd,
}

/// One write of REGION_WRITE_MULTI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionWrite<'a> {
    /// Index of the region.
    pub region: u32,
    /// Offset in the region, in bytes.
    pub offset: u64,
    /// At most 8 bytes.
    pub data: &'a [u8],
}

impl Client {
    /// DEVICE_GET_REGION_INFO: what the region is, with the file to map it from.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn region_info(&mut self, index: u32) -> Result<ClientRegion, ClientError> {
        let (needed, region) = self.region_info_within(index, size_as_u32::<wire::RegionInfo>())?;
        if let Some(region) = region {
            return Ok(region);
        }
        let wrong = |problem| ClientError::Protocol {
            command: Command::DeviceGetRegionInfo,
            problem,
        };
        if needed > MAX_REGION_INFO {
            return Err(wrong("it wants more room than a region can need"));
        }
        let (_, region) = self.region_info_within(index, needed)?;
        region.ok_or_else(|| wrong("it wants more room each time"))
    }

    /// The room that the whole answer needs and, if `argsz` is enough, the answer.
    fn region_info_within(
        &mut self,
        index: u32,
        argsz: u32,
    ) -> Result<(u32, Option<ClientRegion>), ClientError> {
        let request = wire::RegionInfo {
            argsz,
            index,
            ..wire::RegionInfo::default()
        };
        let command = Command::DeviceGetRegionInfo;
        self.call(command, &[request.as_bytes()], &[], |body, fds| {
            let (info, _) =
                wire::parse_prefix::<wire::RegionInfo>(body).ok_or("it is too short")?;
            if info.index != index {
                return Err("it is about another region");
            }
            if info.argsz > argsz {
                return Ok((info.argsz, None));
            }
            let areas = wire::sparse_areas(body).ok_or("its capabilities are malformed")?;
            let areas: Vec<_> = areas
                .iter()
                .map(|area| SparseArea {
                    offset: area.offset,
                    size: area.size,
                })
                .collect();
            let inside = areas.iter().all(|area| {
                let end = area.offset.checked_add(area.size);
                end.is_some_and(|end| end <= info.size)
            });
            if !inside {
                return Err("an area leaves the region");
            }
            let region = ClientRegion {
                flags: RegionFlags::from_bits_truncate(info.flags),
                mappable: info.flags & region_info::MMAP != 0,
                size: info.size,
                offset: info.offset,
                areas,
                file: fds.into_vec().into_iter().next(),
            };
            Ok((info.argsz, Some(region)))
        })
    }

    /// DEVICE_GET_REGION_IO_FDS: the region's ioeventfds. Sub-regions of other kinds are left
    /// out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn region_io_event_fds(&mut self, index: u32) -> Result<Vec<ClientIoEventFd>, ClientError> {
        const FIXED: usize = size_of::<wire::IoFds>();
        const ENTRY: usize = size_of::<wire::IoFdEntry>();
        let command = Command::DeviceGetRegionIoFds;
        let argsz = FIXED + MAX_MESSAGE_FDS * ENTRY;
        let request = wire::IoFds {
            argsz: u32::try_from(argsz).map_err(|_| ClientError::Impossible {
                command,
                problem: "too many descriptors",
            })?,
            index,
            ..wire::IoFds::default()
        };
        self.call(command, &[request.as_bytes()], &[], |body, fds| {
            let (info, mut rest) =
                wire::parse_prefix::<wire::IoFds>(body).ok_or("it is too short")?;
            if info.index != index {
                return Err("it is about another region");
            }
            if info.argsz > request.argsz {
                return Err("it has more sub-regions than descriptors fit a message");
            }
            let fds = fds.into_vec();
            let mut events = Vec::new();
            for _ in 0..info.count {
                let (entry, after) =
                    wire::parse_prefix::<wire::IoFdEntry>(rest).ok_or("it is too short")?;
                rest = after;
                if entry.kind != io_fd::TYPE_IOEVENTFD {
                    continue;
                }
                let event = usize::try_from(entry.fd_index)
                    .ok()
                    .and_then(|index| fds.get(index))
                    .ok_or("a descriptor is missing")?;
                events.push(ClientIoEventFd {
                    offset: entry.offset,
                    size: entry.size,
                    datamatch: (entry.flags & io_fd::FLAG_DATAMATCH != 0)
                        .then_some(entry.datamatch),
                    event: event.try_clone().map_err(|_| "no descriptor is left")?,
                });
            }
            Ok(events)
        })
    }

    /// REGION_READ, in as many messages as the server's largest transfer makes necessary.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn region_read(
        &mut self,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), ClientError> {
        let mut offset = offset;
        let largest = self.server.data_transfer();
        let mut rest = data;
        loop {
            let (chunk, after) = rest.split_at_mut(rest.len().min(largest));
            let access = self.access(Command::RegionRead, region, offset, chunk.len())?;
            self.call(Command::RegionRead, &[access.as_bytes()], &[], |body, _| {
                let (reply, bytes) =
                    wire::parse_prefix::<RegionAccess>(body).ok_or("it is too short")?;
                if reply != access || bytes.len() != chunk.len() {
                    return Err("it is about another access");
                }
                chunk.copy_from_slice(bytes);
                Ok(())
            })?;
            if after.is_empty() {
                return Ok(());
            }
            offset = offset.wrapping_add(u64::from(access.count));
            rest = after;
        }
    }

    /// REGION_WRITE, in as many messages as the server's largest transfer makes necessary.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn region_write(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ClientError> {
        self.write_chunks(region, offset, data, |client, access, chunk| {
            let parts = [access.as_bytes(), chunk];
            client.call(Command::RegionWrite, &parts, &[], |body, _| {
                let (reply, _) =
                    wire::parse_prefix::<RegionAccess>(body).ok_or("it is too short")?;
                if reply == access {
                    Ok(())
                } else {
                    Err("it is about another access")
                }
            })
        })
    }

    /// REGION_WRITE without a reply: returns when it has been sent. What becomes of it is not
    /// reported.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn region_write_posted(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ClientError> {
        self.write_chunks(region, offset, data, |client, access, chunk| {
            client.post(Command::RegionWrite, &[access.as_bytes(), chunk])
        })
    }

    /// REGION_WRITE_MULTI: several small writes in one message. Returns how many were carried
    /// out; the server stops at the first that fails.
    ///
    /// # Errors
    /// [`ClientError::Impossible`] when the server does not know this command or a write has more
    /// than 8 bytes; otherwise see [`ClientError`].
    pub fn region_write_multi(&mut self, writes: &[RegionWrite<'_>]) -> Result<u64, ClientError> {
        let command = Command::RegionWriteMulti;
        let impossible = |problem| ClientError::Impossible { command, problem };
        if !self.server.write_multiple {
            return Err(impossible("the server does not support it"));
        }
        let mut body = wire::WriteMulti {
            wr_cnt: writes.len() as u64,
        }
        .as_bytes()
        .to_vec();
        for write in writes {
            let mut entry = wire::WriteEntry {
                offset: write.offset,
                region: write.region,
                ..wire::WriteEntry::default()
            };
            let data = entry
                .data
                .get_mut(..write.data.len())
                .ok_or_else(|| impossible("a write has more than 8 bytes"))?;
            data.copy_from_slice(write.data);
            entry.count = u32::try_from(data.len()).map_err(|_| impossible("too many bytes"))?;
            body.extend_from_slice(entry.as_bytes());
        }
        if body.len() > self.server.data_transfer() {
            return Err(impossible("the writes do not fit one message"));
        }
        self.call(command, &[&body], &[], |body, _| {
            let (reply, _) =
                wire::parse_prefix::<wire::WriteMulti>(body).ok_or("it is too short")?;
            Ok(reply.wr_cnt)
        })
    }

    fn write_chunks(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
        mut write: impl FnMut(&mut Self, RegionAccess, &[u8]) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut offset = offset;
        let largest = self.server.data_transfer();
        let mut rest = data;
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(largest));
            let access = self.access(Command::RegionWrite, region, offset, chunk.len())?;
            write(self, access, chunk)?;
            if after.is_empty() {
                return Ok(());
            }
            offset = offset.wrapping_add(u64::from(access.count));
            rest = after;
        }
    }

    fn access(
        &self,
        command: Command,
        region: u32,
        offset: u64,
        len: usize,
    ) -> Result<RegionAccess, ClientError> {
        let count = u32::try_from(len).map_err(|_| ClientError::Impossible {
            command,
            problem: "the access is too long",
        })?;
        Ok(RegionAccess {
            offset,
            region,
            count,
        })
    }
}
