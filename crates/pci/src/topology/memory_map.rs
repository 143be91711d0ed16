//! Which BAR a memory access reaches: a table sorted by address. Making it is in `memory_build`.

use super::FunctionId;
use crate::bar_index::BarIndex;

/// The BAR that a memory access reaches, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryTarget {
    /// The function, or the PF whose VF it is.
    pub function: FunctionId,
    /// The VF, counted from 0; `None` for the function itself.
    pub vf: Option<u16>,
    /// The BAR.
    pub bar: BarIndex,
    /// Offset in the BAR, of that VF if it is one, in bytes.
    pub offset: u64,
}

/// Everything that memory accesses reach, as ports and functions are programmed.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    segments: Vec<Segment>,
}

/// A range of addresses that one BAR of a function, or of all its VFs, answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) claim: Claim,
}

/// The BAR that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) function: FunctionId,
    pub(super) bar: BarIndex,
    /// Where the BAR starts: not always within the segment.
    pub(super) base: u64,
    /// Bytes of one VF's part; `None` if it is the function's own BAR.
    pub(super) vf_size: Option<u64>,
}

impl Segment {
    fn target(&self, address: u64, length: u64) -> Option<MemoryTarget> {
        let last = address.checked_add(length.checked_sub(1)?)?;
        if address < self.first || last > self.last {
            return None;
        }
        let distance = address - self.claim.base;
        let (vf, offset) = match self.claim.vf_size {
            None => (None, distance),
            Some(size) => {
                let offset = distance % size;
                if size - offset < length {
                    return None;
                }
                (Some(u16::try_from(distance / size).ok()?), offset)
            }
        };
        Some(MemoryTarget {
            function: self.claim.function,
            vf,
            bar: self.claim.bar,
            offset,
        })
    }
}

impl MemoryMap {
    /// What an access of `length` bytes reaches: `None` if it is not all within one BAR, or of no
    /// bytes.
    #[must_use]
    pub fn target(&self, address: u64, length: u64) -> Option<MemoryTarget> {
        self.segments[self.find(address)?].target(address, length)
    }

    /// The same, where `last` says which segment to try first and then which one it was.
    pub(super) fn target_near(
        &self,
        address: u64,
        length: u64,
        last: &mut usize,
    ) -> Option<MemoryTarget> {
        let contains = |segment: &&Segment| (segment.first..=segment.last).contains(&address);
        if let Some(segment) = self.segments.get(*last).filter(contains) {
            return segment.target(address, length);
        }
        *last = self.find(address)?;
        self.segments[*last].target(address, length)
    }

    fn find(&self, address: u64) -> Option<usize> {
        let after = self
            .segments
            .partition_point(|segment| segment.first <= address);
        after.checked_sub(1)
    }

    /// Takes disjoint segments in any order, and joins those that go on in the same BAR.
    pub(super) fn fill(&mut self, fill: impl FnOnce(&mut Vec<Segment>)) {
        self.segments.clear();
        fill(&mut self.segments);
        self.segments.sort_unstable_by_key(|segment| segment.first);
        self.segments.dedup_by(|next, kept| {
            let same = next.claim == kept.claim && kept.last.checked_add(1) == Some(next.first);
            if same {
                kept.last = next.last;
            }
            same
        });
    }
}
