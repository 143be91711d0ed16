//! A PCI function's config space, BARs, capabilities and MSI-X table as pure data: values in,
//! values out, no I/O and no threads.
//!
//! Describe a function with [`ConfigSpace::builder`]; then pass on what software on the bus reads
//! and writes, and act on the [`Effects`] of the writes. A [`topology`] says which function an access
//! reaches; [`enumerate`] does what software does before drivers start. Facts of the standard are in
//! [`spec`]; section numbers are those of the PCI Express Base Specification, revision 5.0, where no
//! other document is named.
//!
//! ```
//! use hdv_pci::{
//!     Bar, BarIndex, BarOffset, ClassCode, ConfigSpace, Effects, Identity, Msix, PciExpress,
//! };
//!
//! let identity = Identity {
//!     vendor_id: 0x4f48,
//!     device_id: 0x0001,
//!     revision_id: 1,
//!     class: ClassCode::from_u24(0x11_8000),
//!     subsystem_vendor_id: 0x4f48,
//!     subsystem_id: 0x0001,
//! };
//! let bar = BarIndex::BAR0;
//! let mut config = ConfigSpace::builder(identity)
//!     .bar(bar, Bar::memory64(4096))
//!     .capability(PciExpress::endpoint())
//!     .capability(Msix::new(3, BarOffset::new(bar, 0x800), BarOffset::new(bar, 0xc00)))
//!     .build()?;
//!
//! // A guest sizes the BAR, places it and enables memory accesses.
//! assert_eq!(config.write(0x10, &[0xff; 8]), Effects::BAR);
//! let mut sizes = [0; 8];
//! config.read(0x10, &mut sizes);
//! assert_eq!(u64::from_le_bytes(sizes), !0xfff | 0b100);
//! assert_eq!(config.write(0x10, &0x1_8000_0000_u64.to_le_bytes()), Effects::BAR);
//! assert_eq!(config.write(0x04, &[0x02, 0x00]), Effects::COMMAND);
//! assert_eq!(config.bar_address(bar), Some(0x1_8000_0000));
//!
//! // It enables MSI-X.
//! let msix = config.capability(hdv_pci::spec::capability_id::MSIX).expect("declared above");
//! assert_eq!(config.write(msix + 2, &[0x00, 0x80]), Effects::MSIX);
//! assert!(config.msix().is_some_and(|msix| msix.enabled && msix.vectors == 3));
//!
//! config.reset();
//! assert_eq!(config.bar_address(bar), Some(0));
//! # Ok::<(), hdv_pci::ConfigError>(())
//! ```
#![forbid(unsafe_code)]

mod aer_view;
mod bar;
mod bar_index;
mod bridge;
mod builder;
pub mod capability;
mod config_reader;
mod config_space;
mod effects;
pub mod enumerate;
mod error;
mod error_reporting;
mod identity;
mod layout;
mod link_state;
mod msix_table;
mod placed;
mod places;
mod port;
mod port_view;
mod registers;
mod routing_id;
mod slot_control;
pub mod spec;
mod sriov_control;
pub mod topology;
mod vf_config;
mod vf_routing;

pub use aer_view::{AerView, RootErrorView};
pub use bar::{Bar, BarKind};
pub use bar_index::{BarIndex, BarIndexError};
pub use bridge::BridgeView;
pub use builder::ConfigSpaceBuilder;
pub use capability::{
    AccessControlServices, Aer, Ari, BarOffset, Capability, CapabilityRegisters,
    DeviceSerialNumber, ExtendedCapability, Msi, MsiView, Msix, MsixView, PciExpress,
    PowerManagement, ResizableBar, Slot, Sriov, SriovView, VendorSpecific, VfBar,
};
pub use config_space::ConfigSpace;
pub use effects::Effects;
pub use error::ConfigError;
pub use error_reporting::{DetectedError, ErrorMessage};
pub use identity::{ClassCode, Identity};
pub use msix_table::{MsixEntry, MsixTable};
pub use port::{BusNumbersError, Port};
pub use port_view::{Indicator, PortKind, PortView, SlotView};
pub use registers::Field;
pub use routing_id::{RoutingId, RoutingIdError};
pub use spec::header::{Command, Status};
pub use spec::power::PowerState;
pub use sriov_control::SriovError;
pub use vf_config::VfConfigRules;
pub use vf_routing::VfRouting;
