//! The MSI-X capability (PCI Express Base Specification 7.7.2). The table it points to is
//! [`MsixTable`](crate::MsixTable).

use super::{BarPlan, Capability, CapabilityRegisters, Change, Window};
use crate::bar_index::BarIndex;
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::{Field, Registers};
use crate::spec::capability_id;
use crate::spec::msix::{self, MsixControl};

/// A place in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BarOffset {
    /// The BAR.
    pub bar: BarIndex,
    /// Offset in it, in bytes.
    pub offset: u32,
}

impl BarOffset {
    /// `offset` bytes into `bar`.
    #[must_use]
    pub const fn new(bar: BarIndex, offset: u32) -> Self {
        Self { bar, offset }
    }
}

/// MSI-X: 1 to 2048 vectors, a table and a pending-bit array in BAR memory.
#[derive(Clone, Copy, Debug)]
pub struct Msix {
    vectors: u16,
    table: BarOffset,
    pba: BarOffset,
}

impl Msix {
    /// `vectors` is 1 to 2048. Table ([`msix::table_size`]) and pending-bit array
    /// ([`msix::pending_size`]) lie wholly in declared BARs, begin at multiples of 8 and do not
    /// overlap: 16 bytes for each vector, and 8 for each 64 vectors begun.
    #[must_use]
    pub const fn new(vectors: u16, table: BarOffset, pba: BarOffset) -> Self {
        Self {
            vectors,
            table,
            pba,
        }
    }
}

fn check_part(
    bars: &BarPlan,
    part: &'static str,
    place: BarOffset,
    length: u64,
) -> Result<(), ConfigError> {
    let BarOffset { bar, offset } = place;
    if bars.bar(bar).is_none() {
        return Err(ConfigError::MsixBar { part, bar });
    }
    if !offset.is_multiple_of(msix::ALIGNMENT) {
        return Err(ConfigError::MsixAlignment { part, offset });
    }
    let size = bars.smallest(bar);
    if u64::from(offset) + length > size {
        return Err(ConfigError::MsixRange {
            part,
            offset,
            length,
            bar,
            size,
        });
    }
    Ok(())
}

impl CapabilityRegisters for Msix {
    fn name(&self) -> &'static str {
        "MSI-X"
    }

    fn length(&self) -> u16 {
        msix::LENGTH
    }

    fn check(&self, bars: &mut BarPlan) -> Result<(), ConfigError> {
        if self.vectors == 0 || self.vectors > msix::VECTORS_MAX {
            return Err(ConfigError::Vectors {
                name: self.name(),
                vectors: self.vectors,
                allowed: "1 to 2048 are possible",
            });
        }
        let table_length = msix::table_size(self.vectors);
        let pending_length = msix::pending_size(self.vectors);
        check_part(bars, "table", self.table, table_length)?;
        check_part(bars, "pending-bit array", self.pba, pending_length)?;
        let (table, pending) = (u64::from(self.table.offset), u64::from(self.pba.offset));
        if self.table.bar == self.pba.bar
            && table < pending + pending_length
            && pending < table + table_length
        {
            return Err(ConfigError::MsixOverlap {
                bar: self.table.bar,
                table: self.table.offset,
                pending: self.pba.offset,
            });
        }
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let writable = MsixControl::ENABLE.union(MsixControl::FUNCTION_MASK);
        window.define_u16(
            msix::CONTROL,
            Field::read_only(u32::from(self.vectors - 1)).writable(writable.bits().into()),
        );
        for (at, place) in [(msix::TABLE, self.table), (msix::PENDING, self.pba)] {
            window.define_u32(at, Field::read_only(place.offset | u32::from(place.bar)));
        }
    }

    fn written(&mut self, _window: &mut Window<'_>, change: Change) -> Effects {
        if change.changed() {
            Effects::MSIX
        } else {
            Effects::empty()
        }
    }
}

impl Capability for Msix {
    fn id(&self) -> u8 {
        capability_id::MSIX
    }
}

/// The MSI-X capability as software has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixView {
    /// Number of vectors, 1 to 2048.
    pub vectors: u16,
    /// The function may use MSI-X (and no INTx).
    pub enabled: bool,
    /// All vectors are masked, whatever their entries say.
    pub function_masked: bool,
    /// Where the table is.
    pub table: BarOffset,
    /// Where the pending-bit array is.
    pub pba: BarOffset,
}

impl MsixView {
    /// Reads the capability at `base`; `None` if it points to no BAR, which it never does.
    pub(crate) fn read(registers: &Registers, base: u16) -> Option<Self> {
        let control = (registers.load(base) >> 16) as u16;
        let control = MsixControl::from_bits_retain(control);
        let place = |at: u16| {
            let word = registers.load(base + at);
            let bar = BarIndex::try_from(word & msix::BAR_MASK).ok()?;
            Some(BarOffset {
                bar,
                offset: word & msix::OFFSET_MASK,
            })
        };
        Some(Self {
            vectors: control.intersection(MsixControl::TABLE_SIZE).bits() + 1,
            enabled: control.contains(MsixControl::ENABLE),
            function_masked: control.contains(MsixControl::FUNCTION_MASK),
            table: place(msix::TABLE)?,
            pba: place(msix::PENDING)?,
        })
    }
}
