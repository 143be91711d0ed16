//! Base address registers: what a BAR is, and the six registers' state.

use crate::bar_index::{BAR_COUNT, BarIndex};
use crate::error::ConfigError;
use crate::registers::{Field, Registers};
use crate::spec::header;

/// How wide the address of a memory BAR is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarKind {
    /// 32 bits, one register.
    Memory32,
    /// 64 bits, two registers.
    Memory64,
}

/// A memory BAR (PCI Express Base Specification 7.5.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bar {
    /// How wide its address is.
    pub kind: BarKind,
    /// Reads have no side effects and writes may be merged.
    pub prefetchable: bool,
    /// Size in bytes: a power of two, at least 16; at most 2 GiB for [`BarKind::Memory32`].
    pub size: u64,
}

impl Bar {
    /// A 32-bit, non-prefetchable BAR of `size` bytes.
    #[must_use]
    pub const fn memory32(size: u64) -> Self {
        Self {
            kind: BarKind::Memory32,
            prefetchable: false,
            size,
        }
    }

    /// A 64-bit, non-prefetchable BAR of `size` bytes.
    #[must_use]
    pub const fn memory64(size: u64) -> Self {
        Self {
            kind: BarKind::Memory64,
            prefetchable: false,
            size,
        }
    }

    /// The same BAR, prefetchable.
    #[must_use]
    pub const fn prefetchable(self) -> Self {
        Self {
            prefetchable: true,
            ..self
        }
    }

    /// Bits 3:0 of its (first) register.
    pub(crate) fn type_bits(self) -> u32 {
        let width = match self.kind {
            BarKind::Memory32 => 0,
            BarKind::Memory64 => header::BAR_TYPE_64,
        };
        width
            | if self.prefetchable {
                header::BAR_PREFETCHABLE
            } else {
                0
            }
    }

    /// The size is one that a BAR of this kind can have.
    pub(crate) fn check(self, index: BarIndex) -> Result<(), ConfigError> {
        if !self.size.is_power_of_two() || self.size < header::BAR_SIZE_MIN {
            return Err(ConfigError::BarSize {
                index,
                size: self.size,
            });
        }
        if self.kind == BarKind::Memory32 && self.size > header::BAR_SIZE_MAX_32 {
            return Err(ConfigError::BarTooLarge {
                index,
                size: self.size,
            });
        }
        Ok(())
    }

    /// The bits of the address that software can write.
    pub(crate) fn address_mask(self) -> u64 {
        !(self.size - 1) & !u64::from(header::BAR_TYPE_MASK)
    }
}

/// Puts BARs into their registers, in whatever order they are declared.
///
/// A bridge has `count` of two registers only.
pub(crate) fn arrange(
    declared: &[(BarIndex, Bar)],
    count: u8,
) -> Result<[Option<Bar>; BAR_COUNT], ConfigError> {
    let mut bars = [None; BAR_COUNT];
    let mut taken = [false; BAR_COUNT];
    let mut sorted = declared.to_vec();
    sorted.sort_by_key(|(index, _)| *index);
    for (index, bar) in sorted {
        bar.check(index)?;
        if index.get() >= count.into() {
            return Err(ConfigError::BarOfBridge { index });
        }
        if taken[index.get()] {
            return Err(ConfigError::BarOverlap { index });
        }
        taken[index.get()] = true;
        if bar.kind == BarKind::Memory64 {
            let next = index
                .next()
                .filter(|next| next.get() < count.into())
                .ok_or(ConfigError::BarLast { index })?;
            taken[next.get()] = true;
        }
        bars[index.get()] = Some(bar);
    }
    Ok(bars)
}

/// The six BARs: what they are now and after a reset. Their registers are elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bars {
    current: [Option<Bar>; BAR_COUNT],
    reset: [Option<Bar>; BAR_COUNT],
}

impl Bars {
    pub(crate) fn new(bars: [Option<Bar>; BAR_COUNT]) -> Self {
        Self {
            current: bars,
            reset: bars,
        }
    }

    pub(crate) fn get(&self, index: BarIndex) -> Option<Bar> {
        self.current[index.get()]
    }

    /// Defines the registers of every BAR.
    pub(crate) fn lay_out(&self, registers: &mut Registers) {
        for index in BarIndex::ALL {
            if let Some(bar) = self.get(index) {
                set_registers(registers, index, bar);
            }
        }
    }

    /// Gives a BAR another size. Its address becomes 0.
    pub(crate) fn resize(&mut self, registers: &mut Registers, index: BarIndex, size: u64) {
        if let Some(bar) = &mut self.current[index.get()] {
            bar.size = size;
            set_registers(registers, index, *bar);
        }
    }

    /// Gives every BAR the size it was built with.
    pub(crate) fn reset(&mut self, registers: &mut Registers) {
        for index in BarIndex::ALL {
            if self.current[index.get()] != self.reset[index.get()] {
                self.current[index.get()] = self.reset[index.get()];
                if let Some(bar) = self.current[index.get()] {
                    set_registers(registers, index, bar);
                }
            }
        }
    }

    /// The address in a BAR's registers.
    pub(crate) fn address(&self, registers: &Registers, index: BarIndex) -> Option<u64> {
        let bar = self.get(index)?;
        let low = registers.load(index.offset()) & !header::BAR_TYPE_MASK;
        let high = match (bar.kind, index.next()) {
            (BarKind::Memory64, Some(next)) => registers.load(next.offset()),
            _ => 0,
        };
        Some(u64::from(high) << 32 | u64::from(low))
    }
}

fn set_registers(registers: &mut Registers, index: BarIndex, bar: Bar) {
    let mask = bar.address_mask();
    let low = Field::read_only(bar.type_bits()).writable(low_half(mask));
    registers.define(index.offset(), 4, low);
    if let (BarKind::Memory64, Some(next)) = (bar.kind, index.next()) {
        registers.define(
            next.offset(),
            4,
            Field::read_only(0).writable(low_half(mask >> 32)),
        );
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low_half(value: u64) -> u32 {
    value as u32
}
