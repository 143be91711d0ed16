//! What a driver does in config space: enable the function, find a capability, start a
//! function level reset. PCI Express Base Specification 6.0, chapter 7.

use super::{BarAccess, Error, Identity, Result, Width};

/// Size of config space in bytes.
pub const CONFIG_BYTES: u64 = 4096;

/// Vendor id, 16 bits.
pub const VENDOR: u16 = 0x00;
/// Device id, 16 bits.
pub const DEVICE: u16 = 0x02;
/// Command, 16 bits.
pub const COMMAND: u16 = 0x04;
/// Status, 16 bits.
pub const STATUS: u16 = 0x06;
/// Revision in the lowest byte, class code above it.
pub const REVISION_AND_CLASS: u16 = 0x08;
/// Offset of the first capability, 8 bits.
pub const CAPABILITIES: u16 = 0x34;

/// Command: the function decodes memory accesses.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may access memory and send message signalled interrupts.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Status: there is a capability list.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Capability id of PCI Express.
pub const CAPABILITY_EXPRESS: u8 = 0x10;
/// Capability id of MSI-X.
pub const CAPABILITY_MSIX: u8 = 0x11;

/// Device Capabilities in the PCI Express capability, 32 bits.
pub const EXPRESS_DEVICE_CAPABILITIES: u16 = 4;
/// Device Control in the PCI Express capability, 16 bits.
pub const EXPRESS_DEVICE_CONTROL: u16 = 8;
/// Device Capabilities: the function can be reset.
pub const EXPRESS_FUNCTION_RESET_CAPABLE: u32 = 1 << 28;
/// Device Control: reset the function.
pub const EXPRESS_FUNCTION_RESET: u16 = 1 << 15;

/// Message Control in the MSI-X capability, 16 bits.
pub const MSIX_CONTROL: u16 = 2;
/// Table Offset and BIR in the MSI-X capability, 32 bits: the BAR in the low 3 bits.
pub const MSIX_TABLE: u16 = 4;
/// Bytes of an entry of the MSI-X table.
pub const MSIX_ENTRY_BYTES: u64 = 16;
/// Vector Control in an entry, 32 bits.
pub const MSIX_ENTRY_CONTROL: u64 = 12;
/// Vector Control: the vector is masked.
pub const MSIX_ENTRY_MASKED: u64 = 1;
/// Message Control: MSI-X is enabled.
pub const MSIX_ENABLE: u16 = 1 << 15;
/// Message Control: the number of entries of the table less 1.
pub const MSIX_TABLE_SIZE: u16 = 0x7ff;
/// Message Control: every vector is masked.
pub const MSIX_MASK_ALL: u16 = 1 << 14;

/// More capabilities than fit into the 192 bytes there are for them.
const CAPABILITIES_MAX: u32 = 48;

/// Reads 16 bits of config space.
///
/// # Errors
/// As [`BarAccess::config_read`].
pub fn read_word(device: &(impl BarAccess + ?Sized), offset: u16) -> Result<u16> {
    #[expect(clippy::cast_possible_truncation, reason = "16 bits were read")]
    Ok(device.config_read(offset, Width::Word)? as u16)
}

/// Reads who the function is from config space.
///
/// # Errors
/// As [`BarAccess::config_read`].
pub fn identity(device: &(impl BarAccess + ?Sized)) -> Result<Identity> {
    Ok(Identity {
        vendor: read_word(device, VENDOR)?,
        device: read_word(device, DEVICE)?,
        class: device.config_read(REVISION_AND_CLASS, Width::Dword)? >> 8,
    })
}

/// Sets bits of the command register.
///
/// # Errors
/// As [`BarAccess::config_read`].
pub fn set_command(device: &(impl BarAccess + ?Sized), bits: u16) -> Result<()> {
    let command = read_word(device, COMMAND)?;
    device.config_write(COMMAND, Width::Word, u32::from(command | bits))
}

/// Finds the capability `id`; `None` when the function has none.
///
/// # Errors
/// As [`BarAccess::config_read`], and for a list that does not end.
pub fn find_capability(device: &(impl BarAccess + ?Sized), id: u8) -> Result<Option<u16>> {
    if read_word(device, STATUS)? & STATUS_CAPABILITIES == 0 {
        return Ok(None);
    }
    let mut next = device.config_read(CAPABILITIES, Width::Byte)? & 0xfc;
    for _ in 0..CAPABILITIES_MAX {
        if next == 0 {
            return Ok(None);
        }
        #[expect(clippy::cast_possible_truncation, reason = "masked with 0xfc")]
        let at = next as u16;
        let header = read_word(device, at)?;
        if header.to_le_bytes()[0] == id {
            return Ok(Some(at));
        }
        next = u32::from(header.to_le_bytes()[1] & 0xfc);
    }
    Err(Error::Missing(format!(
        "{}: the capability list in config space does not end",
        device.name()
    )))
}

/// The config offset of the MSI-X Message Control register.
///
/// # Errors
/// When the function has no MSI-X.
pub fn msix_control(device: &(impl BarAccess + ?Sized)) -> Result<u16> {
    find_capability(device, CAPABILITY_MSIX)?
        .map(|at| at + MSIX_CONTROL)
        .ok_or_else(|| Error::Missing(format!("{} has no MSI-X capability", device.name())))
}

/// How many entries the MSI-X table has.
///
/// # Errors
/// When the function has no MSI-X.
pub fn msix_vectors(device: &(impl BarAccess + ?Sized)) -> Result<u16> {
    Ok((read_word(device, msix_control(device)?)? & MSIX_TABLE_SIZE) + 1)
}

/// Writes the mask bit of a vector in the MSI-X table.
///
/// # Errors
/// When the function has no MSI-X or the bit does not hold.
pub fn mask_vector(device: &(impl BarAccess + ?Sized), vector: u16, masked: bool) -> Result<()> {
    let capability = msix_control(device)? - MSIX_CONTROL;
    let table = device.config_read(capability + MSIX_TABLE, Width::Dword)?;
    let [bar, ..] = (table & 7).to_le_bytes();
    let at = u64::from(table & !7) + MSIX_ENTRY_BYTES * u64::from(vector) + MSIX_ENTRY_CONTROL;
    let control = device.read(bar, at, Width::Dword)? & !MSIX_ENTRY_MASKED;
    let wanted = control | u64::from(masked);
    device.write(bar, at, Width::Dword, wanted)?;
    let read = device.read(bar, at, Width::Dword)?;
    if read == wanted {
        Ok(())
    } else {
        Err(Error::Missing(format!(
            "{}: control of vector {vector} reads {read:#x} after {wanted:#x} was written",
            device.name()
        )))
    }
}

/// The config offset of Device Control, where a function level reset is started.
///
/// # Errors
/// When the function cannot be reset so.
pub fn function_reset_control(device: &(impl BarAccess + ?Sized)) -> Result<u16> {
    let express = find_capability(device, CAPABILITY_EXPRESS)?.ok_or_else(|| {
        Error::Missing(format!("{} has no PCI Express capability", device.name()))
    })?;
    let capabilities = device.config_read(express + EXPRESS_DEVICE_CAPABILITIES, Width::Dword)?;
    if capabilities & EXPRESS_FUNCTION_RESET_CAPABLE == 0 {
        return Err(Error::Missing(format!(
            "{} does not offer function level reset",
            device.name()
        )));
    }
    Ok(express + EXPRESS_DEVICE_CONTROL)
}
