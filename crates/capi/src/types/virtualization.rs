//! What the headers say of SR-IOV: `pcivirt.h`, and of `openhdv.h` what makes a device a physical function.

use std::ffi::c_void;

use super::{HdvDevice, Hresult};

/// `NTSTATUS`.
pub type Ntstatus = i32;
/// `BOOLEAN`: any value but 0 is true.
pub type Boolean = u8;

/// `PINTERFACE_REFERENCE`, `PINTERFACE_DEREFERENCE`.
pub type CountInterface = unsafe extern "C" fn(context: *mut c_void);
/// `SET_VIRTUAL_DEVICE_DATA`, `GET_VIRTUAL_DEVICE_DATA`.
pub type MoveVirtualDeviceData = unsafe extern "C" fn(
    context: *mut c_void,
    vf: u16,
    buffer: *mut c_void,
    offset: u32,
    length: u32,
) -> u32;
/// `GET_VIRTUAL_DEVICE_LOCATION`.
pub type GetVirtualDeviceLocation = unsafe extern "C" fn(
    context: *mut c_void,
    vf: u16,
    segment: *mut u16,
    bus: *mut u8,
    function: *mut u8,
) -> Ntstatus;
/// `GET_VIRTUAL_DEVICE_RESOURCES`.
pub type GetVirtualDeviceResources = unsafe extern "C" fn(context: *mut c_void, buses: *mut u8);
/// `ENABLE_VIRTUALIZATION`.
pub type EnableVirtualization = unsafe extern "C" fn(
    context: *mut c_void,
    num_vfs: u16,
    vf_migration: Boolean,
    migration_interrupt: Boolean,
    enable: Boolean,
) -> Ntstatus;
/// `GET_VIRTUAL_FUNCTION_PROBED_BARS`.
pub type GetVirtualFunctionProbedBars =
    unsafe extern "C" fn(context: *mut c_void, values: *mut u32) -> Ntstatus;

/// `OPENHDV_PCI_VIRTUALIZATION_INTERFACE_VERSION`.
pub const PCI_VIRTUALIZATION_INTERFACE_VERSION: u16 = 1;

/// `PCI_VIRTUALIZATION_INTERFACE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PciVirtualizationInterface {
    /// `Size`, in bytes.
    pub size: u16,
    /// `Version`.
    pub version: u16,
    /// `Context`: a number that the routines know it by.
    pub context: *mut c_void,
    /// `InterfaceReference`.
    pub interface_reference: Option<CountInterface>,
    /// `InterfaceDereference`.
    pub interface_dereference: Option<CountInterface>,
    /// `SetVirtualFunctionData`.
    pub set_virtual_function_data: Option<MoveVirtualDeviceData>,
    /// `GetVirtualFunctionData`.
    pub get_virtual_function_data: Option<MoveVirtualDeviceData>,
    /// `GetLocation`.
    pub get_location: Option<GetVirtualDeviceLocation>,
    /// `GetResources`.
    pub get_resources: Option<GetVirtualDeviceResources>,
    /// `EnableVirtualization`.
    pub enable_virtualization: Option<EnableVirtualization>,
    /// `GetVirtualFunctionProbedBars`.
    pub get_virtual_function_probed_bars: Option<GetVirtualFunctionProbedBars>,
}

/// `OpenHdvPhysicalFunctionVersion1`.
pub const PHYSICAL_FUNCTION_VERSION_1: i32 = 1;

/// `OPENHDV_SUPPLY_VIRTUAL_FUNCTION`.
pub type SupplyVirtualFunction = unsafe extern "C-unwind" fn(
    context: *mut c_void,
    vf: u16,
    device: HdvDevice,
    interface: *mut *const c_void,
    vf_context: *mut *mut c_void,
) -> Hresult;

/// `OPENHDV_PHYSICAL_FUNCTION`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PhysicalFunction {
    /// `Version`.
    pub version: i32,
    /// `SupportedPageSizes`: bit n for 2^(n + 12) bytes; 0 for the required ones.
    pub supported_page_sizes: u32,
    /// `ProbedBars`.
    pub probed_bars: [u32; 6],
    /// `Segment`.
    pub segment: u32,
    /// `TotalVFs`.
    pub total_vfs: u16,
    /// `VirtualFunctionDeviceID`.
    pub virtual_function_device_id: u16,
    /// `Device`.
    pub device: u8,
    /// `Function`.
    pub function: u8,
    /// `SecondaryBus`.
    pub secondary_bus: u8,
    /// `SubordinateBus`.
    pub subordinate_bus: u8,
    /// `AriForwarding`.
    pub ari_forwarding: Boolean,
    /// `GuestControlsSriov`.
    pub guest_controls_sriov: Boolean,
    /// `Reserved`.
    pub reserved: u16,
    /// `SupplyVirtualFunction`.
    pub supply_virtual_function: Option<SupplyVirtualFunction>,
}
