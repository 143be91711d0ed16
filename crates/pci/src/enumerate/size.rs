//! Sizing BARs and VF BARs: all ones are written and read back.

use super::access::Access;
use super::{ConfigBus, FoundBar, FoundFunction};
use crate::bar::{Bar, BarKind};
use crate::bar_index::BarIndex;
use crate::spec::header::{self, Command};
use crate::spec::{bridge, sriov};

/// Bit 0 of a BAR of I/O space.
const IO_SPACE: u32 = 1;

/// Finds the BARs of a function, which answers no memory accesses from now on.
pub(super) fn size<B: ConfigBus + ?Sized>(bus: &mut B, function: &mut FoundFunction) {
    let mut access = Access::new(bus, function.id);
    let command = Command::from_bits_retain(access.read_u16(header::COMMAND));
    let quiet = command - (Command::IO_SPACE | Command::MEMORY_SPACE | Command::BUS_MASTER);
    access.write_u16(header::COMMAND, quiet.bits());
    let count = if function.bridge.is_some() {
        bridge::BAR_COUNT
    } else {
        header::BAR_COUNT
    };
    function.bars = registers(&mut access, header::BAR0, count);
    if let Some(found) = &mut function.sriov {
        let base = found.offset + sriov::VF_BAR0;
        found.bars = registers(&mut access, base, header::BAR_COUNT);
    }
}

fn registers<B: ConfigBus + ?Sized>(
    access: &mut Access<'_, B>,
    base: u16,
    count: u8,
) -> Vec<FoundBar> {
    let mut bars = Vec::new();
    let mut upper_half = false;
    for index in BarIndex::ALL.into_iter().take(count.into()) {
        if std::mem::take(&mut upper_half) {
            continue;
        }
        let at = |index: BarIndex| base + (index.offset() - header::BAR0);
        let low = probe(access, at(index));
        if low & IO_SPACE != 0 {
            continue;
        }
        let wide = low & header::BAR_TYPE_64 != 0;
        let high = match index.next().filter(|_| wide) {
            Some(next) if next.get() < usize::from(count) => {
                upper_half = true;
                probe(access, at(next))
            }
            _ => 0,
        };
        let mask = u64::from(high) << 32 | u64::from(low & !header::BAR_TYPE_MASK);
        if mask == 0 {
            continue;
        }
        let bar = Bar {
            kind: if wide {
                BarKind::Memory64
            } else {
                BarKind::Memory32
            },
            prefetchable: low & header::BAR_PREFETCHABLE != 0,
            size: 1 << mask.trailing_zeros(),
        };
        bars.push(FoundBar {
            index,
            bar,
            address: 0,
        });
    }
    bars
}

/// What a register reads after all ones were written; it is 0 then.
fn probe<B: ConfigBus + ?Sized>(access: &mut Access<'_, B>, offset: u16) -> u32 {
    access.write_u32(offset, u32::MAX);
    let value = access.read_u32(offset);
    access.write_u32(offset, 0);
    value
}
