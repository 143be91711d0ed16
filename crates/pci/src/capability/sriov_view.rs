//! What the registers of an SR-IOV extended capability say (PCI Express Base Specification 9.3.3).

use super::Window;
use crate::bar::{Bar, BarKind};
use crate::bar_index::{BAR_COUNT, BarIndex};
use crate::registers::{self, Registers};
use crate::spec::header;
use crate::spec::sriov::{self, SriovControl};
use crate::vf_routing::VfRouting;

/// The SR-IOV capability as software has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SriovView {
    /// Most VFs there can be, 0 to 65535.
    pub total_vfs: u16,
    /// The register `NumVFs`, whatever was written: 0 to 65535 while `vf_enable` is false, 1 to
    /// `total_vfs` while it is true.
    pub num_vfs: u16,
    /// VF Enable: the VFs are there.
    pub vf_enable: bool,
    /// VF MSE: with `vf_enable`, the VFs answer memory accesses.
    pub vf_mse: bool,
    /// Functions above 7 can be reached; always false in other PFs than the one with the lowest
    /// function number.
    pub ari_capable_hierarchy: bool,
    /// Where the VFs are, with ARI as it is now.
    pub routing: VfRouting,
    /// The device id of the VFs.
    pub vf_device_id: u16,
    /// The page sizes that can be chosen, bit n for 2^(n + 12) bytes.
    pub supported_page_sizes: u32,
    /// The one that is chosen, in bytes: a power of two from 4 KiB to 8 TiB.
    pub system_page_size: u64,
    /// The VFs' BARs; `None` if one is not declared, so for the upper half of a 64-bit one.
    pub vf_bars: [Option<VfBar>; BAR_COUNT],
}

/// One BAR of all VFs: an array with an element for each, in their order, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VfBar {
    /// The kind of BAR, and the size for one VF, in bytes, as the system page size makes it.
    pub bar: Bar,
    /// Where that of VF 0 is, a multiple of the size. While software sizes the BAR this is no
    /// address it means.
    pub address: u64,
}

impl VfBar {
    /// Where that of VF `vf`, counted from 0, is; `None` if its end is beyond the addresses of this
    /// kind of BAR.
    #[must_use]
    pub fn vf_address(self, vf: u16) -> Option<u64> {
        let size = self.bar.size;
        let address = size.checked_mul(vf.into())?.checked_add(self.address)?;
        let last = address.checked_add(size - 1)?;
        let limit = match self.bar.kind {
            BarKind::Memory32 => u32::MAX.into(),
            BarKind::Memory64 => u64::MAX,
        };
        (last <= limit).then_some(address)
    }

    /// Which VF, counted from 0, an address would belong to if there are `num_vfs`, and the offset
    /// in its BAR, in bytes; `None` if to none.
    #[must_use]
    pub fn vf_at(self, address: u64, num_vfs: u16) -> Option<(u16, u64)> {
        let distance = address.checked_sub(self.address)?;
        let vf = u16::try_from(distance / self.bar.size).ok()?;
        self.vf_address(vf)?;
        (vf < num_vfs).then_some((vf, distance % self.bar.size))
    }
}

impl SriovView {
    /// How many VFs there are: `num_vfs` while `vf_enable` is true, 0 otherwise.
    #[must_use]
    pub const fn active_vfs(&self) -> u16 {
        if self.vf_enable { self.num_vfs } else { 0 }
    }

    /// The VFs answer memory accesses: VF Enable and VF MSE are both set.
    #[must_use]
    pub const fn memory_enabled(&self) -> bool {
        self.vf_enable && self.vf_mse
    }

    /// What each VF BAR register reads after all ones were written to it, at this system page size.
    #[must_use]
    pub fn probed_bars(&self) -> [u32; BAR_COUNT] {
        let mut probed = [0; BAR_COUNT];
        for (index, bar) in BarIndex::ALL.into_iter().zip(self.vf_bars) {
            let Some(VfBar { bar, .. }) = bar else {
                continue;
            };
            let [low, high] = halves(bar.address_mask());
            probed[index.get()] = low | bar.type_bits();
            if let (BarKind::Memory64, Some(next)) = (bar.kind, index.next()) {
                probed[next.get()] = high;
            }
        }
        probed
    }

    pub(super) fn of(window: &Window<'_>) -> Self {
        Self::read(window.registers, window.base)
    }

    /// Reads the capability at `base`.
    pub(crate) fn read(registers: &Registers, base: u16) -> Self {
        let [num_vfs, _] = words(registers, base + sriov::NUM_VFS);
        let [control, _] = words(registers, base + sriov::CONTROL);
        let [_, total_vfs] = words(registers, base + sriov::INITIAL_VFS);
        let [first_vf_offset, vf_stride] = words(registers, base + sriov::FIRST_VF_OFFSET);
        let [_, vf_device_id] = words(registers, base + (sriov::VF_DEVICE_ID & !3));
        let control = SriovControl::from_bits_retain(control);
        let page = u64::from(registers.load(base + sriov::SYSTEM_PAGE_SIZE));
        let system_page_size = page << sriov::PAGE_SIZE_BASE;
        Self {
            total_vfs,
            num_vfs,
            vf_enable: control.contains(SriovControl::VF_ENABLE),
            vf_mse: control.contains(SriovControl::VF_MEMORY_SPACE_ENABLE),
            ari_capable_hierarchy: control.contains(SriovControl::ARI_CAPABLE_HIERARCHY),
            routing: VfRouting {
                first_vf_offset,
                vf_stride,
            },
            vf_device_id,
            supported_page_sizes: registers.load(base + sriov::SUPPORTED_PAGE_SIZES),
            system_page_size,
            vf_bars: read_bars(registers, base, system_page_size),
        }
    }
}

/// The low and the high half of the 32-bit word at `offset`.
fn words(registers: &Registers, offset: u16) -> [u16; 2] {
    registers::halves(registers.load(offset))
}

fn read_bars(registers: &Registers, base: u16, page: u64) -> [Option<VfBar>; BAR_COUNT] {
    let mut bars = [None; BAR_COUNT];
    let mut upper_half = false;
    for index in BarIndex::ALL {
        if std::mem::take(&mut upper_half) {
            continue;
        }
        let low = base + vf_bar(index);
        let value = registers.load(low);
        let wide = value & header::BAR_TYPE_64 != 0;
        let high = index
            .next()
            .filter(|_| wide)
            .map(|next| base + vf_bar(next));
        upper_half = wide;
        // The bits of an address that can be written tell the size it was declared with.
        let join = |part: fn(&Registers, u16) -> u32| {
            let high = high.map_or(0, |high| part(registers, high));
            u64::from(high) << 32 | u64::from(part(registers, low))
        };
        let Some(log) = lowest_bit(join(Registers::write_mask)) else {
            continue;
        };
        bars[index.get()] = Some(VfBar {
            bar: Bar {
                kind: if wide {
                    BarKind::Memory64
                } else {
                    BarKind::Memory32
                },
                prefetchable: value & header::BAR_PREFETCHABLE != 0,
                size: page.max(1 << log),
            },
            address: join(Registers::load) & !u64::from(header::BAR_TYPE_MASK),
        });
    }
    bars
}

/// The number of the lowest bit that is set.
fn lowest_bit(value: u64) -> Option<u32> {
    (value != 0).then(|| value.trailing_zeros())
}

/// Offset of a VF BAR in the capability.
pub(super) fn vf_bar(index: BarIndex) -> u16 {
    sriov::VF_BAR0 + index.offset() - header::BAR0
}

/// The low and the high half.
#[expect(clippy::cast_possible_truncation, reason = "halves are what is wanted")]
pub(super) fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
