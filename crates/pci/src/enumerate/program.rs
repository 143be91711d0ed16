//! Writing what was decided into a function's registers.

use std::ops::RangeInclusive;

use super::access::Access;
use super::{ConfigBus, FoundBar, FoundBridge, FoundFunction};
use crate::bar::BarKind;
use crate::routing_id::RoutingId;
use crate::spec::bridge;
use crate::spec::header::{self, Command};
use crate::spec::sriov::{self, SriovControl};

/// Gives BARs, VF BARs and windows their addresses.
pub(super) fn program<B: ConfigBus + ?Sized>(bus: &mut B, function: &FoundFunction) {
    let mut access = Access::new(bus, function.id);
    write_bars(&mut access, header::BAR0, &function.bars);
    if let Some(found) = &function.sriov {
        write_bars(&mut access, found.offset + sriov::VF_BAR0, &found.bars);
    }
    if let Some(bridge) = &function.bridge {
        write_windows(&mut access, bridge);
    }
}

/// Enables memory accesses and bus mastering.
pub(super) fn enable<B: ConfigBus + ?Sized>(bus: &mut B, id: RoutingId) {
    let mut access = Access::new(bus, id);
    let command = Command::from_bits_retain(access.read_u16(header::COMMAND));
    let enabled = command | Command::MEMORY_SPACE | Command::BUS_MASTER;
    access.write_u16(header::COMMAND, enabled.bits());
}

fn write_bars<B: ConfigBus + ?Sized>(access: &mut Access<'_, B>, base: u16, bars: &[FoundBar]) {
    for bar in bars {
        let [low, high] = halves(bar.address);
        let at = base + (bar.index.offset() - header::BAR0);
        access.write_u32(at, low);
        if bar.bar.kind == BarKind::Memory64 {
            access.write_u32(at + 4, high);
        }
    }
}

fn write_windows<B: ConfigBus + ?Sized>(access: &mut Access<'_, B>, found: &FoundBridge) {
    let memory = closed_unless(found.memory.as_ref());
    access.write_u32(bridge::MEMORY_BASE, base_and_limit(memory));
    let prefetchable = closed_unless(found.prefetchable.as_ref());
    access.write_u32(bridge::PREFETCHABLE_BASE, base_and_limit(prefetchable));
    if found.wide {
        let [_, base] = halves(prefetchable.0);
        let [_, limit] = halves(prefetchable.1);
        access.write_u32(bridge::PREFETCHABLE_BASE_UPPER, base);
        access.write_u32(bridge::PREFETCHABLE_LIMIT_UPPER, limit);
    }
}

/// Base and limit; a base above the limit closes the window.
fn closed_unless(window: Option<&RangeInclusive<u64>>) -> (u64, u64) {
    window.map_or((0xfff0_0000, 0), |window| (*window.start(), *window.end()))
}

/// Address bits 31:20 of base and limit in one word.
fn base_and_limit((base, limit): (u64, u64)) -> u32 {
    let mask = u32::from(bridge::MEMORY_MASK);
    let [base, _] = halves(base);
    let [limit, _] = halves(limit);
    base >> 16 & mask | limit & mask << 16
}

pub(super) fn enable_vfs<B: ConfigBus + ?Sized>(
    bus: &mut B,
    pf: &FoundFunction,
    num_vfs: u16,
) -> Vec<RoutingId> {
    let Some(found) = &pf.sriov else {
        return Vec::new();
    };
    if num_vfs > found.total_vfs {
        return Vec::new();
    }
    let mut access = Access::new(bus, pf.id);
    access.write_u16(found.offset + sriov::NUM_VFS, num_vfs);
    let at = found.offset + sriov::CONTROL;
    let control = SriovControl::from_bits_retain(access.read_u16(at));
    let enabled = control | SriovControl::VF_ENABLE | SriovControl::VF_MEMORY_SPACE_ENABLE;
    access.write_u16(at, enabled.bits());
    let id = |vf| found.routing.routing_id(pf.id, vf);
    (0..num_vfs).filter_map(id).collect()
}

pub(super) fn disable_vfs<B: ConfigBus + ?Sized>(bus: &mut B, pf: &FoundFunction) {
    let Some(found) = &pf.sriov else { return };
    let mut access = Access::new(bus, pf.id);
    let at = found.offset + sriov::CONTROL;
    let control = SriovControl::from_bits_retain(access.read_u16(at));
    let disabled = control - (SriovControl::VF_ENABLE | SriovControl::VF_MEMORY_SPACE_ENABLE);
    access.write_u16(at, disabled.bits());
    access.write_u16(found.offset + sriov::NUM_VFS, 0);
}

/// The low and the high half.
#[expect(clippy::cast_possible_truncation, reason = "halves are what is wanted")]
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
