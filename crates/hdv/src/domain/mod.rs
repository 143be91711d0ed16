//! A PCIe hierarchy of functions behind one endpoint: root ports, switches, devices with several functions, PFs with their
//! VFs, in a PCIe domain of their own, which an unmodified guest enumerates through an ordinary device's BARs. Functions go in, also
//! while the guest runs, and out again with what is in their slot.
//!
//! The endpoint is what the Volume Management Device driver of Linux binds to, in every kernel for x86-64. [`Domain`] is what
//! its owner puts functions into, [`DomainEndpoint`] the device that a host serves. Towards each function inside, the domain is
//! what a VMM is to a device on a socket: a function does not know where it is. It has its life and its handles as on a socket;
//! guest memory and vectors are the endpoint's. As in hardware it reaches them only while Bus Master Enable is set in its command
//! register and in those of the ports above: a driver that forgets that finds out here.
//!
//! ```no_run
//! use hdv::domain::{Domain, DomainOptions, Position};
//! use hdv::pci::capability::Slot;
//! use hdv::{DeviceHost, HostOptions, PciDevice, pci_function};
//!
//! fn serve(device: impl PciDevice + 'static) -> Result<(), Box<dyn std::error::Error>> {
//!     let (domain, endpoint) = Domain::new(DomainOptions::new())?;
//!     let port = domain.add_root_port(1, 0, Some(Slot::hot_plug(1)))?;
//!     let function = pci_function(Box::new(device))?;
//!     domain.attach(Position::below(port), "mine", function, &[])?;
//!     let host = DeviceHost::new(HostOptions::new())?;
//!     host.serve("/tmp/domain.sock", "domain", endpoint)?;
//!     loop {
//!         std::thread::park();
//!     }
//! }
//! ```
//!
//! What is in which file: `handle` is what the owner does, `endpoint` the device, `vmd` its registers, `options` its sizes, `ports`
//! what ports are made of, `position` where functions go. `hierarchy` is all that is inside, and carries out what ports ask for;
//! `names` and `places` say how things are called, `tree` shows them, `injection` has things go wrong.
//! `accesses` finds what software reaches, `life` starts, stops and brings in, `hot_plug` is slots,
//! `port_interrupts` the messages of ports, `requests` who may send any. `inner` is a function in its
//! place, `attachment`, `messages` and `registers` its VMM side, `carrier` brings the VFs of PFs. `control` is what other
//! programs reach, `bench` what tests do.

mod accesses;
mod attachment;
mod bench;
mod carrier;
pub mod control;
mod endpoint;
mod error;
mod handle;
mod hierarchy;
mod hot_plug;
mod injection;
mod inner;
mod life;
mod messages;
mod names;
mod options;
mod places;
mod port_interrupts;
mod ports;
mod position;
mod registers;
mod requests;
mod tree;
mod vmd;

pub use bench::BenchBus;
pub use endpoint::DomainEndpoint;
pub use error::DomainError;
pub use handle::{Domain, DomainFunction};
pub use injection::Injection;
pub use names::is_name;
pub use options::DomainOptions;
pub use position::Position;
pub use tree::{IndicatorState, InterruptMode, NodeKind, PortNode, SlotNode, SriovNode, TreeNode};
pub use vmd::{MEMORY_BASE, PREFETCHABLE_BASE, TABLES_SIZE};

/// The number of a domain's root bus: its driver numbers buses from 0.
const ROOT_BUS: u8 = 0;
