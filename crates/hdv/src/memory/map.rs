//! Which DMA addresses are guest memory: an immutable, sorted list of ranges. Copies and
//! locking are not here.

use std::ops::Range;
use std::sync::Arc;

use hdv_vfio_user::backend::DmaFlags;
use rustix::io::Errno;

use super::files::Source;
use super::mapping::Mapping;

/// Most ranges a client may have mapped at once. Each costs the process a kernel mapping, of
/// which it has 65,530 by default; three quarters of them are for guest memory and sections of all its devices
/// together.
pub const MAX_REGIONS: usize = 8192;

/// Most bytes of files that a client may have mapped at once: as much as the largest VMs have, and a
/// fraction of this process's addresses.
const MAX_BYTES: u64 = 1 << 44;

/// How a range is reached.
#[derive(Clone, Debug)]
pub(super) enum Backing {
    /// Mapped into this process.
    Mapped(Arc<Backed>),
    /// Only through DMA_READ and DMA_WRITE messages to the client.
    Messages,
}

/// A range's file.
#[derive(Debug)]
pub(super) struct Backed {
    pub(super) mapping: Mapping,
    /// What an aperture is mapped from; `None` when the client brought too many files.
    pub(super) source: Option<Source>,
}

/// One range of guest memory.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) start: u64,
    /// The last address, so that a region may end at 2^64 - 1.
    pub(super) last: u64,
    pub(super) flags: DmaFlags,
    pub(super) backing: Backing,
}

/// The whole of guest memory: regions sorted by address that do not overlap.
#[derive(Clone, Debug, Default)]
pub(super) struct RegionMap {
    regions: Vec<Region>,
    /// Empty because nothing may be reached.
    barred: bool,
}

/// A part of an access that lies in one region.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) region: &'a Region,
    /// Offset of the piece in its region, in bytes.
    pub(super) offset: u64,
    /// Where the piece lies in the caller's buffer.
    pub(super) buffer: Range<usize>,
}

impl RegionMap {
    /// Nothing, for who may not reach what there is.
    pub(super) fn barred() -> Self {
        Self {
            regions: Vec::new(),
            barred: true,
        }
    }

    pub(super) fn is_barred(&self) -> bool {
        self.barred
    }

    pub(super) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Index of the first region that ends at or after `address`.
    fn first_from(&self, address: u64) -> usize {
        self.regions.partition_point(|region| region.last < address)
    }

    /// The region that all of `address..address + length` lies in, and the offset there; `None`
    /// also for an empty range.
    pub(super) fn whole(&self, address: u64, length: usize) -> Option<(&Region, u64)> {
        let region = self.regions.get(self.first_from(address))?;
        let offset = address.checked_sub(region.start)?;
        let span = (length as u64).checked_sub(1)?;
        (region.last - address >= span).then_some((region, offset))
    }

    /// A map with `region` added.
    pub(super) fn with(&self, region: Region) -> Result<Self, Errno> {
        if self.regions.len() >= MAX_REGIONS {
            return Err(Errno::NOSPC);
        }
        let at = self.first_from(region.start);
        if self
            .regions
            .get(at)
            .is_some_and(|next| next.start <= region.last)
        {
            return Err(Errno::EXIST);
        }
        let mut regions = Vec::with_capacity(self.regions.len() + 1);
        regions.extend_from_slice(&self.regions[..at]);
        regions.push(region);
        regions.extend_from_slice(&self.regions[at..]);
        Ok(Self {
            regions,
            barred: false,
        })
    }

    /// Whether `size` further bytes of a file may be mapped.
    ///
    /// # Errors
    /// `ENOSPC` beyond [`MAX_BYTES`].
    pub(super) fn check_room(&self, size: u64) -> Result<(), Errno> {
        let files = self
            .regions
            .iter()
            .filter(|region| matches!(region.backing, Backing::Mapped(_)));
        // Neither overflows: what is mapped was checked here.
        let mapped: u64 = files.map(|region| region.last - region.start + 1).sum();
        if size > MAX_BYTES - mapped {
            return Err(Errno::NOSPC);
        }
        Ok(())
    }

    /// A map without what lies wholly inside `start..=last`.
    ///
    /// # Errors
    /// `EINVAL` when a region would be cut in two.
    pub(super) fn without(&self, start: u64, last: u64) -> Result<Self, Errno> {
        let from = self.first_from(start);
        let to = self
            .regions
            .partition_point(|region| region.start <= last)
            .max(from);
        if self.regions[from..to]
            .iter()
            .any(|region| region.start < start || region.last > last)
        {
            return Err(Errno::INVAL);
        }
        let mut regions = self.regions.clone();
        regions.drain(from..to);
        Ok(Self {
            regions,
            barred: false,
        })
    }

    /// Calls `visit` for each region's part of `address..address + length`, in order.
    ///
    /// # Errors
    /// The first address that is in no region.
    pub(super) fn pieces<'a, E: From<NotMapped>>(
        &'a self,
        address: u64,
        length: usize,
        mut visit: impl FnMut(Piece<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut done = 0;
        let mut index = self.first_from(address);
        while done < length {
            let piece = self.piece(index, address, done..length)?;
            done = piece.buffer.end;
            visit(piece)?;
            index += 1;
        }
        Ok(())
    }

    /// The first piece of what is left of an access to `address`.
    pub(super) fn first_piece(
        &self,
        address: u64,
        left: Range<usize>,
    ) -> Result<Piece<'_>, NotMapped> {
        let at = address.saturating_add(left.start as u64);
        self.piece(self.first_from(at), address, left)
    }

    fn piece(
        &self,
        index: usize,
        address: u64,
        left: Range<usize>,
    ) -> Result<Piece<'_>, NotMapped> {
        let at = address
            .checked_add(left.start as u64)
            .ok_or(NotMapped(u64::MAX))?;
        let region = self
            .regions
            .get(index)
            .filter(|region| region.start <= at)
            .ok_or(NotMapped(at))?;
        let available = usize::try_from(region.last - at)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        Ok(Piece {
            region,
            offset: at - region.start,
            buffer: left.start..left.start + available.min(left.len()),
        })
    }
}

/// An address that is in no region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotMapped(pub(super) u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, last: u64) -> Region {
        Region {
            start,
            last,
            flags: DmaFlags::READ,
            backing: Backing::Messages,
        }
    }

    fn map(regions: &[(u64, u64)]) -> RegionMap {
        regions
            .iter()
            .fold(RegionMap::default(), |map, &(start, last)| {
                map.with(region(start, last)).unwrap()
            })
    }

    fn ranges(map: &RegionMap) -> Vec<(u64, u64)> {
        map.regions().iter().map(|r| (r.start, r.last)).collect()
    }

    #[test]
    fn overlaps_are_refused_and_neighbours_are_not() {
        let map = map(&[(0x1000, 0x1fff), (0x4000, 0x4fff)]);
        for (start, last) in [
            (0x1000, 0x1fff),
            (0, 0x1000),
            (0x1fff, 0x2fff),
            (0x0, 0xffff),
            (0x1800, 0x18ff),
        ] {
            assert_eq!(map.with(region(start, last)).unwrap_err(), Errno::EXIST);
        }
        let map = map.with(region(0x2000, 0x3fff)).unwrap();
        assert_eq!(
            ranges(&map),
            [(0x1000, 0x1fff), (0x2000, 0x3fff), (0x4000, 0x4fff)]
        );
    }

    #[test]
    fn unmapping_takes_what_is_inside_and_cuts_nothing() {
        let map = map(&[
            (0x1000, 0x1fff),
            (0x4000, 0x4fff),
            (u64::MAX - 4095, u64::MAX),
        ]);
        assert_eq!(ranges(&map.without(0, u64::MAX).unwrap()), []);
        assert_eq!(
            ranges(&map.without(0, 0x3fff).unwrap()),
            [(0x4000, 0x4fff), (u64::MAX - 4095, u64::MAX)]
        );
        assert_eq!(map.without(0x2000, 0x3fff).unwrap().regions().len(), 3);
        assert_eq!(map.without(0x1800, 0x4fff).unwrap_err(), Errno::INVAL);
        assert_eq!(map.without(0x1000, 0x4000).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn a_range_is_whole_when_one_region_has_all_of_it() {
        let map = map(&[(0x1000, 0x1fff), (0x2000, 0x2fff), (u64::MAX - 7, u64::MAX)]);
        let whole = |address, length| {
            map.whole(address, length)
                .map(|(region, offset)| (region.start, offset))
        };
        assert_eq!(whole(0x1000, 0x1000), Some((0x1000, 0)));
        assert_eq!(whole(0x2fff, 1), Some((0x2000, 0xfff)));
        assert_eq!(whole(u64::MAX - 7, 8), Some((u64::MAX - 7, 0)));
        assert_eq!(whole(u64::MAX, 2), None);
        assert_eq!(whole(0x1fff, 2), None);
        assert_eq!(whole(0xfff, 2), None);
        assert_eq!(whole(0x3000, 1), None);
        assert_eq!(whole(0x1000, 0), None);
        assert_eq!(whole(0x1000, usize::MAX), None);
    }

    #[test]
    fn pieces_cover_the_range_or_name_the_hole() {
        let map = map(&[
            (0x1000, 0x1fff),
            (0x2000, 0x2fff),
            (u64::MAX - 4095, u64::MAX),
        ]);
        let pieces = |address, length| {
            let mut seen = Vec::new();
            map.pieces(address, length, |piece| {
                seen.push((piece.region.start, piece.offset, piece.buffer));
                Ok::<_, NotMapped>(())
            })
            .map(|()| seen)
        };
        assert_eq!(
            pieces(0x1ff0, 0x20).unwrap(),
            [(0x1000, 0xff0, 0..0x10), (0x2000, 0, 0x10..0x20)]
        );
        assert_eq!(pieces(0x2ff0, 0x20).unwrap_err(), NotMapped(0x3000));
        assert_eq!(pieces(0xfff, 1).unwrap_err(), NotMapped(0xfff));
        assert_eq!(
            pieces(u64::MAX - 7, 8).unwrap(),
            [(u64::MAX - 4095, 4088, 0..8)]
        );
        assert_eq!(pieces(u64::MAX - 7, 9).unwrap_err(), NotMapped(u64::MAX));
        assert_eq!(pieces(0x9999, 0).unwrap(), []);
    }
}
