//! The payloads: what follows the header, for each command.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! payload {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
    };
}

payload! {
    /// VERSION, before the JSON text.
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    }
}

payload! {
    /// DMA_MAP.
    DmaMap {
        /// Size of this structure in bytes.
        argsz: u32,
        /// Bit 0 readable, bit 1 writable.
        flags: u32,
        /// Offset in the file, in bytes.
        offset: u64,
        /// First DMA address.
        address: u64,
        /// Length in bytes.
        size: u64,
    }
}

payload! {
    /// DMA_UNMAP, request and reply.
    DmaUnmap {
        /// Largest reply payload that the client expects, in bytes.
        argsz: u32,
        /// None are defined.
        flags: u32,
        /// First DMA address.
        address: u64,
        /// Length in bytes.
        size: u64,
    }
}

payload! {
    /// DEVICE_GET_INFO, request and reply.
    DeviceInfo {
        /// Size of the reply payload in bytes: allowed by the request, needed by the reply.
        argsz: u32,
        /// `VFIO_DEVICE_FLAGS_*`.
        flags: u32,
        /// Number of regions.
        num_regions: u32,
        /// Number of interrupt indexes.
        num_irqs: u32,
    }
}

payload! {
    /// DEVICE_GET_REGION_INFO, request and reply, before the capabilities.
    RegionInfo {
        /// Size of the reply payload in bytes: allowed by the request, needed by the reply.
        argsz: u32,
        /// `VFIO_REGION_INFO_FLAG_*`.
        flags: u32,
        /// Index of the region.
        index: u32,
        /// Offset of the first capability from the start of this structure; 0 for none.
        cap_offset: u32,
        /// Size of the region in bytes.
        size: u64,
        /// Offset of the region's first byte in the file, in bytes.
        offset: u64,
    }
}

payload! {
    /// What every region capability begins with (`struct vfio_info_cap_header`).
    CapabilityHeader {
        /// What capability it is.
        id: u16,
        /// Its version.
        version: u16,
        /// Offset of the next one from the start of the region information; 0 for none.
        next: u32,
    }
}

payload! {
    /// What follows the header of the sparse mmap capability.
    SparseHeader {
        /// Number of areas that follow.
        nr_areas: u32,
        /// Reserved.
        reserved: u32,
    }
}

payload! {
    /// One area of the sparse mmap capability.
    SparseAreaEntry {
        /// Offset in the region, in bytes.
        offset: u64,
        /// Length in bytes.
        size: u64,
    }
}

payload! {
    /// DEVICE_GET_REGION_IO_FDS, request and reply, before the sub-regions.
    IoFds {
        /// Size of the reply payload in bytes: allowed by the request, needed by the reply.
        argsz: u32,
        /// None are defined.
        flags: u32,
        /// Index of the region.
        index: u32,
        /// Number of sub-regions that follow.
        count: u32,
    }
}

payload! {
    /// One sub-region of DEVICE_GET_REGION_IO_FDS.
    IoFdEntry {
        /// Offset in the region, in bytes.
        offset: u64,
        /// Size of the access, in bytes; 0 for any.
        size: u64,
        /// Which of the message's descriptors.
        fd_index: u32,
        /// What kind of descriptor; see [`crate::vfio::io_fd`].
        kind: u32,
        /// Flags of the kind.
        flags: u32,
        /// Padding.
        padding: u32,
        /// The value that signals, if the flags say so.
        datamatch: u64,
    }
}

payload! {
    /// DEVICE_GET_IRQ_INFO, request and reply.
    IrqInfo {
        /// Size of the reply payload in bytes: allowed by the request, needed by the reply.
        argsz: u32,
        /// `VFIO_IRQ_INFO_*`.
        flags: u32,
        /// The interrupt index.
        index: u32,
        /// Number of interrupts.
        count: u32,
    }
}

payload! {
    /// DEVICE_SET_IRQS, before the data.
    IrqSet {
        /// Size of the payload, data included, in bytes.
        argsz: u32,
        /// `VFIO_IRQ_SET_*`.
        flags: u32,
        /// The interrupt index.
        index: u32,
        /// First sub-index.
        start: u32,
        /// Number of sub-indexes.
        count: u32,
    }
}

payload! {
    /// REGION_READ and REGION_WRITE, request and reply, before the data.
    RegionAccess {
        /// Offset in the region, in bytes.
        offset: u64,
        /// Index of the region.
        region: u32,
        /// Number of data bytes.
        count: u32,
    }
}

payload! {
    /// REGION_WRITE_MULTI before the writes, and its reply.
    WriteMulti {
        /// Number of writes.
        wr_cnt: u64,
    }
}

payload! {
    /// One write of REGION_WRITE_MULTI.
    WriteEntry {
        /// Offset in the region, in bytes.
        offset: u64,
        /// Index of the region.
        region: u32,
        /// Number of bytes of `data` that are written, at most 8.
        count: u32,
        /// The bytes.
        data: [u8; 8],
    }
}

payload! {
    /// DMA_READ and DMA_WRITE, request and reply, before the data.
    DmaAccess {
        /// First DMA address.
        address: u64,
        /// Number of data bytes.
        count: u64,
    }
}

/// The size of a structure of the wire format, in the type of the size fields.
pub(crate) const fn size_as_u32<T>() -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the structures of the wire format have less than 100 bytes"
    )]
    let size = size_of::<T>() as u32;
    size
}

/// Takes a payload from the front of a message's body, and what follows it; `None` when the
/// body is too short.
#[must_use]
pub fn parse_prefix<T: FromBytes>(body: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(body).ok()
}

/// The writes of a REGION_WRITE_MULTI body. `None` when the body is not exactly as long as
/// its count says.
#[must_use]
pub fn write_entries(body: &[u8]) -> Option<impl ExactSizeIterator<Item = WriteEntry>> {
    let (header, rest) = parse_prefix::<WriteMulti>(body)?;
    let (entries, remainder) = rest.as_chunks::<{ size_of::<WriteEntry>() }>();
    let fits = remainder.is_empty() && u64::try_from(entries.len()) == Ok(header.wr_cnt);
    fits.then(|| entries.iter().map(|entry| zerocopy::transmute!(*entry)))
}

/// The sparse mmap areas in the body of a region information reply. Capabilities that are not
/// known are passed over; a body without capabilities has no areas. `None` when the list leaves
/// the body, does not advance, or claims more areas than there is room for.
#[must_use]
pub fn sparse_areas(body: &[u8]) -> Option<Vec<SparseAreaEntry>> {
    let (info, _) = parse_prefix::<RegionInfo>(body)?;
    let mut areas = Vec::new();
    if info.flags & crate::vfio::region_info::CAPS == 0 {
        return Some(areas);
    }
    let mut offset = usize::try_from(info.cap_offset).ok()?;
    let mut previous = size_of::<RegionInfo>() - 1;
    while offset != 0 {
        if offset <= previous {
            return None;
        }
        previous = offset;
        let (capability, rest) = parse_prefix::<CapabilityHeader>(body.get(offset..)?)?;
        if capability.id == crate::vfio::region_info::CAP_SPARSE_MMAP {
            let (sparse, mut rest) = parse_prefix::<SparseHeader>(rest)?;
            for _ in 0..sparse.nr_areas {
                let (area, after) = parse_prefix::<SparseAreaEntry>(rest)?;
                areas.push(area);
                rest = after;
            }
        }
        offset = usize::try_from(capability.next).ok()?;
    }
    Some(areas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_specification() {
        assert_eq!(size_of::<Version>(), 4);
        assert_eq!(size_of::<DmaMap>(), 32);
        assert_eq!(size_of::<DmaUnmap>(), 24);
        assert_eq!(size_of::<DeviceInfo>(), 16);
        assert_eq!(size_of::<RegionInfo>(), 32);
        assert_eq!(size_of::<CapabilityHeader>(), 8);
        assert_eq!(size_of::<SparseHeader>(), 8);
        assert_eq!(size_of::<SparseAreaEntry>(), 16);
        assert_eq!(size_of::<IoFds>(), 16);
        assert_eq!(size_of::<IoFdEntry>(), 40);
        assert_eq!(size_of::<IrqInfo>(), 16);
        assert_eq!(size_of::<IrqSet>(), 20);
        assert_eq!(size_of::<RegionAccess>(), 16);
        assert_eq!(size_of::<WriteMulti>(), 8);
        assert_eq!(size_of::<WriteEntry>(), 24);
        assert_eq!(size_of::<DmaAccess>(), 16);
    }

    fn multi(count: u64, entries: usize, extra: usize) -> Vec<u8> {
        let mut body = WriteMulti { wr_cnt: count }.as_bytes().to_vec();
        for index in 0..entries {
            let entry = WriteEntry {
                offset: index as u64,
                region: 2,
                count: 4,
                data: [3; 8],
            };
            body.extend_from_slice(entry.as_bytes());
        }
        body.resize(body.len() + extra, 0);
        body
    }

    #[test]
    fn the_count_of_writes_must_be_exact() {
        let offsets: Vec<_> = write_entries(&multi(3, 3, 0))
            .expect("three writes")
            .map(|entry| entry.offset)
            .collect();
        assert_eq!(offsets, [0, 1, 2]);
        assert!(write_entries(&multi(2, 3, 0)).is_none());
        assert!(write_entries(&multi(4, 3, 0)).is_none());
        assert!(write_entries(&multi(3, 3, 1)).is_none());
        assert!(write_entries(&multi(u64::MAX, 0, 0)).is_none());
        assert!(write_entries(&[0; 7]).is_none());
    }

    fn region_info(cap_offset: u32, capabilities: &[u8]) -> Vec<u8> {
        let info = RegionInfo {
            flags: crate::vfio::region_info::CAPS,
            cap_offset,
            ..RegionInfo::default()
        };
        [info.as_bytes(), capabilities].concat()
    }

    fn capability(id: u16, next: u32) -> Vec<u8> {
        CapabilityHeader {
            id,
            version: 1,
            next,
        }
        .as_bytes()
        .to_vec()
    }

    #[test]
    fn a_capability_list_is_walked_with_care() {
        let mut body = region_info(32, &capability(9, 40));
        body.extend(capability(1, 0));
        let header = SparseHeader {
            nr_areas: 1,
            reserved: 0,
        };
        body.extend_from_slice(header.as_bytes());
        let area = SparseAreaEntry {
            offset: 0x1000,
            size: 0x2000,
        };
        body.extend_from_slice(area.as_bytes());
        assert_eq!(sparse_areas(&body), Some(vec![area]));

        assert_eq!(sparse_areas(&body[..body.len() - 1]), None, "truncated");
        assert_eq!(
            sparse_areas(&region_info(32, &capability(9, 32))),
            None,
            "a loop"
        );
        assert_eq!(
            sparse_areas(&region_info(31, &capability(9, 0))),
            None,
            "inside"
        );
        assert_eq!(
            sparse_areas(&region_info(41, &capability(9, 0))),
            None,
            "outside"
        );
        assert_eq!(
            sparse_areas(&region_info(0, &[])),
            Some(vec![]),
            "empty list"
        );
    }
}
