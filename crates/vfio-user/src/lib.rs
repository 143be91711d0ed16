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
//!
//! A device with one register, served and used within one process:
//!
//! ```
//! use std::os::unix::net::UnixStream;
//!
//! use hdv_vfio_user::client::{Client, ClientOptions};
//! use hdv_vfio_user::server::{SessionOptions, serve_connection};
//! use hdv_vfio_user::*;
//!
//! struct Register([u8; 4]);
//!
//! impl Backend for Register {
//!     fn device_info(&self) -> DeviceInfo {
//!         DeviceInfo { flags: DeviceFlags::RESET, num_regions: 1, num_irqs: 0 }
//!     }
//!     fn region(&self, _: u32) -> Region {
//!         Region { size: 4, flags: RegionFlags::READ | RegionFlags::WRITE }
//!     }
//!     fn irq(&self, _: u32) -> Irq {
//!         Irq { flags: IrqFlags::empty(), count: 0 }
//!     }
//!     fn region_read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
//!         let begin = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
//!         data.copy_from_slice(&self.0[begin..][..data.len()]);
//!         Ok(())
//!     }
//!     fn region_write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
//!         let begin = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
//!         self.0[begin..][..data.len()].copy_from_slice(data);
//!         Ok(())
//!     }
//!     fn set_irqs(&mut self, _: IrqRequest<'_>) -> Result<(), Errno> {
//!         Err(Errno::INVAL)
//!     }
//!     fn disable_irqs(&mut self, _: u32) -> Result<(), Errno> {
//!         Err(Errno::INVAL)
//!     }
//!     fn dma_map(&mut self, _: DmaMap) -> Result<(), Errno> {
//!         Ok(())
//!     }
//!     fn dma_unmap(&mut self, _: u64, _: u64) -> Result<(), Errno> {
//!         Ok(())
//!     }
//!     fn reset(&mut self) -> Result<(), Errno> {
//!         self.0 = [0; 4];
//!         Ok(())
//!     }
//! }
//!
//! let (ours, theirs) = UnixStream::pair()?;
//! let server = std::thread::spawn(|| {
//!     serve_connection(theirs, SessionOptions::default(), &mut Register([0; 4]))
//! });
//! let mut client = Client::from_stream(ours, ClientOptions::default())?;
//! client.region_write(0, 0, &[1, 2, 3, 4])?;
//! let mut value = [0; 4];
//! client.region_read(0, 0, &mut value)?;
//! assert_eq!(value, [1, 2, 3, 4]);
//! drop(client);
//! server.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
