//! Single Root I/O Virtualization: what a physical function (PF) lets be done with its virtual
//! functions (VFs), as `PCI_VIRTUALIZATION_INTERFACE` of `wdm.h` has it.
//!
//! [`PciVirtualization`] has the six routines. [`EmulatedPf`] is a PF of this process, whose VFs are devices that
//! different VMs use at once; [`SysfsPf`] is one of this machine, by way of Linux. [`control`] is how other
//! programs of the user reach the emulated PFs of running device hosts.
//!
//! To write a PF, read in this order: [`PhysicalFunction`], [`VirtualFunctionLayout`], [`Placement`] and [`PfOptions`],
//! [`EmulatedPf`], [`PciVirtualization`]. Here a PF counts the words that its VFs were sent:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use hdv::pci::Port;
//! use hdv::{
//!     Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceError, Identity, PciDevice,
//!     PciExpress,
//! };
//! use hdv_sriov::{
//!     EmulatedPf, EnableVirtualization, PciVirtualization, PfOptions, PhysicalFunction, Placement,
//!     VirtualFunctionLayout,
//! };
//!
//! /// What PF and VFs share.
//! #[derive(Default)]
//! struct Traffic(AtomicU64);
//!
//! fn config_space(device_id: u16) -> Result<ConfigSpace, ConfigError> {
//!     ConfigSpace::builder(Identity {
//!         vendor_id: 0x4f48,
//!         device_id,
//!         revision_id: 0,
//!         class: ClassCode::from_u24(0xff_0000),
//!         subsystem_vendor_id: 0,
//!         subsystem_id: 0,
//!     })
//!     .bar(BarIndex::BAR0, Bar::memory64(4096))
//!     .capability(PciExpress::endpoint())
//!     .build()
//! }
//!
//! struct Pf(Arc<Traffic>);
//! struct Vf(Arc<Traffic>);
//!
//! impl PciDevice for Vf {
//!     fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
//!         config_space(0x7e02)
//!     }
//!     fn read(&mut self, _: BarAccess) -> u64 {
//!         0
//!     }
//!     fn write(&mut self, _: BarAccess, _: u64) {
//!         self.0.0.fetch_add(1, Ordering::Relaxed);
//!     }
//!     fn reset(&mut self) {}
//! }
//!
//! impl PciDevice for Pf {
//!     fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
//!         config_space(0x7e01)
//!     }
//!     fn read(&mut self, _: BarAccess) -> u64 {
//!         self.0.0.load(Ordering::Relaxed)
//!     }
//!     fn write(&mut self, _: BarAccess, _: u64) {}
//!     fn reset(&mut self) {}
//! }
//!
//! impl PhysicalFunction for Pf {
//!     fn virtual_functions(&self) -> VirtualFunctionLayout {
//!         VirtualFunctionLayout::new(64, 0x7e02).bar(BarIndex::BAR0, Bar::memory64(4096))
//!     }
//!     fn create_virtual_function(&mut self, _vf: u16) -> Result<Box<dyn PciDevice>, DeviceError> {
//!         Ok(Box::new(Vf(Arc::clone(&self.0))))
//!     }
//! }
//!
//! // 0000:05:00.0, below a port that leads to bus 5 alone and forwards ARI: 255 VFs at most.
//! let port = Port::new(5, 5)?.ari_forwarding(true);
//! let options = PfOptions::new(Placement::new(0, port, 0, 0)?);
//! // On a test bench; `EmulatedPf::serve` has a device host serve it, and each VF on a socket of its own.
//! let (bench, pf) = EmulatedPf::on_bench(Box::new(Pf(Arc::default())), options)?;
//!
//! pf.enable_virtualization(EnableVirtualization::enable(2))?;
//! assert_eq!(pf.location(1)?.routing_id.to_string(), "05:00.2");
//! let mut vf = bench.brought(1)?.expect("enabled");
//! vf.write(BarIndex::BAR0, 0, 7_u64);
//! assert_eq!(bench.read::<u64>(BarIndex::BAR0, 0), 1);
//!
//! pf.enable_virtualization(EnableVirtualization::disable())?;
//! assert_eq!(vf.read::<u64>(BarIndex::BAR0, 0), u64::MAX, "what is left of it");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The registers are `hdv_pci`'s, serving functions is `hdv`'s. Section numbers are those of the PCI
//! Express Base Specification, revision 5.0.

#![forbid(unsafe_code)]

mod address;
pub mod book;
pub mod control;
mod emulated;
mod error;
mod interface;
mod registers;
mod sysfs;

pub use address::{AddressError, PciAddress};
pub use emulated::{
    EmulatedPf, PfError, PfOptions, PfPublisher, PhysicalFunction, Placement, PlacementError,
    VirtualFunction, VirtualFunctionLayout, VirtualFunctionSource, VirtualFunctions,
};
pub use error::{NtStatus, VirtualizationError};
pub use interface::{EnableVirtualization, Location, PciVirtualization};
pub use registers::SriovRegisters;
pub use sysfs::{SysfsPf, SysfsPfStatus, SysfsVfStatus};
