//! Sections: ranges of a BAR that are backed by a file.

use hdv_pci::BarIndex;

bitflags::bitflags! {
    /// What a guest may do with a section, and what this process does with it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SectionFlags: u32 {
        /// The guest may write; without it writes are ignored.
        const WRITEABLE = 1 << 0;
        /// The guest may execute. Recorded only: no VMM lets code run from a BAR.
        const EXECUTABLE = 1 << 1;
        /// Never offered to a client to map: the device will take it back while the client is there.
        const NEVER_OFFERED = 1 << 31;
    }
}

/// A range of a BAR and the range of a file behind it. All three numbers are multiples of 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which BAR.
    pub bar: BarIndex,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// Length in bytes, not 0.
    pub length: u64,
    /// Offset in the file, in bytes.
    pub file_offset: u64,
    /// What may be done with it.
    pub flags: SectionFlags,
}
