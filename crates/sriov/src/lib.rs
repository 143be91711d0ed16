//! Single Root I/O Virtualization: what a physical function (PF) lets be done with its virtual
//! functions (VFs), as `PCI_VIRTUALIZATION_INTERFACE` of `wdm.h` has it.
//!
//! [`PciVirtualization`] has the six routines. [`EmulatedPf`] is a PF of this process, whose VFs are devices that
//! different VMs use at once; [`SysfsPf`] is one of this machine, by way of Linux. [`control`] is how other
//! programs of the user reach the emulated PFs of running device hosts.
//!
//! The registers are `hdv_pci`'s, serving functions is `hdv`'s. Section numbers are those of the PCI
//! Express Base Specification, revision 5.0.

#![forbid(unsafe_code)]

mod address;
pub mod control;
mod emulated;
mod error;
mod interface;
mod registers;
mod sysfs;

pub use address::{AddressError, PciAddress};
pub use emulated::{
    EmulatedPf, PfError, PfOptions, PhysicalFunction, Placement, PlacementError, VirtualFunction,
    VirtualFunctionLayout, VirtualFunctionSource, VirtualFunctions,
};
pub use error::{NtStatus, VirtualizationError};
pub use interface::{EnableVirtualization, Location, PciVirtualization};
pub use registers::SriovRegisters;
pub use sysfs::{SysfsPf, SysfsPfStatus, SysfsVfStatus};
