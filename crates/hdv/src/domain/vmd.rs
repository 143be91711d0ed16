//! The endpoint as its driver knows it: Intel's Volume Management Device, for which every Linux kernel for x86-64 has a driver
//! (`drivers/pci/controller/vmd.c`). What is behind it is not here.

use hdv_pci::{
    Bar, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, Identity, Msix, PciExpress,
    VendorSpecific,
};

use super::options::DomainOptions;

/// The window onto config space (CFGBAR).
pub(super) const CONFIG: BarIndex = BarIndex::BAR0;
/// The window for 32-bit BARs and those that are not prefetchable (MEMBAR1).
pub(super) const MEMORY: BarIndex = BarIndex::BAR2;
/// The window for prefetchable BARs (MEMBAR2).
pub(super) const PREFETCHABLE: BarIndex = BarIndex::BAR4;

/// The address inside a domain of the first byte of its window for 32-bit BARs (BAR 2 of the endpoint), wherever the VM has
/// placed that: below 4 GiB, as bridges demand.
pub const MEMORY_BASE: u64 = 0x8000_0000;
/// The same of the window for prefetchable BARs (BAR 4); its first 8 KiB are the endpoint's MSI-X structures.
pub const PREFETCHABLE_BASE: u64 = 0x100_0000_0000;

/// How many bytes from [`PREFETCHABLE_BASE`] on are the endpoint's MSI-X structures, which nothing inside can have: the driver
/// leaves them out of what it gives to functions.
pub const TABLES_SIZE: u64 = 0x2000;
const TABLE: u32 = 0;
const PENDING: u32 = 0x1000;

/// Messages do not name vector 0 on this device: the driver keeps it for events of the endpoint's own.
pub(super) const FIRST_VECTOR: u16 = 1;

/// Intel's, since it is their driver that is to be found. Of the ids that it knows the one that QEMU adds nothing to, and with
/// which messages are always folded.
const IDENTITY: Identity = Identity {
    vendor_id: 0x8086,
    device_id: 0xa77f,
    revision_id: 0,
    class: ClassCode::from_u24(0x01_0400),
    subsystem_vendor_id: 0x4f48,
    subsystem_id: 0x0d01,
};

/// VMCAP, a word with bit 0 clear: no restriction of bus numbers. VMCONFIG, a word at 0x44, follows.
const VMCAP: u16 = 0x40;
/// VMCONFIG bit 1, MSI remapping off: the driver clears it, reading and writing the word.
const MSI_REMAPPING_OFF: u8 = 1 << 1;
/// VMLOCK: no shadow registers in MEMBAR2.
const VMLOCK: u16 = 0x70;

/// "SHDW", which says that what follows are the addresses of the windows inside.
const SHADOW: u32 = 0x5348_4457;

/// Its config space.
///
/// # Errors
/// None with options that have been checked.
pub(super) fn config_space(
    options: DomainOptions,
    config_size: u64,
) -> Result<ConfigSpace, ConfigError> {
    let place = |offset| BarOffset::new(PREFETCHABLE, offset);
    ConfigSpace::builder(IDENTITY)
        // Prefetchable for the port above, which passes 64-bit addresses down by that window only.
        .bar(CONFIG, Bar::memory64(config_size).prefetchable())
        .bar(MEMORY, Bar::memory32(options.memory_size()))
        .bar(
            PREFETCHABLE,
            Bar::memory64(options.prefetchable_size()).prefetchable(),
        )
        .registers(VMCAP, [0; 8], [0, 0, 0, 0, MSI_REMAPPING_OFF, 0, 0, 0])
        .registers(VMLOCK, [0; 4], [0; 4])
        .capability(PciExpress::endpoint())
        .capability(Msix::new(
            options.vector_count(),
            place(TABLE),
            place(PENDING),
        ))
        .capability(VendorSpecific::new(shadow()))
        .build()
}

/// The capability that tells the driver where the windows are inside: from its fourth byte on. Without it they would be where
/// the VM has placed the BARs, which no device is told.
fn shadow() -> Vec<u8> {
    let mut data = vec![0];
    data.extend(SHADOW.to_le_bytes());
    data.extend(MEMORY_BASE.to_le_bytes());
    data.extend(PREFETCHABLE_BASE.to_le_bytes());
    data
}

/// The vector that a message means, if it is one of the kind that the driver has functions write: its number is where on x86
/// the destination is.
pub(super) fn vector(address: u64, vectors: u16) -> Option<u16> {
    const BASE: u64 = 0xfee0_0000;
    const DESTINATION_SHIFT: u32 = 12;
    let destination = address.checked_sub(BASE)? >> DESTINATION_SHIFT;
    u16::try_from(destination)
        .ok()
        .filter(|vector| (FIRST_VECTOR..vectors).contains(vector))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn its_registers_are_where_its_driver_looks() {
        let config = config_space(DomainOptions::new(), 32 << 20).unwrap();
        let dword = |offset| {
            let mut dword = [0; 4];
            config.read(offset, &mut dword);
            u32::from_le_bytes(dword)
        };
        assert_eq!(dword(0), 0xa77f_8086);
        assert_eq!((dword(0x40), dword(0x44), dword(0x70)), (0, 0, 0));
        let vendor = config.capability(0x09).unwrap();
        assert_eq!(dword(vendor) >> 16 & 0xff, 24, "its length");
        assert_eq!(dword(vendor + 4), SHADOW);
        let address = |at| u64::from(dword(at + 4)) << 32 | u64::from(dword(at));
        assert_eq!(address(vendor + 8), MEMORY_BASE);
        assert_eq!(address(vendor + 16), PREFETCHABLE_BASE);
    }

    #[test]
    fn the_largest_windows_are_aligned_and_apart() {
        let largest = DomainOptions::new()
            .memory(1 << 30)
            .prefetchable(1 << 40)
            .buses(256)
            .vectors(256);
        largest.check().unwrap();
        config_space(largest, 256 << 20).unwrap();
        assert_eq!(MEMORY_BASE % (1 << 30), 0);
        assert_eq!(PREFETCHABLE_BASE % (1 << 40), 0);
        const { assert!(MEMORY_BASE + (1 << 30) <= 0xfee0_0000) };
    }

    #[test]
    fn messages_name_vectors_by_their_destination() {
        let vector = |address| super::vector(address, 16);
        assert_eq!(vector(0xfee0_1000), Some(1));
        assert_eq!(vector(0xfee0_f00c), Some(15));
        for nothing in [0xfee0_0000, 0xfee1_0000, 0xfed0_1000, 0x1_fee0_1000, 0] {
            assert_eq!(vector(nothing), None, "{nothing:#x}");
        }
    }
}
