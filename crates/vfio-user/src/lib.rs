//! The vfio-user protocol: wire format, server and client.
//!
//! vfio-user lets a process emulate a device for a virtual machine monitor in another
//! process, over a Unix stream socket. The monitor (QEMU, Cloud Hypervisor) is the client;
//! the process with the device is the server. The specification is `docs/interop/vfio-user.rst`
//! in QEMU's source; section names in these pages are its own.
//!
//! This library knows regions, interrupts and DMA, and nothing of PCI but the index numbers
//! ([`vfio`]). A device model implements [`Backend`]; [`server::serve_connection`] or
//! [`server::Handshake`] and [`server::Session`] serve one connection with it.
//! [`client::Client`] is the other end, for tests, probes and benchmarks.

pub mod backend;
pub mod capabilities;
pub mod client;
pub mod limits;
pub mod server;
pub mod stream;
pub mod vfio;
pub mod wire;

pub use backend::{
    Backend, DeviceFlags, DeviceInfo, DmaFlags, DmaMap, IoEventFd, Irq, IrqAction, IrqData,
    IrqFlags, IrqRequest, Region, RegionFlags, RegionMapping, SparseArea,
};
pub use rustix::io::Errno;

/// The protocol version that this library implements, major.
pub const VERSION_MAJOR: u16 = 0;
/// The protocol version that this library implements, minor.
pub const VERSION_MINOR: u16 = 1;
