//! Device 6: callbacks that fail. The guest reads all ones, its writes are dropped, and all else goes on.

use super::registers::{
    FAILING, FAILING_CONFIG, FAILING_CONFIG_BYTES, FAILING_CONFIG_READS, FAILING_CONFIG_WRITES,
    FAILING_FROM, FAILING_READS, FAILING_WRITES, PAGE,
};
use super::{Failure, Lab, REGISTERS, identity};
use crate::checks::{Verdict, ensure};
use crate::family::Context;
use crate::platform::{BarAccess, Width, pci};

/// Widths of accesses to config space.
const NARROW: [Width; 3] = [Width::Byte, Width::Word, Width::Dword];

pub(super) fn check(device: &dyn BarAccess, _: &mut Context<'_>) -> Verdict {
    let lab = Lab::open(device, FAILING)?;
    for width in Width::ALL {
        for offset in [FAILING_FROM, PAGE - width.bytes()] {
            memory(&lab, offset, width)?;
        }
    }
    for width in NARROW {
        for offset in [
            FAILING_CONFIG,
            FAILING_CONFIG + FAILING_CONFIG_BYTES - width.bytes(),
        ] {
            config(&lab, offset, width)?;
        }
    }
    let found = pci::identity(device)?;
    ensure(found == identity(FAILING), || {
        format!("afterwards config space says {found:x?}")
    })?;
    lab.well()?;
    Ok(
        "callbacks that fail read as all ones and drop writes, in BARs and in config space; the device \
         goes on"
            .to_owned(),
    )
}

fn memory(lab: &Lab<'_>, offset: u64, width: Width) -> Result<(), Failure> {
    let (reads, writes) = (lab.get(FAILING_READS)?, lab.get(FAILING_WRITES)?);
    let read = lab.device.read(REGISTERS, offset, width)?;
    ensure(read == width.mask(), || {
        format!(
            "{} bytes at {offset:#x}, where reads fail, read {read:#x}, expected all ones",
            width.bytes()
        )
    })?;
    lab.device.write(REGISTERS, offset, width, 0)?;
    lab.expect("reads that failed", FAILING_READS, reads + 1)?;
    lab.expect("writes that failed", FAILING_WRITES, writes + 1)
}

fn config(lab: &Lab<'_>, offset: u64, width: Width) -> Result<(), Failure> {
    let offset = u16::try_from(offset)
        .map_err(|_| Failure::new(format!("{offset:#x} is outside config space")))?;
    let reads = lab.get(FAILING_CONFIG_READS)?;
    let writes = lab.get(FAILING_CONFIG_WRITES)?;
    let read = lab.device.config_read(offset, width)?;
    ensure(u64::from(read) == width.mask(), || {
        format!(
            "{} bytes of config space at {offset:#x}, where reads fail, read {read:#x}, expected all ones",
            width.bytes()
        )
    })?;
    let after = lab.get(FAILING_CONFIG_READS)?;
    ensure(after > reads, || {
        format!("the device has not seen the read of config space at {offset:#x}")
    })?;
    lab.device.config_write(offset, width, 0)?;
    let after = lab.get(FAILING_CONFIG_WRITES)?;
    // What a narrow write is to be merged with cannot be read, so it may be dropped before the device.
    ensure(after > writes || width != Width::Dword, || {
        format!("the device has not seen the write to config space at {offset:#x}")
    })
}
