//! PFs as data, for JSON and for `render`.

use std::path::PathBuf;

use hdv_pci::spec::header::{BAR_PREFETCHABLE, BAR_TYPE_64, BAR_TYPE_MASK};
use serde::Serialize;

use super::Pf;
use super::emulated::EmulatedPf;
use super::find::Named;
use super::linux::LinuxPf;
use crate::decode::{BarKind, BarRegister, ConfigSpace, Hex, Sriov};
use crate::process;
use crate::status::{Device, DeviceClient};

/// A PF, in short.
#[derive(Debug, Serialize)]
pub(super) struct PfSummary {
    /// What it can be named by, and no other one.
    pub(super) name: String,
    pub(super) address: String,
    /// TotalVFs, where it can be seen.
    pub(super) total_vfs: Option<u16>,
    /// NumVFs.
    pub(super) num_vfs: u16,
    pub(super) vf_enable: bool,
    /// Beyond its own bus.
    pub(super) captured_buses: u8,
    #[serde(flatten)]
    pub(super) origin: Origin,
}

/// Where a PF comes from.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Origin {
    /// From a device host.
    Emulated {
        pid: u32,
        process: Option<String>,
        /// What it is called inside its domain; `None` if it has a socket of its own.
        label: Option<String>,
        /// The VM that has the PF controls its VFs.
        guest_controls_sriov: bool,
        /// `None` if it has just gone, and inside a domain.
        device: Option<Box<Device>>,
    },
    /// From this machine.
    Linux {
        driver: Option<String>,
        /// How many VFs its driver offers.
        offered_vfs: Option<u16>,
        path: PathBuf,
    },
}

/// A PF, with all that can be told.
#[derive(Debug, Serialize)]
pub(super) struct PfDetails {
    #[serde(flatten)]
    pub(super) summary: PfSummary,
    /// The offset of the SR-IOV capability.
    pub(super) capability: Option<Hex<3>>,
    /// `None` if they cannot be read.
    pub(super) registers: Option<Sriov>,
    /// Why they cannot be read.
    pub(super) registers_error: Option<String>,
    /// What VF BARs read after all ones were written; `None` if it is not known.
    pub(super) probed_bars: Option<[Hex<8>; 6]>,
    /// What that says: one for each VF BAR there is.
    pub(super) vf_bars: Vec<ProbedBar>,
    pub(super) vfs: Vec<Vf>,
}

/// A BAR of every VF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ProbedBar {
    pub(super) index: u8,
    pub(super) kind: BarKind,
    pub(super) prefetchable: bool,
    /// Of each VF's, in bytes.
    pub(super) size: u64,
    /// Where VF 0's is, or would be; `None` if registers cannot be read.
    pub(super) address: Option<Hex<1>>,
}

/// A VF that is enabled.
#[derive(Debug, Serialize)]
pub(super) struct Vf {
    pub(super) vf: u16,
    pub(super) address: String,
    pub(super) bars: Vec<VfBar>,
    /// Of an emulated one that is not inside a domain.
    pub(super) socket: Option<PathBuf>,
    /// Of an emulated one that is not inside a domain.
    pub(super) state: Option<String>,
    /// Who uses an emulated one.
    pub(super) client: Option<DeviceClient>,
    /// Who uses one of this machine.
    pub(super) driver: Option<String>,
}

/// Where a BAR of a VF is on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct VfBar {
    pub(super) index: u8,
    /// `None` while no software has placed it.
    pub(super) address: Option<Hex<1>>,
}

pub(super) fn summary(named: &Named) -> PfSummary {
    let name = named.name.clone();
    match &named.pf {
        Pf::Emulated(pf) => PfSummary {
            name,
            address: pf.status.address.clone(),
            total_vfs: Some(pf.status.total_vfs),
            num_vfs: pf.status.num_vfs,
            vf_enable: pf.status.vf_enable,
            captured_buses: pf.status.captured_buses,
            origin: Origin::Emulated {
                pid: pf.pid,
                process: process::name(pf.pid),
                label: pf.status.label.clone(),
                guest_controls_sriov: pf.status.guest_controls_sriov,
                device: pf
                    .device()
                    .cloned()
                    .map(|device| Box::new(Device::from(device))),
            },
        },
        Pf::Linux(pf) => PfSummary {
            name,
            address: pf.status.address.clone(),
            total_vfs: pf.status.total_vfs,
            num_vfs: pf.status.num_vfs,
            vf_enable: pf.status.vf_enable,
            captured_buses: pf.status.captured_buses,
            origin: Origin::Linux {
                driver: pf.status.driver.clone(),
                offered_vfs: pf.status.offered_vfs,
                path: pf.path(),
            },
        },
    }
}

impl PfDetails {
    /// Registers that cannot be read are told in [`registers_error`](Self::registers_error).
    pub(super) fn of(named: &Named) -> Self {
        let (probed_bars, vfs) = match &named.pf {
            Pf::Emulated(pf) => (Some(pf.status.probed_bars), emulated_vfs(pf)),
            Pf::Linux(pf) => (pf.status.probed_bars, linux_vfs(pf)),
        };
        let config = named.config(None);
        let (config, registers_error) = match config {
            Ok((_, bytes)) => (Some(ConfigSpace::decode(&bytes)), None),
            Err(refusal) => (None, Some(refusal.what)),
        };
        let found = config.as_ref().and_then(ConfigSpace::sriov);
        let registers = found.map(|(_, sriov)| sriov.clone());
        Self {
            summary: summary(named),
            capability: found.map(|(offset, _)| offset),
            vf_bars: probed_bars.map_or_else(Vec::new, |probed| {
                let placed = registers.as_ref().map(|registers| &*registers.vf_bars);
                probed_bars_of(probed, placed)
            }),
            registers,
            registers_error,
            probed_bars: probed_bars.map(|probed| probed.map(|bits| Hex(bits.into()))),
            vfs,
        }
    }
}

fn emulated_vfs(pf: &EmulatedPf) -> Vec<Vf> {
    let first = first_bars(pf.status.vfs.iter().map(|vf| (vf.vf, vf.bars)));
    let vfs = pf.status.vfs.iter().map(|vf| {
        let device = pf.vf_device(vf).cloned().map(Device::from);
        let (socket, state, client) = match device {
            Some(device) => (Some(device.socket), Some(device.state), device.client),
            None => (None, None, None),
        };
        Vf {
            vf: vf.vf,
            address: vf.address.clone(),
            bars: vf_bars(vf.bars, first),
            socket,
            state,
            client,
            driver: None,
        }
    });
    vfs.collect()
}

fn linux_vfs(pf: &LinuxPf) -> Vec<Vf> {
    let first = first_bars(pf.status.vfs.iter().map(|vf| (vf.vf, vf.bars)));
    let vfs = pf.status.vfs.iter().map(|vf| Vf {
        vf: vf.vf,
        address: vf.address.clone(),
        bars: vf_bars(vf.bars, first),
        socket: None,
        state: None,
        client: None,
        driver: vf.driver.clone(),
    });
    vfs.collect()
}

/// Where the BARs of VF 0 are.
fn first_bars(mut vfs: impl Iterator<Item = (u16, [Option<u64>; 6])>) -> [Option<u64>; 6] {
    let first = vfs.find(|(vf, _)| *vf == 0);
    first.map_or([None; 6], |(_, bars)| bars)
}

/// `first` are those of VF 0: where they are not placed, those of further VFs are counted from 0.
fn vf_bars(bars: [Option<u64>; 6], first: [Option<u64>; 6]) -> Vec<VfBar> {
    let bars = (0..).zip(bars).zip(first);
    let bars = bars.filter_map(|((index, address), first)| {
        let address = Some(address?).filter(|address| *address != 0 && first != Some(0));
        let address = address.map(Hex);
        Some(VfBar { index, address })
    });
    bars.collect()
}

/// What probed values say, with the addresses that the registers have.
fn probed_bars_of(probed: [u32; 6], placed: Option<&[BarRegister]>) -> Vec<ProbedBar> {
    let mut bars = Vec::new();
    let mut registers = (0..).zip(probed).peekable();
    while let Some((index, low)) = registers.next() {
        let wide = low & BAR_TYPE_64 != 0;
        let high = registers.next_if(|_| wide).map(|(_, high)| high);
        let mask = match high {
            Some(high) => u64::from(high) << 32 | u64::from(low & !BAR_TYPE_MASK),
            None => u64::from(low & !BAR_TYPE_MASK) | !u64::from(u32::MAX),
        };
        if low & !BAR_TYPE_MASK == 0 && high.unwrap_or(0) == 0 {
            continue;
        }
        let register = placed.and_then(|placed| placed.iter().find(|bar| bar.index == index));
        bars.push(ProbedBar {
            index,
            kind: if wide {
                BarKind::Memory64
            } else {
                BarKind::Memory32
            },
            prefetchable: low & BAR_PREFETCHABLE != 0,
            size: (!mask).wrapping_add(1),
            address: register.map(|bar| bar.address),
        });
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probed_values_say_kind_and_size() {
        let bar = |index, kind, prefetchable, size, address| ProbedBar {
            index,
            kind,
            prefetchable,
            size,
            address,
        };
        let probed = [0xffff_c00c, 0xffff_ffff, 0xfff0_0000, 0, 4, 0xffff_fff0];
        let placed = [BarRegister {
            index: 0,
            kind: BarKind::Memory64,
            prefetchable: true,
            address: Hex(0x1_0000_0000),
        }];
        let expected = [
            bar(0, BarKind::Memory64, true, 0x4000, Some(Hex(0x1_0000_0000))),
            bar(2, BarKind::Memory32, false, 0x10_0000, None),
            bar(4, BarKind::Memory64, false, 0x10_0000_0000, None),
        ];
        assert_eq!(probed_bars_of(probed, Some(&placed)), expected);
        assert_eq!(probed_bars_of([0; 6], Some(&placed)), []);
        // Only the first register of a 64-bit BAR that has no second one.
        let last = [0, 0, 0, 0, 0, 0xffff_f004];
        assert_eq!(probed_bars_of(last, None).len(), 1);
    }

    #[test]
    fn only_bars_that_are_placed_have_an_address() {
        let first = [Some(0x1000), None, Some(0), None, None, None];
        let second = [Some(0x2000), None, Some(0x1000), None, None, None];
        assert_eq!(first_bars([(1, second), (0, first)].into_iter()), first);
        let expected = |address| {
            let bars = [(0, Some(Hex(address))), (2, None)];
            bars.map(|(index, address)| VfBar { index, address })
        };
        assert_eq!(vf_bars(first, first), expected(0x1000));
        assert_eq!(vf_bars(second, first), expected(0x2000));
    }
}
