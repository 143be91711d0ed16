//! The configuration of a compute system: HCS's JSON document as types. What is unknown, unsupported or makes no sense is an
//! error that names its place.
//!
//! | file | what it has |
//! | --- | --- |
//! | `types`, `flexible_iov`, `mac` | the types |
//! | `modify` | requests that change a compute system |
//! | `properties` | what a compute system says of itself |
//! | `read`, `shape`, `hcs` | from a text to a type; what HCS's schema has and we have not |
//! | `validate`, [`limits`] | what makes no sense although its type is right |
//! | `files` | paths and sockets that a document names: relative ones, `${OPENHDV_LAB}`, pipes |
//! | `check` | whether what it names is there, and whether the host has the memory |
//!
//! How a machine is made of it is the worker's.

mod check;
mod error;
mod files;
mod flexible_iov;
mod hcs;
pub mod limits;
mod mac;
mod modify;
mod properties;
mod read;
mod shape;
#[cfg(test)]
mod tests;
mod types;
mod validate;

pub use error::DocumentError;
pub(crate) use files::PIPES;
pub use files::{LAB_VARIABLE, expand};
pub use flexible_iov::{FlexibleIoDevice, HostingModel, instance_id};
pub use mac::{MacAddress, MacAddressError};
pub use modify::{ModifyRequest, RequestType};
pub use properties::{DeviceProperties, DeviceStatus, MemoryProperties, Properties, State};
pub use types::{
    Attachment, AttachmentType, Chipset, ComPort, ComputeSystemDocument, Devices,
    LinuxKernelDirect, Memory, MemoryBacking, NetworkAdapter, Processor, Scsi, Topology, Uefi,
    Version, VirtualMachine,
};
