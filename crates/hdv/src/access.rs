//! Accesses to a BAR: what a device sees of one, and how larger or unaligned ones are split.

use std::ops::Range;

use hdv_pci::spec::msix::{BAR_MASK, OFFSET_MASK};
use hdv_pci::{BarIndex, BarOffset};

/// One guest access to a BAR that reached the device: 1, 2, 4 or 8 bytes at natural alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarAccess {
    /// Which BAR.
    pub bar: BarIndex,
    /// Offset in the BAR, in bytes, a multiple of `size`.
    pub offset: u64,
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
}

impl BarAccess {
    /// An access that [`split`] found: `size` is 1, 2, 4 or 8.
    pub(crate) fn new(bar: BarIndex, offset: u64, size: usize) -> Self {
        Self {
            bar,
            offset,
            size: u8::try_from(size).unwrap_or(8),
        }
    }

    /// Answers a read from a device whose registers are 32 bits wide: `register` gives the
    /// register at a multiple of 4, once for each one that the access touches.
    ///
    /// ```
    /// # use hdv::{BarAccess, BarIndex};
    /// let byte = BarAccess { bar: BarIndex::BAR0, offset: 0x11, size: 1 };
    /// assert_eq!(byte.read_dwords(|offset| { assert_eq!(offset, 0x10); 0xaabb_ccdd }), 0xcc);
    /// ```
    pub fn read_dwords(&self, mut register: impl FnMut(u64) -> u32) -> u64 {
        if self.size == 8 {
            let low = register(self.offset);
            return u64::from(low) | u64::from(register(self.offset + 4)) << 32;
        }
        let dword = u64::from(register(self.offset & !3));
        dword >> (8 * (self.offset & 3)) & mask(self.size)
    }

    /// Carries out a write on a device whose registers are 32 bits wide: `register` is called for each
    /// one that the access touches with its offset, the value and the mask of the bits written.
    /// A register keeps the others: `(old & !mask) | value`.
    pub fn write_dwords(&self, value: u64, mut register: impl FnMut(u64, u32, u32)) {
        let shift = 8 * (self.offset & 3);
        let (value, mask) = ((value & mask(self.size)) << shift, mask(self.size) << shift);
        let low = |wide: u64| u32::try_from(wide & u64::from(u32::MAX)).unwrap_or(0);
        register(self.offset & !3, low(value), low(mask));
        if self.size == 8 {
            register(self.offset + 4, low(value >> 32), low(mask >> 32));
        }
    }
}

/// A part of a BAR: the MSI-X table or the pending-bit array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BarPart {
    pub(crate) bar: BarIndex,
    /// Multiples of 8.
    pub(crate) bytes: Range<u64>,
}

impl BarPart {
    pub(crate) fn new(start: BarOffset, length: u64) -> Self {
        let offset = u64::from(start.offset);
        Self {
            bar: start.bar,
            bytes: offset..offset + length,
        }
    }

    /// A part that begins where a register of the MSI-X capability says; `None` unless it lies in a BAR.
    pub(crate) fn of_register(
        register: u32,
        length: u64,
        bar_sizes: [u64; BarIndex::ALL.len()],
    ) -> Option<Self> {
        let bar = BarIndex::try_from(register & BAR_MASK).ok()?;
        let part = Self::new(BarOffset::new(bar, register & OFFSET_MASK), length);
        (part.bytes.end <= bar_sizes[bar.get()]).then_some(part)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.meets(other.bar, &other.bytes)
    }

    /// Whether it has some of a range of a BAR.
    pub(crate) fn meets(&self, bar: BarIndex, bytes: &Range<u64>) -> bool {
        self.bar == bar && self.bytes.start < bytes.end && bytes.start < self.bytes.end
    }

    /// Where in this part an access begins: an aligned one never straddles its ends.
    pub(crate) fn offset_of(&self, access: BarAccess) -> Option<u64> {
        (self.bar == access.bar && self.bytes.contains(&access.offset))
            .then(|| access.offset - self.bytes.start)
    }
}

const fn mask(size: u8) -> u64 {
    if size >= 8 {
        u64::MAX
    } else {
        (1 << (8 * size)) - 1
    }
}

/// Splits an access of any length and alignment into those a device sees, in ascending order:
/// calls `each` with the offset of every part and where it lies in the data.
pub(crate) fn split(offset: u64, length: usize, mut each: impl FnMut(u64, Range<usize>)) {
    let mut done = 0;
    while done < length {
        let at = offset.wrapping_add(done as u64);
        let mut size = 8;
        while !at.is_multiple_of(size) || size > (length - done) as u64 {
            size /= 2;
        }
        // `size` is at most 8.
        let end = done + usize::try_from(size).unwrap_or(1);
        each(at, done..end);
        done = end;
    }
}

/// The little-endian value of up to eight bytes.
pub(crate) fn value_of(data: &[u8]) -> u64 {
    data.iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(offset: u64, length: usize) -> Vec<(u64, usize)> {
        let mut parts = Vec::new();
        split(offset, length, |at, range| parts.push((at, range.len())));
        parts
    }

    #[test]
    fn splits_are_aligned_ordered_and_complete() {
        assert_eq!(parts(8, 4), [(8, 4)]);
        assert_eq!(parts(0, 8), [(0, 8)]);
        assert_eq!(parts(4, 8), [(4, 4), (8, 4)]);
        assert_eq!(parts(1, 7), [(1, 1), (2, 2), (4, 4)]);
        assert_eq!(parts(3, 16), [(3, 1), (4, 4), (8, 8), (16, 2), (18, 1)]);
        assert_eq!(parts(5, 0), []);
    }

    fn access(offset: u64, size: u8) -> BarAccess {
        BarAccess {
            bar: BarIndex::BAR0,
            offset,
            size,
        }
    }

    #[test]
    fn dword_registers_serve_every_width() {
        let memory: Vec<u8> = (0x10..0x20).collect();
        let register = |offset: u64| {
            let at = usize::try_from(offset).unwrap();
            u32::from_le_bytes(memory[at..at + 4].try_into().unwrap())
        };
        for size in [1u8, 2, 4, 8] {
            for offset in (0..16).step_by(usize::from(size)) {
                let at = usize::try_from(offset).unwrap();
                let expected = value_of(&memory[at..at + usize::from(size)]);
                assert_eq!(access(offset, size).read_dwords(register), expected);
                let mut copy = [0u32; 4];
                access(offset, size).write_dwords(u64::MAX, |offset, value, mask| {
                    assert_eq!(value, mask);
                    copy[usize::try_from(offset / 4).unwrap()] |= value;
                });
                let written: u32 = copy.iter().map(|dword| dword.count_ones()).sum();
                assert_eq!(written, 8 * u32::from(size));
                let bytes: Vec<u8> = copy.iter().flat_map(|dword| dword.to_le_bytes()).collect();
                assert!(bytes[at..at + usize::from(size)].iter().all(|&b| b == 0xff));
            }
        }
    }
}
