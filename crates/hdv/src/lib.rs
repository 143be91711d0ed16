//! Host device virtualization: a program supplies a PCI device, this crate puts it into virtual
//! machines.
//!
//! A device is a [`PciDevice`]. A [`DeviceHost`] serves it on a Unix socket, over vfio-user,
//! to QEMU, Cloud Hypervisor and every other VMM that speaks it; the [`TestBench`] runs it in
//! a unit test without any. Below both is [`Function`], all that a transport knows of a device.
//!
//! To write a device, read in this order: [`PciDevice`] with its example, [`ConfigSpaceBuilder`] and
//! [`Bar`], [`BarAccess`], [`GuestMemory`] for DMA, [`Interrupts`], [`TestBench`], [`DeviceHost`]; then
//! [`Mmio`] for doorbells and sections, [`SocketDirectory`] for devices that others name. Whoever brings a
//! device that answers config space itself begins at [`DeviceCallbacks`].
//! Devices themselves are not here, nor is anything that starts a VMM.
//!
//! A *client* is what connects to a device's socket: a VMM, for one virtual machine, or a program such as
//! `hdv probe`. A *function* is what a PCI bus knows at one bus, device and function number; a device here
//! is one function. A [`domain`] is a whole hierarchy of them behind one device.
//!
//! ```no_run
//! # use hdv::{BarAccess, ConfigError, ConfigSpace, PciDevice};
//! # struct MyDevice;
//! # impl PciDevice for MyDevice {
//! #     fn config_space(&self) -> Result<ConfigSpace, ConfigError> { unreachable!() }
//! #     fn read(&mut self, _: BarAccess) -> u64 { 0 }
//! #     fn write(&mut self, _: BarAccess, _: u64) {}
//! #     fn reset(&mut self) {}
//! # }
//! use hdv::{DeviceHost, HostOptions};
//!
//! let host = DeviceHost::new(HostOptions::new())?;
//! host.serve("/tmp/my-device.sock", "my device", MyDevice)?;
//! // The device is served until the host is dropped.
//! # Ok::<(), hdv::HostError>(())
//! ```
//!
//! The [`book`] explains the same at length, and how to write devices in C.
//!
//! # Logging
//! What goes wrong while a device is served is logged with [`tracing`]: a device that panics (error),
//! a call into one that takes more than a second, guest memory that comes without a descriptor
//! (warnings). Without a subscriber nothing of it is seen.
//!
//! # Sections of the standard
//! Section numbers are those of the PCI Express Base Specification, revision 5.0.

mod access;
mod bench_carrier;
pub mod book;
mod brought;
mod callbacks;
mod calls;
mod carrier;
mod device;
pub mod domain;
mod error;
mod event;
mod function;
mod host;
mod instance;
mod interrupts;
mod memory;
mod mmio;
mod pci_function;
mod slot;
mod sync;
mod system;
mod test_bench;
mod vfio_user;

pub use access::BarAccess;
pub use callbacks::{Details, DeviceCallbacks, PnpId, callback_function};
pub use carrier::{BroughtFunction, FunctionCarrier};
pub use device::{DeviceContext, DeviceError, PciDevice};
pub use error::{DeviceId, HostError};
pub use function::{ConfigWrite, ErrorRecord, Function, ResetScope};
/// Why a socket cannot be had.
pub use hdv_control::BindError;
/// All that a config space can be declared with, the facts of the standard included.
pub use hdv_pci as pci;
pub use hdv_pci::{
    Bar, BarIndex, BarKind, BarOffset, ClassCode, ConfigError, ConfigSpace, ConfigSpaceBuilder,
    DeviceSerialNumber, Identity, Msi, Msix, PciExpress, PowerManagement, ResizableBar,
    VendorSpecific,
};
pub use host::{BroughtBy, ClientStatus, DeviceHost, DeviceStatus, HostHandle, HostOptions};
pub use instance::DeviceInstance;
pub use interrupts::{Delivery, InterruptKind, Interrupts};
pub use memory::{Aperture, GuestMemory, MAX_REGIONS, MemoryError};
pub use mmio::{AccessSize, Doorbell, Mmio, MmioError, Section, SectionFlags};
pub use pci_function::pci_function;
pub use slot::DeviceState;
pub use system::{DeviceIds, HandedClient, Listen, Place, SocketDirectory, System};
pub use test_bench::TestBench;
/// Class and instance ids (GUIDs).
pub use uuid::Uuid;
pub use vm_memory::{Address, AtomicAccess, ByteValued, GuestAddress};

/// The README's code blocks are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
