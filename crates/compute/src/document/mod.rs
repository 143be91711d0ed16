//! The configuration of a compute system: HCS's JSON document as types. What is unknown, unsupported or makes no sense is an
//! error that names its place.
//!
//! How a machine is made of it is the worker's.

mod error;
mod flexible_iov;
mod modify;
mod properties;
mod types;

pub use error::DocumentError;
pub use flexible_iov::{FlexibleIoDevice, HostingModel, instance_id};
pub use modify::{ModifyRequest, RequestType};
pub use properties::{DeviceProperties, DeviceStatus, MemoryProperties, Properties, State};
pub use types::{
    Attachment, AttachmentType, Chipset, ComPort, ComputeSystemDocument, Devices,
    LinuxKernelDirect, Memory, NetworkAdapter, Processor, Scsi, Topology, Uefi, Version,
    VirtualMachine,
};
