//! Device 0: config callbacks that return only zeros. The guest must find the identity and the BARs that were
//! declared, and reach the device through them.

use super::memory::answer;
use super::registers::{
    PAGE, ZEROS, ZEROS_BAR2_BYTES, ZEROS_BAR4_BYTES, ZEROS_LAST_BAR, ZEROS_LAST_LENGTH,
    ZEROS_LAST_OFFSET, ZEROS_LAST_VALUE, ZEROS_READS, ZEROS_WRITES,
};
use super::{Failure, Lab, identity};
use crate::checks::{Verdict, ensure};
use crate::family::Context;
use crate::platform::pci::{self, COMMAND, COMMAND_MEMORY};
use crate::platform::{BarAccess, Width};

/// Header Type, 8 bits; the top one says that there are more functions.
const HEADER_TYPE: u16 = 0x0e;
/// The first BAR register.
const BARS: u16 = 0x10;
/// Size of each BAR in bytes, and the low bits of its register.
const DECLARED: [(u64, u32); 6] = [
    (PAGE, 0),
    (0, 0),
    (ZEROS_BAR2_BYTES, 0xc),
    (0, 0),
    (ZEROS_BAR4_BYTES, 0),
    (0, 0),
];
/// What each register reads after all ones were written.
const PROBED: [u32; 6] = [0xffff_f000, 0, 0xffff_c00c, 0xffff_ffff, 0xffff_e000, 0];

pub(super) fn check(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let found = device.identity()?;
    ensure(found == identity(ZEROS), || {
        format!("identity {found:x?}, expected {:x?}", identity(ZEROS))
    })?;
    let header = device.config_read(HEADER_TYPE, Width::Byte)?;
    ensure(header & 0x7f == 0, || {
        format!("header type {header:#x}, expected 0")
    })?;
    for (bar, (size, flags)) in (0..).zip(DECLARED) {
        let found = device.bar_size(bar)?;
        ensure(found == size, || {
            format!("BAR {bar} has {found} bytes, expected {size}")
        })?;
        if size != 0 {
            let register = device.config_read(BARS + 4 * u16::from(bar), Width::Dword)?;
            ensure(register & 0xf == flags, || {
                format!("BAR {bar} is {register:#x}, its low bits must be {flags:#x}")
            })?;
        }
    }
    let capability = pci::find_capability(device, pci::CAPABILITY_MSIX)?;
    ensure(capability.is_none(), || {
        "there is an MSI-X capability, but the device has none".to_owned()
    })?;
    // Through sysfs it would be the kernel's own BARs that are moved.
    if device.transport() != "sysfs" {
        sizing(device)?;
    }

    let lab = Lab::open(device, ZEROS)?;
    for (bar, size) in [(2, ZEROS_BAR2_BYTES), (4, ZEROS_BAR4_BYTES)] {
        for width in Width::ALL {
            for offset in [0, width.bytes(), PAGE, size - width.bytes()] {
                one_access(&lab, bar, offset, width)?;
            }
        }
    }
    lab.well()?;
    Ok(format!(
        "identity as declared; BAR 0 of {PAGE} bytes, BAR 2 of {ZEROS_BAR2_BYTES}, 64 bits wide and \
         prefetchable, BAR 4 of {ZEROS_BAR4_BYTES}; all answer"
    ))
}

/// Sizes the BARs as system software does, and puts them back.
fn sizing(device: &dyn BarAccess) -> Result<(), Failure> {
    let command = u32::from(pci::read_word(device, COMMAND)?);
    device.config_write(COMMAND, Width::Word, command & !u32::from(COMMAND_MEMORY))?;
    let mut probed = Vec::new();
    for offset in (BARS..).step_by(4).take(PROBED.len()) {
        let before = device.config_read(offset, Width::Dword)?;
        device.config_write(offset, Width::Dword, u32::MAX)?;
        probed.push(device.config_read(offset, Width::Dword)?);
        device.config_write(offset, Width::Dword, before)?;
        let after = device.config_read(offset, Width::Dword)?;
        ensure(after == before, || {
            format!("the register at {offset:#x} reads {after:#x}, and was {before:#x}")
        })?;
    }
    device.config_write(COMMAND, Width::Word, command)?;
    ensure(probed == PROBED, || {
        format!("all ones written to the BARs read {probed:x?}, expected {PROBED:x?}")
    })
}

fn one_access(lab: &Lab<'_>, bar: u8, offset: u64, width: Width) -> Result<(), Failure> {
    let (reads, writes) = (lab.get(ZEROS_READS)?, lab.get(ZEROS_WRITES)?);
    let place = || format!("{} bytes at {offset:#x} of BAR {bar}", width.bytes());
    let read = lab.device.read(bar, offset, width)?;
    let expected = answer(bar, offset, width);
    ensure(read == expected, || {
        format!("{} read {read:#x}, expected {expected:#x}", place())
    })?;
    let value = 0x8796_a5b4_c3d2_e1f0 & width.mask();
    lab.device.write(bar, offset, width, value)?;
    let seen = (
        lab.get(ZEROS_READS)?.wrapping_sub(reads),
        lab.get(ZEROS_WRITES)?.wrapping_sub(writes),
        lab.get(ZEROS_LAST_BAR)?,
        lab.get(ZEROS_LAST_OFFSET)?,
        lab.get(ZEROS_LAST_LENGTH)?,
        lab.get_wide(ZEROS_LAST_VALUE)?,
    );
    let wanted = (1, 1, u64::from(bar), offset, width.bytes(), value);
    ensure(seen == wanted, || {
        format!(
            "{}: the device saw (reads, writes, BAR, offset, length, value) {seen:x?}, expected \
             {wanted:x?}",
            place()
        )
    })
}
