//! The limits of documents.

/// The longest text of a document or request, in bytes.
pub const TEXT_LIMIT: usize = 1 << 20;

/// The version of the schema, in its major number.
pub const MAJOR_VERSION: u32 = 2;

/// The least memory of a VM, in MiB: with less the firmware does not come up.
pub const MEMORY_MINIMUM_MIB: u32 = 16;

/// The most memory of a VM, in MiB (4 TiB: what QEMU's machine can address on every processor). How much the host has is
/// looked at when the VM starts.
pub const MEMORY_MAXIMUM_MIB: u32 = 4 << 20;

/// The most processors of a VM: the ids of interrupt controllers have 8 bits unless there is an IOMMU.
pub const PROCESSORS_MAXIMUM: u16 = 255;

/// The serial ports of a PC.
pub const COM_PORTS: u8 = 4;

/// The most SCSI controllers (Hyper-V's number).
pub const SCSI_CONTROLLERS_MAXIMUM: usize = 4;

/// The most disks of a SCSI controller (Hyper-V's number).
pub const ATTACHMENTS_MAXIMUM: u16 = 64;

/// The most network adapters (Hyper-V's number).
pub const NETWORK_ADAPTERS_MAXIMUM: usize = 8;

/// The most devices of device hosts in a document. Each is behind a root port with a bus of its own.
pub const DEVICES_MAXIMUM: usize = 64;

/// The longest name that a device, controller or adapter can have, in bytes.
pub const NAME_LIMIT: usize = 255;

/// The longest command line of a Linux kernel on x86, in bytes: it cuts a longer one off (`COMMAND_LINE_SIZE` less the end).
pub const COMMAND_LINE_LIMIT: usize = 2047;
