//! Interrupts of sensors that have no driver: their message is that of the port above, as the kernel has programmed it, so that
//! the driver of the endpoint takes them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use hdv_devices::sensor::registers::{COALESCE, MSIX_TABLE};

use super::slot::Slot;
use crate::checks::{Failure, ensure};
use crate::platform::pci::{self, MSIX_ENABLE, MSIX_ENTRY_CONTROL};
use crate::platform::sysfs::{DEVICES, Sysfs};
use crate::platform::{BarAccess, Error, Width};
use crate::sensor::Sensor;

/// Samples for which there is one interrupt: few enough that nobody wonders whose they are.
const SAMPLES: u32 = 20;
/// What the kernel has counted.
const COUNTS: &str = "/proc/interrupts";
/// How the endpoint's driver names its interrupts, with a number behind.
const DRIVER: &str = "vmd";
/// The lists of capabilities in config space, all that a port has of them.
const STANDARD_BYTES: usize = 256;
/// Capability id of MSI.
const MSI: u8 = 5;
/// Offsets in the MSI capability: 32 bits of the address, the others, 16 bits of data behind them.
const MSI_ADDRESS: usize = 4;
const MSI_ADDRESS_HIGH: usize = 8;
const MSI_DATA: usize = 12;

/// Has a sensor send interrupts while it samples.
///
/// # Errors
/// The port above has none, or the sensor takes none.
pub(super) fn enable(slot: &Slot, sensor: &Sensor<Sysfs>) -> Result<(), Failure> {
    let entry = u64::from(MSIX_TABLE);
    let [address, high, data] = message(&slot.address)?;
    for (at, value) in [(0, address), (4, high), (8, data), (MSIX_ENTRY_CONTROL, 0)] {
        sensor.set_register(entry + at, value)?;
    }
    sensor.set_register(COALESCE, SAMPLES)?;
    let function = sensor.platform();
    let control = pci::msix_control(function)?;
    function.config_write(control, Width::Word, MSIX_ENABLE.into())?;
    Ok(())
}

/// How many interrupts of the endpoint there have been.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn count() -> Result<u64, Failure> {
    let text = fs::read_to_string(COUNTS).map_err(|error| Error::file(COUNTS, "read", error))?;
    let lines: Vec<_> = text.lines().filter_map(of_endpoint).collect();
    ensure(!lines.is_empty(), || {
        format!("{COUNTS} has none of {DRIVER}")
    })?;
    Ok(lines.iter().sum())
}

/// `25:   7731   PCI-MSIX-0000:00:01.0   1-edge   vmd0`.
fn of_endpoint(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    let count = words.nth(1)?.parse().ok()?;
    words.next_back()?.starts_with(DRIVER).then_some(count)
}

/// The message of the port above a function: two halves of the address, and data.
fn message(address: &str) -> Result<[u32; 3], Failure> {
    let link = Path::new(DEVICES).join(address);
    let function = fs::canonicalize(&link).map_err(|error| Error::file(&link, "follow", error))?;
    let config = function.with_file_name("config");
    let mut bytes = [0; STANDARD_BYTES];
    File::open(&config)
        .and_then(|file| file.read_exact_at(&mut bytes, 0))
        .map_err(|error| Error::file(&config, "read", error))?;
    parse(&bytes).ok_or_else(|| Failure::new(format!("{}: it has no MSI", config.display())))
}

fn parse(config: &[u8; STANDARD_BYTES]) -> Option<[u32; 3]> {
    let mut at = usize::from(config[usize::from(pci::CAPABILITIES)]);
    // Each has four bytes at least.
    for _ in 0..STANDARD_BYTES / 4 {
        let capability = config.get(at..)?.get(..MSI_DATA + 4)?;
        if at == 0 {
            return None;
        }
        if capability[0] == MSI {
            let dword = |at: usize| {
                let bytes = capability.get(at..)?.first_chunk()?;
                Some(u32::from_le_bytes(*bytes))
            };
            let data = dword(MSI_DATA)? & u32::from(u16::MAX);
            return Some([dword(MSI_ADDRESS)?, dword(MSI_ADDRESS_HIGH)?, data]);
        }
        at = capability[1].into();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_where_the_capability_is() {
        let mut config = [0; STANDARD_BYTES];
        config[0x34] = 0x40;
        config[0x40..0x42].copy_from_slice(&[0x01, 0x50]);
        config[0x50..0x52].copy_from_slice(&[MSI, 0x70]);
        config[0x54..0x58].copy_from_slice(&0xfee0_1000_u32.to_le_bytes());
        config[0x5c] = 7;
        config[0x5e] = 9;
        assert_eq!(parse(&config), Some([0xfee0_1000, 0, 7]));
        config[0x50] = 0x10;
        assert_eq!(parse(&config), None);
        config[0x51] = 0x40;
        assert_eq!(parse(&config), None);
    }

    #[test]
    fn interrupts_of_the_endpoint_are_told_from_others() {
        let line = " 25:   7731   PCI-MSIX-0000:00:01.0   1-edge   vmd0";
        assert_eq!(of_endpoint(line), Some(7731));
        assert_eq!(of_endpoint(" 27:  3  VMD-MSI  1-edge  pciehp"), None);
        assert_eq!(of_endpoint("     CPU0"), None);
    }
}
