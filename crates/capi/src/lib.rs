//! The HDV and HCS functions with the C ABI, and the SR-IOV interface: `libcomputecore.so`, which is `libvmdevicehost.so` too.
//!
//! Each function checks and translates what comes in, calls [`hdv`], [`hdv_compute`] or [`hdv_sriov`], and translates what
//! goes out. Nothing is decided here: what a device host does is in [`hdv`], what a compute system does in [`hdv_compute`]. The headers, in
//! `include`, say what the functions mean; what they are called with is in [`types`].
//!
//! Handles are checked: a stale, foreign or null one is an error. No panic leaves a function; an
//! exception out of a callback ends the process with a message that names the callback.

mod callbacks;
mod com;
mod compute;
mod create;
mod descriptor;
mod device;
mod document;
mod doorbell;
mod error;
mod gate;
mod guard;
mod guid;
mod handles;
mod host;
mod interface;
mod interrupt;
mod last_error;
mod log;
mod memory;
mod nt;
mod operation;
mod physical_function;
mod pointers;
mod process;
mod proxy;
mod query;
mod section;
mod strings;
mod system;
pub mod types;
mod without_sriov;

pub use compute::*;
pub use create::HdvCreateDeviceInstance;
pub use descriptor::{OpenHdvCloseHandle, OpenHdvCreateEvent, OpenHdvCreateSection};
pub use document::LocalFree;
pub use doorbell::{
    HdvRegisterDoorbell, HdvRegisterDoorbellPage, HdvUnregisterDoorbell, HdvUnregisterDoorbellPage,
};
pub use error::codes;
pub use guid::{OpenHdvFormatGuid, OpenHdvParseGuid};
pub use host::{HdvInitializeDeviceHost, HdvInitializeDeviceHostEx, HdvTeardownDeviceHost};
pub use interrupt::HdvDeliverGuestInterrupt;
pub use last_error::OpenHdvGetLastErrorText;
pub use log::OpenHdvSetLogCallback;
pub use memory::{
    HdvCreateGuestMemoryAperture, HdvDestroyGuestMemoryAperture, HdvReadGuestMemory,
    HdvWriteGuestMemory,
};
pub use operation::*;
pub use physical_function::OpenHdvCreatePhysicalFunction;
pub use proxy::{
    HdvInitializeDeviceHostForProxy, HdvInitializeDeviceHostForProxyEx, HdvProxyDeviceHost,
    OpenHdvCreateProxySupport, OpenHdvCreateSystemSupport, OpenHdvLockIn, OpenHdvServeProxy,
    OpenHdvSpawnRestricted,
};
pub use query::{OpenHdvQueryPciVirtualizationInterface, OpenHdvQueryPciVirtualizationInterfaceAt};
pub use section::{HdvCreateSectionBackedMmioRange, HdvDestroySectionBackedMmioRange};
pub use system::{HcsCloseComputeSystem, OpenHdvOpenSocketSystem, OpenHdvSetConfiguration};
