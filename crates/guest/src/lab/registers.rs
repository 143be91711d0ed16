//! The register maps of the lab's devices, names and numbers those of `lab.h` beside their sources in C; a
//! test compares the two.
//!
//! Offsets are bytes in BAR 0, whose registers are dwords unless said otherwise; an access of 8 bytes is one
//! to two of them. Commands leave their `HRESULT` in [`RESULT`].

/// Defines constants, and for the test that compares them a list.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: u64 = $value;)*

        #[cfg(test)]
        const ALL: &[(&str, u64)] = &[$((stringify!($name), $name)),*];
    };
}

numbers! {
    /// Vendor id of every device.
    VENDOR_ID = 0x4f48;
    /// Device id of device 0; the others follow.
    DEVICE_ID = 0x0110;
    /// Class code: none assigned, so that no driver binds.
    CLASS = 0xff0000;
    /// How many devices there are.
    DEVICES = 8;
    /// Device 0: its config callbacks return only zeros.
    ZEROS = 0;
    /// Device 1: sections of several files.
    SECTIONS = 1;
    /// Device 2: a section from when Memory Space is enabled.
    LATE = 2;
    /// Device 3: doorbells.
    DOORBELLS = 3;
    /// Device 4: MSI-X and function level reset.
    RESET = 4;
    /// Device 5: guest memory.
    DMA = 5;
    /// Device 6: callbacks that fail.
    FAILING = 6;
    /// Device 7: its host is torn down.
    DOOMED = 7;
    /// Bytes of a page.
    PAGE = 0x1000;
    /// Reads [`MAGIC_VALUE`].
    MAGIC = 0x00;
    /// What [`MAGIC`] reads.
    MAGIC_VALUE = 0x2142414c;
    /// Which device, 0 to 7.
    INDEX = 0x04;
    /// `HRESULT` of the last command.
    RESULT = 0x08;
    /// Calls of `Start`.
    STARTS = 0x0c;
    /// Calls of `Stop`.
    STOPS = 0x10;
    /// Calls of `ReadConfigSpace`.
    CONFIG_READS = 0x14;
    /// Calls of `WriteConfigSpace`.
    CONFIG_WRITES = 0x18;
    /// Calls that came while another was in progress.
    OVERLAPS = 0x1c;
    /// 8 bytes to write and read.
    SCRATCH = 0x20;
    /// Which calls of the lifecycle came out of order, as bits; 0 if none.
    STATE = 0x28;
    /// Bytes of BAR 2, 64 bits wide and prefetchable.
    ZEROS_BAR2_BYTES = 0x4000;
    /// Bytes of BAR 4, 32 bits wide.
    ZEROS_BAR4_BYTES = 0x2000;
    /// The BAR of the last write to BAR 2 or 4.
    ZEROS_LAST_BAR = 0x40;
    /// Its offset.
    ZEROS_LAST_OFFSET = 0x44;
    /// Its length.
    ZEROS_LAST_LENGTH = 0x48;
    /// Its value, 8 bytes.
    ZEROS_LAST_VALUE = 0x50;
    /// Reads of BARs 2 and 4.
    ZEROS_READS = 0x58;
    /// Writes to BARs 2 and 4.
    ZEROS_WRITES = 0x5c;
    /// Bytes of BAR 2.
    SECTIONS_BAR2_BYTES = 0x8000;
    /// First page of section A: writeable, of one file.
    SECTIONS_A_PAGE = 0;
    /// Its pages.
    SECTIONS_A_PAGES = 2;
    /// First page of section B: writeable, of another file, from its second page.
    SECTIONS_B_PAGE = 2;
    /// Its pages.
    SECTIONS_B_PAGES = 1;
    /// A page that is not backed.
    SECTIONS_HOLE_PAGE = 3;
    /// First page of section C: not writeable, of a third file.
    SECTIONS_C_PAGE = 4;
    /// Its pages.
    SECTIONS_C_PAGES = 2;
    /// Checksum over the host's own mapping of section A, computed as it is read.
    SECTIONS_SUM_A = 0x40;
    /// The same of section B.
    SECTIONS_SUM_B = 0x44;
    /// The same of section C.
    SECTIONS_SUM_C = 0x48;
    /// HRESULT of creating the sections.
    SECTIONS_SETUP = 0x4c;
    /// Write section (0 to 2) | seed << 8: the host writes the pattern of the seed.
    SECTIONS_FILL = 0x50;
    /// Accesses to backed pages that the device saw: none.
    SECTIONS_INTERCEPTS = 0x54;
    /// Reads of the page that is not backed.
    SECTIONS_HOLE_READS = 0x58;
    /// Writes to that page.
    SECTIONS_HOLE_WRITES = 0x5c;
    /// The last value written there, 8 bytes.
    SECTIONS_HOLE_VALUE = 0x60;
    /// Write one of the next: a section that must be refused; see [`RESULT`].
    SECTIONS_REFUSE = 0x68;
    /// Past the BAR.
    SECTIONS_REFUSE_OUTSIDE = 1;
    /// No pages.
    SECTIONS_REFUSE_EMPTY = 2;
    /// Over section A, of another file.
    SECTIONS_REFUSE_OVERLAP = 3;
    /// Section A once more: not refused.
    SECTIONS_REFUSE_IDENTICAL = 4;
    /// Destroying what is not there.
    SECTIONS_REFUSE_MISSING = 5;
    /// Bytes of BAR 2.
    LATE_BAR2_BYTES = 0x4000;
    /// First page of the section.
    LATE_PAGE = 0;
    /// Its pages.
    LATE_PAGES = 2;
    /// How often it was created as Memory Space was enabled.
    LATE_CREATED = 0x40;
    /// How often it was destroyed as Memory Space was disabled.
    LATE_DESTROYED = 0x44;
    /// `HRESULT` of the last of these creations.
    LATE_CREATE_RESULT = 0x48;
    /// `HRESULT` of the last of these destructions.
    LATE_DESTROY_RESULT = 0x4c;
    /// Write one of the next; see [`RESULT`].
    LATE_COMMAND = 0x50;
    /// Exactly the same section.
    LATE_COMMAND_CREATE = 1;
    /// One page of it, writeable too.
    LATE_COMMAND_OVERLAP = 2;
    /// The same range, not writeable.
    LATE_COMMAND_FLAGS = 3;
    /// Destroys it.
    LATE_COMMAND_DESTROY = 4;
    /// Checksum over the host's mapping.
    LATE_SUM = 0x54;
    /// Write seed: the host writes the pattern.
    LATE_FILL = 0x58;
    /// Accesses to its pages that the device saw.
    LATE_INTERCEPTS = 0x5c;
    /// Bytes of BAR 2.
    DOORBELLS_BAR2_BYTES = 0x4000;
    /// How many doorbells there are; the last is the page.
    DOORBELLS_COUNT = 14;
    /// The doorbell page of BAR 2.
    DOORBELLS_PAGE = 1;
    /// Write the number of a doorbell to register it; see [`RESULT`].
    DOORBELLS_REGISTER = 0x40;
    /// Write the number of a doorbell to take it back; see [`RESULT`].
    DOORBELLS_UNREGISTER = 0x44;
    /// Writes to BAR 2 that the device saw.
    DOORBELLS_INTERCEPTS = 0x48;
    /// Offset of the last of them.
    DOORBELLS_LAST_OFFSET = 0x4c;
    /// Length of the last of them.
    DOORBELLS_LAST_LENGTH = 0x50;
    /// `HRESULT` of registering all.
    DOORBELLS_SETUP = 0x54;
    /// Value of the last of them, 8 bytes.
    DOORBELLS_LAST_VALUE = 0x58;
    /// Reads of BAR 2 that the device saw.
    DOORBELLS_READS = 0x60;
    /// A dword per doorbell: how often its event was signalled.
    DOORBELLS_SIGNALS = 0x100;
    /// Bytes of BAR 2.
    RESET_BAR2_BYTES = 0x2000;
    /// MSI-X vectors.
    RESET_VECTORS = 8;
    /// Offset of the pending-bit array in BAR 2; the table is at 0.
    RESET_PENDING = 0x1000;
    /// Write a vector: its message is delivered; see [`RESULT`].
    RESET_TRIGGER = 0x40;
    /// Write anything: a message that no vector has is delivered; see [`RESULT`].
    RESET_UNKNOWN = 0x44;
    /// Function level resets.
    RESET_RESETS = 0x48;
    /// Writes to the table that the device saw.
    RESET_TABLE_WRITES = 0x4c;
    /// The table as the device has it, 16 bytes per vector.
    RESET_TABLE = 0x100;
    /// Guest address, 8 bytes.
    DMA_ADDRESS = 0x40;
    /// Bytes, at most [`DMA_BYTES_MAX`].
    DMA_LENGTH = 0x48;
    /// Most bytes of one command.
    DMA_BYTES_MAX = 0x10000;
    /// Seed of the pattern that is written.
    DMA_SEED = 0x4c;
    /// Which aperture, below [`DMA_SLOTS`].
    DMA_SLOT = 0x50;
    /// How many apertures there can be.
    DMA_SLOTS = 4;
    /// Checksum of what the last command read.
    DMA_SUM = 0x54;
    /// Write one of the next; see [`RESULT`].
    DMA_COMMAND = 0x58;
    /// `HdvReadGuestMemory`; see [`DMA_SUM`].
    DMA_COMMAND_READ = 1;
    /// `HdvWriteGuestMemory` of the pattern.
    DMA_COMMAND_WRITE = 2;
    /// Creates an aperture in the slot.
    DMA_COMMAND_APERTURE = 3;
    /// Creates a write-protected one.
    DMA_COMMAND_PROTECTED = 4;
    /// Destroys that of the slot; without one, a made-up address.
    DMA_COMMAND_DESTROY = 5;
    /// [`DMA_SUM`] over the aperture, read through its pointer.
    DMA_COMMAND_LOOK = 6;
    /// The pattern, written through its pointer.
    DMA_COMMAND_FILL = 7;
    /// [`RESULT`] is `S_OK` if the pointer can be written through, else `E_ACCESSDENIED`.
    DMA_COMMAND_WRITEABLE = 8;
    /// `HdvReadGuestMemory` without a buffer.
    DMA_COMMAND_NULL = 9;
    /// From here to the end of BAR 0 every access fails.
    FAILING_FROM = 0x800;
    /// Offset in config space where every access fails.
    FAILING_CONFIG = 0xc0;
    /// How many bytes of it.
    FAILING_CONFIG_BYTES = 0x10;
    /// Calls of `ReadInterceptedMemory` that failed.
    FAILING_READS = 0x40;
    /// Calls of `WriteInterceptedMemory` that failed.
    FAILING_WRITES = 0x44;
    /// Calls of `ReadConfigSpace` that failed.
    FAILING_CONFIG_READS = 0x48;
    /// Calls of `WriteConfigSpace` that failed.
    FAILING_CONFIG_WRITES = 0x4c;
    /// Write [`DOOMED_DOOM_VALUE`]: its host is torn down.
    DOOMED_DOOM = 0x40;
    /// What [`DOOMED_DOOM`] wants.
    DOOMED_DOOM_VALUE = 0x600dbeef;
    /// Write anything: `HdvTeardownDeviceHost` from inside the callback; see [`RESULT`].
    DOOMED_INSIDE = 0x44;
    /// A doorbell, still registered when the host is torn down.
    DOOMED_DOORBELL = 0x800;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<u64> {
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    #[test]
    fn both_sides_have_the_same_numbers() {
        let header = include_str!("../../../capi/tests/c/lab.h");
        let theirs: Vec<(&str, u64)> = header
            .lines()
            .filter_map(|line| line.strip_prefix("#define LAB_"))
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?, number(words.next()?)?))
            })
            .collect();
        assert_eq!(theirs, ALL);
    }
}
