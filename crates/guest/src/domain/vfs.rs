//! VFs that the kernel brings on a PF inside, and takes away again.

use hdv_devices::sensor::registers::SCRATCH;
use hdv_devices::sriov_sensor::registers::VF_DEVICE_ID;

use super::{INSIDE, inside};
use crate::checks::{Failure, Verdict, ensure};
use crate::init::system;
use crate::platform::sysfs::Sysfs;
use crate::platform::{BarAccess, Width};
use crate::sriov::linux::{Pf, pfs};

/// A driver that does nothing but let VFs be enabled.
const STUB_DRIVER: &str = "pci-pf-stub";
/// Bytes of a VF's config space in which it has no bits of its own: its ids.
const IDS: std::ops::Range<usize> = 0..4;

/// The PF inside, under a driver that lets VFs be enabled.
pub(super) fn pf() -> Result<Pf, Failure> {
    let is_inside = |pf: &Pf| pf.address().starts_with(INSIDE);
    let found = pfs()?.into_iter().find(is_inside);
    let pf = found.ok_or_else(|| Failure::new("there is no PF inside"))?;
    system::bind(pf.address(), STUB_DRIVER)?;
    Ok(pf)
}

fn count(pf: &Pf, expected: u16) -> Result<(), Failure> {
    let (count, links) = (pf.num_vfs()?, pf.vf_links()?);
    let functions = inside(VF_DEVICE_ID)?.len();
    let all = usize::from(expected);
    ensure(
        count == expected && links == all && functions == all,
        || format!("{expected} expected: {count} enabled, {links} links, {functions} functions"),
    )
}

/// VFs come as they are asked for and go again: few, and as many as there can be.
pub(super) fn come_and_go() -> Verdict {
    let pf = pf()?;
    let total = pf.total_vfs()?;
    for wanted in [1, 4, total] {
        pf.set_num_vfs(wanted)?;
        count(&pf, wanted)?;
        check_vfs(&pf, wanted)?;
        pf.set_num_vfs(0)?;
        count(&pf, 0)?;
    }
    Ok(format!(
        "1, 4 and {total} of {}, and none after each",
        pf.address()
    ))
}

/// Each VF has the config space of one, and registers of its own.
fn check_vfs(pf: &Pf, all: u16) -> Result<(), Failure> {
    let mut opened = Vec::new();
    for vf in 0..all {
        let address = pf
            .vf(vf)
            .ok_or_else(|| Failure::new(format!("VF {vf} has no link")))?;
        let config = pf.vf_config(vf)?;
        ensure(config.get(IDS).is_some_and(|ids| ids == [0xff; 4]), || {
            format!("{address}: its ids are not all ones")
        })?;
        system::unbind(&address)?;
        let device = Sysfs::open(&address)?;
        device.write(0, SCRATCH, Width::Dword, vf.into())?;
        opened.push((vf, device));
    }
    for (vf, device) in opened {
        let value = device.read(0, SCRATCH, Width::Dword)?;
        ensure(value == u64::from(vf), || {
            format!("{}: {value:#x} in place of {vf}", device.name())
        })?;
    }
    Ok(())
}

/// More than there can be, and another number while some are enabled.
pub(super) fn refused() -> Verdict {
    let pf = pf()?;
    let too_many = pf.total_vfs()?.saturating_add(1);
    let refused = |wanted: u16, expected: u16| {
        let written = pf.set_num_vfs(wanted);
        ensure(written.is_err(), || format!("{wanted} were not refused"))?;
        count(&pf, expected)
    };
    refused(too_many, 0)?;
    pf.set_num_vfs(1)?;
    refused(4, 1)?;
    pf.set_num_vfs(0)?;
    count(&pf, 0)?;
    Ok(format!("{too_many}, and 4 while 1 is enabled"))
}
