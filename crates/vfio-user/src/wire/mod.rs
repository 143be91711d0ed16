//! The wire format: the header, the payloads, and how each is taken from bytes. No sockets,
//! no state. All numbers are in the byte order of the machine, as the specification has it.

mod command;
mod header;
#[expect(
    missing_debug_implementations,
    reason = "the helper types that zerocopy's derives generate"
)]
mod payload;

pub use command::Command;
pub use header::{HEADER_SIZE, Header, Kind, MessageFlags};
pub(crate) use payload::size_as_u32;
pub use payload::{
    CapabilityHeader, DeviceInfo, DmaAccess, DmaMap, DmaUnmap, IoFdEntry, IoFds, IrqInfo, IrqSet,
    RegionAccess, RegionInfo, SparseAreaEntry, SparseHeader, Version, WriteEntry, WriteMulti,
    parse_prefix, sparse_areas, write_entries,
};
