//! The registers of the PF (BAR0). Those of a VF are [the sensor's](crate::sensor::registers); of its
//! config space only the device id differs, [`VF_DEVICE_ID`].
//!
//! This is the contract between the device and whoever manages its VFs and holds nothing else. All values are
//! little-endian. Registers may be read with 1, 2, 4 or 8 bytes at natural alignment; a narrow
//! write changes only the bytes it names.
//!
//! | offset | bytes | access | register |
//! | --- | --- | --- | --- |
//! | 0x000 | 4 | RO | [`IDENTIFICATION`]: [`IDENTIFICATION_VALUE`] |
//! | 0x004 | 4 | RO | [`VERSION`]: [`VERSION_VALUE`] |
//! | 0x008 | 4 | RO | [`TOTAL_VFS`]: how many VFs there can be, so how many entries the table has |
//! | 0x00c | 4 | RO | [`NUM_VFS`]: how many are enabled |
//! | 0x010 | 8 | RO | [`DELIVERED`]: samples delivered by all VFs that are enabled |
//! | 0x1000 + 64 n | 64 | | entry of VF n, counted from 0 ([`entry`]) |
//!
//! An entry:
//!
//! | offset | bytes | access | register |
//! | --- | --- | --- | --- |
//! | 0x00 | 4 | RO | [`VF_STATE`]: `STATE_*` |
//! | 0x04 | 4 | RW | [`VF_QUOTA`]: most samples per second, 0 for no limit |
//! | 0x08 | 8 | RO | [`VF_DELIVERED`]: samples written to the VF's registers, and to its ring if it has one |
//! | 0x10 | 8 | RO | [`VF_LOST`]: samples lost because the ring was full |
//! | 0x18 | 4 | RO | [`VF_PERIOD`]: microseconds between samples that its driver asks for |
//! | 0x1c | 4 | RO | [`VF_PERIOD_IN_FORCE`]: microseconds between samples with the quota, rounded up |
//!
//! Everything else reads as zero and ignores writes.
//!
//! # Quotas
//! A VF takes no sample earlier than 1 / [`VF_QUOTA`] seconds after the one before, whatever period its
//! driver sets and however often it ends and begins sampling or resets the VF. Its driver sees
//! samples further apart by their times, with sequence numbers that have no gaps; its registers keep what it
//! wrote. A write counts at once, for a VF that samples too.
//!
//! Entries keep their quotas while VFs are disabled and through every reset of the PF: a reset lifts no limit.
//!
//! # Counters
//! An 8-byte read of one is never torn. They begin at 0 when VFs are enabled and count on through the VF's resets. They are 64 bits wide, so they do not
//! wrap. An entry of a VF that is not enabled reads 0 but for its quota.

/// PCI vendor id of PF and VFs, the sensor's.
pub const VENDOR_ID: u16 = crate::sensor::registers::VENDOR_ID;
/// PCI device id of the PF.
pub const PF_DEVICE_ID: u16 = 0x0002;
/// PCI device id of a VF.
pub const VF_DEVICE_ID: u16 = 0x0003;
/// PCI class code of PF and VFs, the sensor's.
pub const CLASS_CODE: u32 = crate::sensor::registers::CLASS_CODE;

/// Most VFs that a PF can have.
pub const VFS_MAX: u16 = 1024;

/// Reads [`IDENTIFICATION_VALUE`].
pub const IDENTIFICATION: u64 = 0x000;
/// "SNPF" in ASCII, first letter in the lowest byte.
pub const IDENTIFICATION_VALUE: u32 = u32::from_le_bytes(*b"SNPF");
/// Reads [`VERSION_VALUE`].
pub const VERSION: u64 = 0x004;
/// The version of this register map.
pub const VERSION_VALUE: u32 = 1;
/// TotalVFs.
pub const TOTAL_VFS: u64 = 0x008;
/// VFs that are enabled.
pub const NUM_VFS: u64 = 0x00c;
/// The sum of [`VF_DELIVERED`] of the VFs that are enabled.
pub const DELIVERED: u64 = 0x010;
/// Offset of the first VF's entry.
pub const TABLE: u64 = 0x1000;
/// Bytes of an entry.
pub const ENTRY_BYTES: u64 = 64;

/// Offset of `STATE_*` bits in an entry.
pub const VF_STATE: u64 = 0x00;
/// Offset of the quota in an entry, in samples per second; 0: no limit.
pub const VF_QUOTA: u64 = 0x04;
/// Offset of the count of samples delivered in an entry.
pub const VF_DELIVERED: u64 = 0x08;
/// Offset of the count of samples lost in an entry.
pub const VF_LOST: u64 = 0x10;
/// Offset of the period asked for in an entry, in microseconds.
pub const VF_PERIOD: u64 = 0x18;
/// Offset of the period in force in an entry, in microseconds.
pub const VF_PERIOD_IN_FORCE: u64 = 0x1c;

/// The VF is enabled.
pub const STATE_ENABLED: u32 = 1 << 0;
/// A client has it: a VM, most often.
pub const STATE_CLIENT: u32 = 1 << 1;
/// It takes samples.
pub const STATE_SAMPLING: u32 = 1 << 2;

/// Offset of the entry of VF `vf`.
#[must_use]
pub const fn entry(vf: u16) -> u64 {
    // `u64::from` is no constant function.
    TABLE + ENTRY_BYTES * vf as u64
}

/// Size of BAR0 of a PF with this many VFs at most, in bytes: the power of two that holds the table.
#[must_use]
pub const fn bar0_size(total_vfs: u16) -> u64 {
    entry(total_vfs).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_holds_the_table() {
        for (total_vfs, size) in [(1, 0x2000), (64, 0x2000), (65, 0x4000), (1024, 0x20000)] {
            assert_eq!(bar0_size(total_vfs), size, "{total_vfs}");
        }
        assert_eq!(entry(63) + ENTRY_BYTES, 0x2000);
    }
}
