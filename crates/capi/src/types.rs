//! The types and constants of the headers, as Rust sees them. What they mean is said there.

use std::ffi::{c_char, c_void};

mod compute;
mod virtualization;

pub use compute::*;
pub use virtualization::*;

/// `HRESULT`.
pub type Hresult = i32;
/// `HANDLE`: a descriptor's number.
pub type Handle = *mut c_void;
/// `HCS_SYSTEM`.
pub type HcsSystem = *mut c_void;
/// `HDV_HOST`.
pub type HdvHost = *mut c_void;
/// `HDV_DEVICE`.
pub type HdvDevice = *mut c_void;
/// `PCWSTR`: UTF-16 with a terminating zero.
pub type Pcwstr = *const u16;

/// `GUID`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guid {
    /// `Data1`.
    pub data1: u32,
    /// `Data2`.
    pub data2: u16,
    /// `Data3`.
    pub data3: u16,
    /// `Data4`.
    pub data4: [u8; 8],
}

/// `HdvDeviceTypePCI`.
pub const DEVICE_TYPE_PCI: i32 = 1;
/// `HdvPciDeviceInterfaceVersion1`.
pub const PCI_INTERFACE_VERSION_1: i32 = 1;
/// All of `HDV_DEVICE_HOST_FLAGS`: `HdvDeviceHostFlagInitializeComSecurity`.
pub const DEVICE_HOST_FLAGS: u32 = 1;
/// `HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE`.
pub const DOORBELL_ANY_VALUE: u32 = 1 << 31;

/// `HDV_PCI_PNP_ID`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HdvPciPnpId {
    /// `VendorID`.
    pub vendor_id: u16,
    /// `DeviceID`.
    pub device_id: u16,
    /// `RevisionID`.
    pub revision_id: u8,
    /// `ProgIf`.
    pub prog_if: u8,
    /// `SubClass`.
    pub sub_class: u8,
    /// `BaseClass`.
    pub base_class: u8,
    /// `SubVendorID`.
    pub sub_vendor_id: u16,
    /// `SubSystemID`.
    pub sub_system_id: u16,
}

/// `HDV_PCI_DEVICE_INITIALIZE`, `HDV_PCI_DEVICE_START`.
pub type Event = unsafe extern "C-unwind" fn(context: *mut c_void) -> Hresult;
/// `HDV_PCI_DEVICE_TEARDOWN`, `HDV_PCI_DEVICE_STOP`.
pub type Notice = unsafe extern "C-unwind" fn(context: *mut c_void);
/// `HDV_PCI_DEVICE_SET_CONFIGURATION`.
pub type SetConfiguration =
    unsafe extern "C-unwind" fn(context: *mut c_void, count: u32, values: *const Pcwstr) -> Hresult;
/// `HDV_PCI_DEVICE_GET_DETAILS`.
pub type GetDetails = unsafe extern "C-unwind" fn(
    context: *mut c_void,
    pnp_id: *mut HdvPciPnpId,
    probed_bars_count: u32,
    probed_bars: *mut u32,
) -> Hresult;
/// `HDV_PCI_READ_CONFIG_SPACE`.
pub type ReadConfigSpace =
    unsafe extern "C-unwind" fn(context: *mut c_void, offset: u32, value: *mut u32) -> Hresult;
/// `HDV_PCI_WRITE_CONFIG_SPACE`.
pub type WriteConfigSpace =
    unsafe extern "C-unwind" fn(context: *mut c_void, offset: u32, value: u32) -> Hresult;
/// `HDV_PCI_READ_INTERCEPTED_MEMORY`.
pub type ReadInterceptedMemory = unsafe extern "C-unwind" fn(
    context: *mut c_void,
    bar: i32,
    offset: u64,
    length: u64,
    value: *mut u8,
) -> Hresult;
/// `HDV_PCI_WRITE_INTERCEPTED_MEMORY`.
pub type WriteInterceptedMemory = unsafe extern "C-unwind" fn(
    context: *mut c_void,
    bar: i32,
    offset: u64,
    length: u64,
    value: *const u8,
) -> Hresult;

/// `HDV_PCI_DEVICE_INTERFACE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HdvPciDeviceInterface {
    /// `Version`.
    pub version: i32,
    /// `Initialize`.
    pub initialize: Option<Event>,
    /// `Teardown`.
    pub teardown: Option<Notice>,
    /// `SetConfiguration`.
    pub set_configuration: Option<SetConfiguration>,
    /// `GetDetails`.
    pub get_details: Option<GetDetails>,
    /// `Start`.
    pub start: Option<Event>,
    /// `Stop`.
    pub stop: Option<Notice>,
    /// `ReadConfigSpace`.
    pub read_config_space: Option<ReadConfigSpace>,
    /// `WriteConfigSpace`.
    pub write_config_space: Option<WriteConfigSpace>,
    /// `ReadInterceptedMemory`.
    pub read_intercepted_memory: Option<ReadInterceptedMemory>,
    /// `WriteInterceptedMemory`.
    pub write_intercepted_memory: Option<WriteInterceptedMemory>,
}

/// `OPENHDV_LOG_CALLBACK`.
pub type LogCallback =
    unsafe extern "C-unwind" fn(context: *mut c_void, level: i32, message: *const c_char);
