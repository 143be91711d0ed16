//! Sizes, offsets and values, compared with the bindings that are generated from the vendor's own metadata.

use std::mem::{align_of, offset_of, size_of};

use computecore::codes;
use computecore::types::{
    DEVICE_HOST_FLAGS, DEVICE_TYPE_PCI, DOORBELL_ANY_VALUE, Guid, HdvPciDeviceInterface,
    HdvPciPnpId, Ntstatus, PCI_INTERFACE_VERSION_1, PciVirtualizationInterface, PhysicalFunction,
};
use hdv_sriov::NtStatus;
use windows_sys::Wdk::System::SystemServices as wdm;
use windows_sys::Win32::Foundation as win32;
use windows_sys::Win32::System::Hypervisor as vendor;
use windows_sys::core::{GUID, HRESULT};

macro_rules! same_offsets {
    ($ours:ty, $theirs:ty: $($field:ident = $name:ident),* $(,)?) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>());
        assert_eq!(align_of::<$ours>(), align_of::<$theirs>());
        $(assert_eq!(offset_of!($ours, $field), offset_of!($theirs, $name), stringify!($name));)*
    };
}

#[test]
fn guid_layout() {
    same_offsets!(Guid, GUID: data1 = data1, data2 = data2, data3 = data3, data4 = data4);
}

#[test]
fn hdv_pci_pnp_id_layout() {
    same_offsets!(HdvPciPnpId, vendor::HDV_PCI_PNP_ID:
        vendor_id = VendorID, device_id = DeviceID, revision_id = RevisionID, prog_if = ProgIf,
        sub_class = SubClass, base_class = BaseClass, sub_vendor_id = SubVendorID,
        sub_system_id = SubSystemID,
    );
}

#[test]
fn hdv_pci_device_interface_layout() {
    same_offsets!(HdvPciDeviceInterface, vendor::HDV_PCI_DEVICE_INTERFACE:
        version = Version, initialize = Initialize, teardown = Teardown,
        set_configuration = SetConfiguration, get_details = GetDetails, start = Start, stop = Stop,
        read_config_space = ReadConfigSpace, write_config_space = WriteConfigSpace,
        read_intercepted_memory = ReadInterceptedMemory,
        write_intercepted_memory = WriteInterceptedMemory,
    );
    assert_eq!(size_of::<HdvPciDeviceInterface>(), 88);
}

#[test]
fn pci_virtualization_interface_layout() {
    same_offsets!(PciVirtualizationInterface, wdm::PCI_VIRTUALIZATION_INTERFACE:
        size = Size, version = Version, context = Context,
        interface_reference = InterfaceReference, interface_dereference = InterfaceDereference,
        set_virtual_function_data = SetVirtualFunctionData,
        get_virtual_function_data = GetVirtualFunctionData,
        get_location = GetLocation, get_resources = GetResources,
        enable_virtualization = EnableVirtualization,
        get_virtual_function_probed_bars = GetVirtualFunctionProbedBars,
    );
    assert_eq!(size_of::<PciVirtualizationInterface>(), 80);
    // It begins as every interface does.
    assert_eq!(size_of::<wdm::INTERFACE>(), 32);
    assert_eq!(
        offset_of!(PciVirtualizationInterface, set_virtual_function_data),
        size_of::<wdm::INTERFACE>()
    );
    assert_eq!(size_of::<Ntstatus>(), size_of::<win32::NTSTATUS>());
}

#[test]
fn openhdv_physical_function_layout() {
    assert_eq!(size_of::<PhysicalFunction>(), 56);
    assert_eq!(align_of::<PhysicalFunction>(), 8);
    let offsets = [
        offset_of!(PhysicalFunction, version),
        offset_of!(PhysicalFunction, supported_page_sizes),
        offset_of!(PhysicalFunction, probed_bars),
        offset_of!(PhysicalFunction, segment),
        offset_of!(PhysicalFunction, total_vfs),
        offset_of!(PhysicalFunction, virtual_function_device_id),
        offset_of!(PhysicalFunction, device),
        offset_of!(PhysicalFunction, function),
        offset_of!(PhysicalFunction, secondary_bus),
        offset_of!(PhysicalFunction, subordinate_bus),
        offset_of!(PhysicalFunction, ari_forwarding),
        offset_of!(PhysicalFunction, guest_controls_sriov),
        offset_of!(PhysicalFunction, reserved),
        offset_of!(PhysicalFunction, supply_virtual_function),
    ];
    assert_eq!(
        offsets,
        [0, 4, 8, 32, 36, 38, 40, 41, 42, 43, 44, 45, 46, 48]
    );
}

#[test]
fn status_codes() {
    let pairs = [
        (NtStatus::SUCCESS, win32::STATUS_SUCCESS),
        (NtStatus::UNSUCCESSFUL, win32::STATUS_UNSUCCESSFUL),
        (NtStatus::INVALID_PARAMETER, win32::STATUS_INVALID_PARAMETER),
        (NtStatus::ACCESS_DENIED, win32::STATUS_ACCESS_DENIED),
        (NtStatus::BUFFER_TOO_SMALL, win32::STATUS_BUFFER_TOO_SMALL),
        (NtStatus::NOT_SUPPORTED, win32::STATUS_NOT_SUPPORTED),
        (
            NtStatus::INVALID_DEVICE_STATE,
            win32::STATUS_INVALID_DEVICE_STATE,
        ),
        (NtStatus::POSSIBLE_DEADLOCK, win32::STATUS_POSSIBLE_DEADLOCK),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours.0, theirs.cast_unsigned(), "{ours:?}, {theirs:#x}");
    }
}

#[test]
fn enumerations() {
    assert_eq!(vendor::HdvDeviceTypePCI, DEVICE_TYPE_PCI);
    assert_eq!(vendor::HdvDeviceTypeUndefined, 0);
    assert_eq!(
        vendor::HdvPciDeviceInterfaceVersion1,
        PCI_INTERFACE_VERSION_1
    );
    assert_eq!(vendor::HdvPciDeviceInterfaceVersionInvalid, 0);
    assert_eq!(
        vendor::HdvDeviceHostFlagInitializeComSecurity.cast_unsigned(),
        DEVICE_HOST_FLAGS
    );
    let bars = [
        vendor::HDV_PCI_BAR0,
        vendor::HDV_PCI_BAR1,
        vendor::HDV_PCI_BAR2,
        vendor::HDV_PCI_BAR3,
        vendor::HDV_PCI_BAR4,
        vendor::HDV_PCI_BAR5,
    ];
    assert_eq!(bars, [0, 1, 2, 3, 4, 5]);
    assert_eq!(vendor::HDV_PCI_BAR_COUNT, 6);
    assert_eq!(
        vendor::HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE.cast_unsigned(),
        DOORBELL_ANY_VALUE
    );
    let sizes = [
        vendor::HDV_DOORBELL_FLAG_TRIGGER_SIZE_ANY,
        vendor::HDV_DOORBELL_FLAG_TRIGGER_SIZE_BYTE,
        vendor::HDV_DOORBELL_FLAG_TRIGGER_SIZE_WORD,
        vendor::HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD,
        vendor::HDV_DOORBELL_FLAG_TRIGGER_SIZE_QWORD,
    ];
    assert_eq!(sizes, [0, 1, 2, 3, 4]);
    assert_eq!(vendor::HdvMmioMappingFlagNone, 0);
    assert_eq!(
        vendor::HdvMmioMappingFlagWriteable.cast_unsigned(),
        hdv::SectionFlags::WRITEABLE.bits()
    );
    assert_eq!(
        vendor::HdvMmioMappingFlagExecutable.cast_unsigned(),
        hdv::SectionFlags::EXECUTABLE.bits()
    );
}

/// `HRESULT_FROM_WIN32`.
fn from_win32(code: u32) -> HRESULT {
    (code | 0x8007_0000).cast_signed()
}

#[test]
fn result_codes() {
    let pairs = [
        (codes::S_OK, win32::S_OK),
        (codes::E_NOINTERFACE, win32::E_NOINTERFACE),
        (codes::E_POINTER, win32::E_POINTER),
        (codes::E_FAIL, win32::E_FAIL),
        (codes::E_ACCESSDENIED, win32::E_ACCESSDENIED),
        (codes::E_HANDLE, win32::E_HANDLE),
        (codes::E_OUTOFMEMORY, win32::E_OUTOFMEMORY),
        (codes::E_INVALIDARG, win32::E_INVALIDARG),
        (codes::HCS_E_SYSTEM_NOT_FOUND, win32::HCS_E_SYSTEM_NOT_FOUND),
        (codes::NOT_READY, from_win32(win32::ERROR_NOT_READY)),
        (codes::BUSY, from_win32(win32::ERROR_BUSY)),
        (
            codes::ALREADY_EXISTS,
            from_win32(win32::ERROR_ALREADY_EXISTS),
        ),
        (
            codes::INVALID_ADDRESS,
            from_win32(win32::ERROR_INVALID_ADDRESS),
        ),
        (
            codes::POSSIBLE_DEADLOCK,
            from_win32(win32::ERROR_POSSIBLE_DEADLOCK),
        ),
        (codes::NOT_FOUND, from_win32(win32::ERROR_NOT_FOUND)),
        (codes::RETRY, from_win32(win32::ERROR_RETRY)),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours, theirs, "{ours:#x}, {theirs:#x}");
    }
}
