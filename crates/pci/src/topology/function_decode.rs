//! What routing needs to know of a function, as software has set it: from a [`ConfigSpace`], or
//! from reads of one that is elsewhere.

use std::ops::RangeInclusive;

use crate::bar::{Bar, BarKind};
use crate::bar_index::{BAR_COUNT, BarIndex};
use crate::capability::{SriovView, VfBar};
use crate::config_reader::ConfigReader;
use crate::config_space::ConfigSpace;
use crate::spec::capability_id;
use crate::spec::extended::extended_capability_id;
use crate::spec::header::{self, Command};
use crate::spec::power::{CONTROL_STATUS, PowerControl, PowerState};
use crate::spec::sriov::{self, SriovControl};
use crate::vf_routing::VfRouting;

/// The BAR is one of I/O space, which PCI Express devices need not have and this crate does not know.
const IO_SPACE: u32 = 1;

/// Whether a function answers memory accesses and where, whether it may send requests, and where its
/// VFs are. Its owner makes a new one when the config space changed
/// ([`Topology::update`](super::Topology::update)).
///
/// In another power state than D0 a function neither answers memory accesses nor sends requests
/// (PCI Express Base Specification 5.3.1), and its VFs do not either (9.6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionDecode {
    /// It is in D0.
    awake: bool,
    pub(super) memory_enabled: bool,
    pub(super) bus_master: bool,
    pub(super) bars: [Option<PlacedBar>; BAR_COUNT],
    pub(super) vfs: Option<VfDecode>,
}

/// A BAR with the address that software gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlacedBar {
    pub(super) address: u64,
    pub(super) last: u64,
}

/// The VFs of a PF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VfDecode {
    /// How many there are.
    pub(super) active: u16,
    pub(super) memory_enabled: bool,
    pub(super) routing: VfRouting,
    pub(super) bars: [Option<VfBar>; BAR_COUNT],
}

/// The sizes of a function's BARs, in bytes, which its config space alone does not tell; 0 where
/// there is none, so for the upper half of a 64-bit one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BarSizes {
    /// Of the function itself.
    pub bars: [u64; BAR_COUNT],
    /// Of one of its VFs, if it is a PF; less than the system page size counts as that.
    pub vf_bars: [u64; BAR_COUNT],
}

impl FunctionDecode {
    /// What the config space says now.
    #[must_use]
    pub fn of(config: &ConfigSpace) -> Self {
        let awake = config.power_state() == PowerState::D0;
        let command = config.command();
        let bars = BarIndex::ALL
            .map(|index| PlacedBar::new(config.bar(index)?, config.bar_address(index)?));
        Self {
            awake,
            memory_enabled: awake && command.contains(Command::MEMORY_SPACE),
            bus_master: awake && command.contains(Command::BUS_MASTER),
            bars,
            vfs: config.sriov().map(|view| VfDecode::new(&view, awake)),
        }
    }

    /// What a config space says that `read` reads: it fills a slice with the bytes from an offset
    /// on. Capabilities are looked for in a bounded number of reads. A BAR whose size is not a power of
    /// two of at least 16, or is above 2 GiB for a 32-bit one, answers nothing.
    #[must_use]
    pub fn read(sizes: &BarSizes, read: impl FnMut(u16, &mut [u8])) -> Self {
        let mut reader = ConfigReader::new(read);
        let command = Command::from_bits_retain(reader.u16(header::COMMAND));
        let awake = reader
            .capability(capability_id::POWER_MANAGEMENT)
            .map(|base| PowerControl::from_bits_retain(reader.u16(base + CONTROL_STATUS)))
            .is_none_or(|control| PowerState::of(control) == PowerState::D0);
        let bars = registers(&mut reader, header::BAR0, sizes.bars)
            .map(|bar| bar.and_then(|(bar, address)| PlacedBar::new(bar, address)));
        let vfs = reader
            .extended_capability(extended_capability_id::SRIOV, sriov::LENGTH)
            .map(|base| VfDecode::read(&mut reader, base, sizes.vf_bars, awake));
        Self {
            awake,
            memory_enabled: awake && command.contains(Command::MEMORY_SPACE),
            bus_master: awake && command.contains(Command::BUS_MASTER),
            bars,
            vfs,
        }
    }

    /// The function answers accesses to its BARs.
    #[must_use]
    pub const fn memory_enabled(&self) -> bool {
        self.memory_enabled
    }

    /// The function may send requests, so also message signalled interrupts.
    #[must_use]
    pub const fn bus_master(&self) -> bool {
        self.bus_master
    }

    /// Where a BAR is, whether or not it answers; `None` if there is none.
    #[must_use]
    pub fn bar(&self, index: BarIndex) -> Option<RangeInclusive<u64>> {
        self.bars[index.get()].map(|bar| bar.address..=bar.last)
    }

    /// How many VFs there are; 0 if it is no PF.
    #[must_use]
    pub fn active_vfs(&self) -> u16 {
        self.vfs.map_or(0, |vfs| vfs.active)
    }

    /// The function is in D0, without which its VFs send no requests either.
    #[must_use]
    pub const fn awake(&self) -> bool {
        self.awake
    }

    /// The VFs answer accesses to their BARs; false if it is no PF.
    #[must_use]
    pub fn vf_memory_enabled(&self) -> bool {
        self.vfs.is_some_and(|vfs| vfs.memory_enabled)
    }

    /// Memory is decoded as by `other`.
    pub(super) fn same_memory(&self, other: &Self) -> bool {
        let part = |decode: &Self| (decode.memory_enabled, decode.bars, decode.vfs);
        part(self) == part(other)
    }
}

impl PlacedBar {
    fn new(bar: Bar, address: u64) -> Option<Self> {
        let last = address.checked_add(bar.size - 1)?;
        Some(Self { address, last })
    }
}

impl VfDecode {
    fn new(view: &SriovView, awake: bool) -> Self {
        Self {
            active: view.active_vfs(),
            memory_enabled: awake && view.memory_enabled(),
            routing: view.routing,
            bars: view.vf_bars,
        }
    }

    fn read<R: FnMut(u16, &mut [u8])>(
        reader: &mut ConfigReader<R>,
        base: u16,
        sizes: [u64; BAR_COUNT],
        awake: bool,
    ) -> Self {
        let control = SriovControl::from_bits_retain(reader.u16(base + sriov::CONTROL));
        let enabled = control.contains(SriovControl::VF_ENABLE);
        let num_vfs = reader.u16(base + sriov::NUM_VFS);
        let total_vfs = reader.u16(base + sriov::TOTAL_VFS);
        let page = u64::from(reader.u32(base + sriov::SYSTEM_PAGE_SIZE)) << sriov::PAGE_SIZE_BASE;
        let sizes = sizes.map(|size| if size == 0 { 0 } else { size.max(page) });
        let bars = registers(reader, base + sriov::VF_BAR0, sizes);
        Self {
            active: if enabled { num_vfs.min(total_vfs) } else { 0 },
            memory_enabled: awake
                && enabled
                && control.contains(SriovControl::VF_MEMORY_SPACE_ENABLE),
            routing: VfRouting {
                first_vf_offset: reader.u16(base + sriov::FIRST_VF_OFFSET),
                vf_stride: reader.u16(base + sriov::VF_STRIDE),
            },
            bars: bars.map(|bar| bar.map(|(bar, address)| VfBar { bar, address })),
        }
    }
}

impl VfDecode {
    /// The addresses of all VFs' parts of a BAR: the first and the last one, as far as the BAR's kind
    /// has addresses for whole VFs; `None` if there is none.
    pub(super) fn range(&self, bar: VfBar) -> Option<(u64, u64)> {
        let limit = match bar.bar.kind {
            BarKind::Memory32 => u64::from(u32::MAX),
            BarKind::Memory64 => u64::MAX,
        };
        let beyond_first = limit
            .checked_sub(bar.address)?
            .checked_sub(bar.bar.size - 1)?;
        let room = beyond_first / bar.bar.size;
        let last_vf = room.min(u64::from(self.active.checked_sub(1)?));
        let last = bar.address + last_vf * bar.bar.size + (bar.bar.size - 1);
        Some((bar.address, last))
    }
}

/// The BARs in six registers from `base` on, with their addresses.
fn registers<R: FnMut(u16, &mut [u8])>(
    reader: &mut ConfigReader<R>,
    base: u16,
    sizes: [u64; BAR_COUNT],
) -> [Option<(Bar, u64)>; BAR_COUNT] {
    let mut bars = [None; BAR_COUNT];
    let mut upper_half = false;
    for (index, size) in BarIndex::ALL.into_iter().zip(sizes) {
        if std::mem::take(&mut upper_half) || size == 0 {
            continue;
        }
        let at = |index: BarIndex| base + (index.offset() - header::BAR0);
        let low = reader.u32(at(index));
        if low & IO_SPACE != 0 {
            continue;
        }
        let wide = low & header::BAR_TYPE_64 != 0;
        upper_half = wide;
        let high = match (wide, index.next()) {
            (false, _) => 0,
            (true, Some(next)) => reader.u32(at(next)),
            (true, None) => continue,
        };
        let bar = Bar {
            kind: if wide {
                BarKind::Memory64
            } else {
                BarKind::Memory32
            },
            prefetchable: low & header::BAR_PREFETCHABLE != 0,
            size,
        };
        if bar.check(index).is_ok() {
            let address = (u64::from(high) << 32 | u64::from(low)) & bar.address_mask();
            bars[index.get()] = Some((bar, address));
        }
    }
    bars
}
