//! What can be wrong with the description of a config space.

use crate::bar_index::BarIndex;

/// A config space that cannot be built.
///
/// All offsets and sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The vendor id says that nothing is there.
    #[error("vendor id {0:#06x} means that no device is there; use the vendor's own")]
    VendorId(u16),

    /// A BAR's size is no power of two, or too small.
    #[error("BAR {index}: size {size:#x} is not a power of two of at least 16")]
    BarSize {
        /// The BAR.
        index: BarIndex,
        /// Its size.
        size: u64,
    },
    /// A 32-bit BAR's size is more than 32-bit addresses can hold.
    #[error(
        "BAR {index}: size {size:#x} is more than the 2 GiB of a 32-bit BAR; make it a 64-bit one"
    )]
    BarTooLarge {
        /// The BAR.
        index: BarIndex,
        /// Its size.
        size: u64,
    },
    /// A 64-bit BAR has no next register for the upper half of its address.
    #[error("BAR {index} is 64-bit and needs the next register, which does not exist")]
    BarLast {
        /// The BAR.
        index: BarIndex,
    },
    /// A bridge has no such BAR.
    #[error("BAR {index} is declared for a bridge, which has BARs 0 and 1 only")]
    BarOfBridge {
        /// The BAR.
        index: BarIndex,
    },
    /// A register is used by two BARs: declared twice, or the upper half of the one before.
    #[error("BAR {index} is declared twice or is the upper half of the 64-bit BAR before it")]
    BarOverlap {
        /// The BAR.
        index: BarIndex,
    },

    /// Device registers are outside the part of config space that is theirs.
    #[error(
        "device registers at {offset:#x}, {length} bytes: not within 0x40 to 0xff or 0x104 to 0xfff"
    )]
    RegistersRange {
        /// Their offset.
        offset: u16,
        /// Their length.
        length: usize,
    },
    /// Initial values and write mask of device registers differ in length.
    #[error("device registers at {offset:#x}: {initial} initial bytes, but a write mask of {mask}")]
    RegistersMask {
        /// Their offset.
        offset: u16,
        /// Number of initial bytes.
        initial: usize,
        /// Number of mask bytes.
        mask: usize,
    },
    /// Device registers overlap others.
    #[error("device registers at {offset:#x}, {length} bytes: overlap registers declared before")]
    RegistersOverlap {
        /// Their offset.
        offset: u16,
        /// Their length.
        length: usize,
    },

    /// A capability of which a function has only one was declared twice.
    #[error("the {name} capability is declared twice")]
    CapabilityTwice {
        /// The capability.
        name: &'static str,
    },
    /// A capability's length is not one that its header and config space allow.
    #[error("the {name} capability has a length of {length}, which is not {min} to {max}")]
    CapabilityLength {
        /// The capability.
        name: &'static str,
        /// Its length.
        length: usize,
        /// The smallest possible.
        min: usize,
        /// The largest possible.
        max: usize,
    },
    /// No gap between device registers and other capabilities is large enough.
    #[error(
        "no room for the {name} capability ({length} bytes); move device registers or declare less"
    )]
    NoRoom {
        /// The capability.
        name: &'static str,
        /// Its length.
        length: u16,
    },

    /// A number of vectors that the capability cannot have.
    #[error("the {name} capability has {vectors} vectors: {allowed}")]
    Vectors {
        /// The capability.
        name: &'static str,
        /// The number.
        vectors: u16,
        /// Which are possible.
        allowed: &'static str,
    },
    /// The MSI-X table or pending-bit array is in a BAR that does not exist.
    #[error("the MSI-X {part} is in BAR {bar}, which is not declared")]
    MsixBar {
        /// Table or pending-bit array.
        part: &'static str,
        /// The BAR.
        bar: BarIndex,
    },
    /// The MSI-X table or pending-bit array is misaligned.
    #[error("the MSI-X {part} is at {offset:#x}, which is not a multiple of 8")]
    MsixAlignment {
        /// Table or pending-bit array.
        part: &'static str,
        /// Its offset.
        offset: u32,
    },
    /// The MSI-X table or pending-bit array reaches beyond its BAR.
    #[error(
        "the MSI-X {part} at {offset:#x}, {length} bytes, ends beyond the {size:#x} bytes of BAR {bar}"
    )]
    MsixRange {
        /// Table or pending-bit array.
        part: &'static str,
        /// Its offset.
        offset: u32,
        /// Its length.
        length: u64,
        /// The BAR.
        bar: BarIndex,
        /// The BAR's size, the smallest one if it is resizable.
        size: u64,
    },
    /// The MSI-X table and pending-bit array overlap.
    #[error(
        "the MSI-X table at {table:#x} and pending-bit array at {pending:#x} of BAR {bar} overlap"
    )]
    MsixOverlap {
        /// The BAR of both.
        bar: BarIndex,
        /// Offset of the table.
        table: u32,
        /// Offset of the pending-bit array.
        pending: u32,
    },

    /// A payload size that PCI Express does not have.
    #[error("the largest payload of {0} bytes is not a power of two from 128 to 4096")]
    MaxPayload(u16),

    /// The PCI Express capability does not go with the header.
    #[error(
        "the PCI Express capability is that of {express}, but the header that of {header}; describe ports with a bridge builder and nothing else with it"
    )]
    ExpressHeader {
        /// What the capability is for.
        express: &'static str,
        /// What the header is for.
        header: &'static str,
    },
    /// A slot where none can be.
    #[error("a slot belongs to a root port or a downstream port, not to {0}")]
    SlotPlace(&'static str),
    /// A physical slot number that does not fit.
    #[error("physical slot number {0} is not 0 to 8191")]
    SlotNumber(u16),
    /// Slot capabilities that are not there.
    #[error("slot capabilities {0:#x} are not supported; leave out latch sensor and interlock")]
    SlotCapabilities(u32),

    /// A resizable BAR capability without BARs.
    #[error("the resizable BAR capability names no BAR")]
    ResizableBarNone,
    /// A resizable BAR is not declared.
    #[error("resizable BAR {bar} is not declared")]
    ResizableBarMissing {
        /// The BAR.
        bar: BarIndex,
    },
    /// A resizable BAR is named twice.
    #[error("resizable BAR {bar} is named twice")]
    ResizableBarTwice {
        /// The BAR.
        bar: BarIndex,
    },
    /// A size that a resizable BAR cannot have.
    #[error("resizable BAR {bar}: {size:#x} is not a size from 1 MiB up that this BAR can have")]
    ResizableBarSize {
        /// The BAR.
        bar: BarIndex,
        /// The size.
        size: u64,
    },
    /// A resizable BAR's declared size is not one of its sizes.
    #[error("resizable BAR {bar}: its declared size {size:#x} is not one of its sizes")]
    ResizableBarDeclared {
        /// The BAR.
        bar: BarIndex,
        /// The declared size.
        size: u64,
    },

    /// A BAR of the VFs is wrong.
    #[error("VF {0}")]
    VfBar(#[source] Box<ConfigError>),
    /// All VFs together need more of a BAR than its addresses can hold.
    #[error(
        "VF BAR {index}: {total_vfs} VFs with {size:#x} bytes each are more than its addresses can hold; declare fewer VFs, or a smaller or a 64-bit BAR"
    )]
    VfBarTotal {
        /// The BAR.
        index: BarIndex,
        /// Its size for one VF.
        size: u64,
        /// The most VFs there can be.
        total_vfs: u16,
    },
    /// VFs are where the PF or another VF is, or beyond all routing ids.
    #[error(
        "first VF offset {first_vf_offset:#x} and VF stride {vf_stride:#x} do not give each of {total_vfs} VFs a routing id of its own; both must be above 0, and the last VF less than 0x10000 from its PF"
    )]
    VfRouting {
        /// First VF Offset.
        first_vf_offset: u16,
        /// VF Stride.
        vf_stride: u16,
        /// The most VFs there can be.
        total_vfs: u16,
    },
    /// Page sizes that every PF supports are missing.
    #[error(
        "supported page sizes {0:#x} lack some that every PF has; add {required:#x}",
        required = crate::spec::sriov::PAGE_SIZES_REQUIRED
    )]
    VfPageSizes(u32),

    /// What a capability of somebody else's finds wrong.
    #[error("the {name} capability: {problem}")]
    Capability {
        /// The capability.
        name: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
}
