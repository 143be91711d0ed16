//! The resizable BAR extended capability (PCI Express Base Specification 7.8.6).

use super::{BarPlan, CapabilityRegisters, Change, ExtendedCapability, Window};
use crate::bar::Bar;
use crate::bar_index::BarIndex;
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::Field;
use crate::spec::extended::{self, extended_capability_id};

/// One BAR of the capability.
#[derive(Clone, Copy, Debug)]
struct Entry {
    bar: BarIndex,
    /// Bit n: 2^(20 + n) bytes.
    sizes: u64,
    /// A size it was given that no resizable BAR can have.
    bad: Option<u64>,
}

/// BARs whose size software can choose.
#[derive(Clone, Debug, Default)]
pub struct ResizableBar {
    entries: Vec<Entry>,
}

impl ResizableBar {
    /// No BAR yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Adds a declared BAR and the sizes it can take, in bytes: powers of two from 1 MiB up, its
    /// declared size among them.
    #[must_use]
    pub fn bar(mut self, bar: BarIndex, sizes: &[u64]) -> Self {
        let valid = |size: u64| size.is_power_of_two() && encode(size).is_some();
        let bad = sizes.iter().copied().find(|&size| !valid(size));
        let bits = sizes.iter().filter_map(|&size| encode(size));
        let sizes = bits.fold(0, |sizes, bit| sizes | 1 << bit);
        self.entries.push(Entry { bar, sizes, bad });
        self
    }

    fn registers(&self) -> impl Iterator<Item = (u16, &Entry)> {
        let offsets =
            (extended::RESIZABLE_BAR_FIRST..).step_by(usize::from(extended::RESIZABLE_BAR_STRIDE));
        offsets.zip(&self.entries)
    }
}

/// A size as the control register encodes it; `None` below 1 MiB.
fn encode(size: u64) -> Option<u32> {
    size.checked_ilog2()?
        .checked_sub(extended::RESIZABLE_BAR_SIZE_BASE)
}

/// The size that the control register encodes; `None` above 8 EiB.
fn decode(code: u32) -> Option<u64> {
    1_u64.checked_shl(code + extended::RESIZABLE_BAR_SIZE_BASE)
}

fn check_entry(entry: &Entry, bars: &mut BarPlan) -> Result<(), ConfigError> {
    let bar = entry.bar;
    let declared = bars
        .bar(bar)
        .ok_or(ConfigError::ResizableBarMissing { bar })?;
    if let Some(size) = entry.bad {
        return Err(ConfigError::ResizableBarSize { bar, size });
    }
    let code = encode(declared.size).unwrap_or(u32::MAX);
    if entry.sizes.checked_shr(code).unwrap_or(0) & 1 == 0 {
        return Err(ConfigError::ResizableBarDeclared {
            bar,
            size: declared.size,
        });
    }
    for size in (0..u64::BITS)
        .filter(|code| entry.sizes >> code & 1 != 0)
        .filter_map(decode)
    {
        let resized = Bar { size, ..declared };
        resized
            .check(bar)
            .map_err(|_| ConfigError::ResizableBarSize { bar, size })?;
        bars.shrinks_to(bar, size);
    }
    Ok(())
}

impl CapabilityRegisters for ResizableBar {
    fn name(&self) -> &'static str {
        "resizable BAR"
    }

    fn length(&self) -> u16 {
        let count = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        count
            .saturating_mul(extended::RESIZABLE_BAR_STRIDE)
            .saturating_add(extended::RESIZABLE_BAR_FIRST)
    }

    fn check(&self, bars: &mut BarPlan) -> Result<(), ConfigError> {
        if self.entries.is_empty() {
            return Err(ConfigError::ResizableBarNone);
        }
        for (at, entry) in self.entries.iter().enumerate() {
            if self.entries[..at]
                .iter()
                .any(|other| other.bar == entry.bar)
            {
                return Err(ConfigError::ResizableBarTwice { bar: entry.bar });
            }
            check_entry(entry, bars)?;
        }
        Ok(())
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let mut count = u32::try_from(self.entries.len()).unwrap_or(0);
        for (offset, entry) in self.registers() {
            let low_sizes = entry.sizes & ((1 << extended::RESIZABLE_BAR_SIZES_LOW) - 1);
            let high_sizes = entry.sizes >> extended::RESIZABLE_BAR_SIZES_LOW;
            let word = |bits: u64| u32::try_from(bits).unwrap_or(0);
            let capability = word(low_sizes) << extended::RESIZABLE_BAR_SIZES_SHIFT;
            window.define_u32(offset, Field::read_only(capability));

            let size = window
                .bar(entry.bar)
                .and_then(|bar| encode(bar.size))
                .unwrap_or(0);
            let control = u32::from(entry.bar)
                | count << extended::RESIZABLE_BAR_COUNT_SHIFT
                | size << extended::RESIZABLE_BAR_SIZE_SHIFT
                | word(high_sizes) << extended::RESIZABLE_BAR_SIZES_HIGH_SHIFT;
            window.define_u32(
                offset + extended::RESIZABLE_BAR_CONTROL,
                Field::read_only(control).writable(extended::RESIZABLE_BAR_SIZE_MASK),
            );
            // The number of BARs stands in the first control register only.
            count = 0;
        }
    }

    fn written(&mut self, window: &mut Window<'_>, change: Change) -> Effects {
        if !change.changed() {
            return Effects::empty();
        }
        let control = |offset| offset + extended::RESIZABLE_BAR_CONTROL;
        let entry = self
            .registers()
            .find(|(offset, _)| control(*offset) == change.offset);
        let Some((_, entry)) = entry else {
            return Effects::empty();
        };
        let mask = extended::RESIZABLE_BAR_SIZE_MASK;
        let code = (change.after & mask) >> extended::RESIZABLE_BAR_SIZE_SHIFT;
        match decode(code) {
            Some(size) if entry.sizes >> code & 1 != 0 => {
                window.resize_bar(entry.bar, size);
                Effects::BAR
            }
            _ => {
                window.set_u32(change.offset, mask, change.before);
                Effects::empty()
            }
        }
    }
}

impl ExtendedCapability for ResizableBar {
    fn id(&self) -> u16 {
        extended_capability_id::RESIZABLE_BAR
    }
}
