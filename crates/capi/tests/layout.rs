//! Sizes, offsets and values, compared with the bindings that are generated from the vendor's own metadata.

use std::mem::{align_of, offset_of, size_of};

use computecore::codes;
use computecore::types::{
    DEVICE_HOST_FLAGS, DEVICE_TYPE_PCI, DOORBELL_ANY_VALUE, EVENT_OPERATION_CALLBACK,
    EVENT_OPTION_OPERATION_CALLBACKS, EVENT_SERVICE_DISCONNECT, EVENT_SYSTEM_EXITED, GENERIC_ALL,
    Guid, HcsCreateOptions1, HcsEvent, HcsProcessInformation, HdvPciDeviceInterface, HdvPciPnpId,
    INFINITE, Ntstatus, OperationType, PCI_INTERFACE_VERSION_1, PciVirtualizationInterface,
    PhysicalFunction,
};
use hdv_sriov::NtStatus;
use windows_sys::Wdk::System::SystemServices as wdm;
use windows_sys::Win32::Foundation as win32;
use windows_sys::Win32::System::HostComputeSystem as hcs;
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
fn hcs_layouts() {
    same_offsets!(HcsEvent, hcs::HCS_EVENT:
        event_type = Type, event_data = EventData, operation = Operation,
    );
    same_offsets!(HcsProcessInformation, hcs::HCS_PROCESS_INFORMATION:
        process_id = ProcessId, reserved = Reserved, std_input = StdInput, std_output = StdOutput,
        std_error = StdError,
    );
    same_offsets!(HcsCreateOptions1, hcs::HCS_CREATE_OPTIONS_1:
        version = Version, user_token = UserToken, security_descriptor = SecurityDescriptor,
        callback_options = CallbackOptions, callback_context = CallbackContext, callback = Callback,
    );
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

#[test]
fn hcs_enumerations() {
    let kinds = [
        (OperationType::None, hcs::HcsOperationTypeNone),
        (OperationType::Enumerate, hcs::HcsOperationTypeEnumerate),
        (OperationType::Create, hcs::HcsOperationTypeCreate),
        (OperationType::Start, hcs::HcsOperationTypeStart),
        (OperationType::Shutdown, hcs::HcsOperationTypeShutdown),
        (OperationType::Pause, hcs::HcsOperationTypePause),
        (OperationType::Resume, hcs::HcsOperationTypeResume),
        (OperationType::Terminate, hcs::HcsOperationTypeTerminate),
        (OperationType::Modify, hcs::HcsOperationTypeModify),
        (
            OperationType::GetProperties,
            hcs::HcsOperationTypeGetProperties,
        ),
    ];
    for (ours, theirs) in kinds {
        assert_eq!(ours as i32, theirs, "{ours:?}");
    }
    assert_eq!(EVENT_SYSTEM_EXITED, hcs::HcsEventSystemExited);
    assert_eq!(EVENT_OPERATION_CALLBACK, hcs::HcsEventOperationCallback);
    assert_eq!(EVENT_SERVICE_DISCONNECT, hcs::HcsEventServiceDisconnect);
    assert_eq!(
        EVENT_OPTION_OPERATION_CALLBACKS,
        hcs::HcsEventOptionEnableOperationCallbacks
    );
    assert_eq!(GENERIC_ALL, win32::GENERIC_ALL);
    assert_eq!(INFINITE, u32::MAX);
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
        (codes::E_NOTIMPL, win32::E_NOTIMPL),
        (codes::HCS_E_INVALID_STATE, win32::HCS_E_INVALID_STATE),
        (codes::HCS_E_UNEXPECTED_EXIT, win32::HCS_E_UNEXPECTED_EXIT),
        (codes::HCS_E_TERMINATED, win32::HCS_E_TERMINATED),
        (codes::HCS_E_INVALID_JSON, win32::HCS_E_INVALID_JSON),
        (codes::HCS_E_SYSTEM_NOT_FOUND, win32::HCS_E_SYSTEM_NOT_FOUND),
        (
            codes::HCS_E_SYSTEM_ALREADY_EXISTS,
            win32::HCS_E_SYSTEM_ALREADY_EXISTS,
        ),
        (
            codes::HCS_E_SYSTEM_ALREADY_STOPPED,
            win32::HCS_E_SYSTEM_ALREADY_STOPPED,
        ),
        (
            codes::HCS_E_OPERATION_NOT_STARTED,
            win32::HCS_E_OPERATION_NOT_STARTED,
        ),
        (
            codes::HCS_E_OPERATION_ALREADY_STARTED,
            win32::HCS_E_OPERATION_ALREADY_STARTED,
        ),
        (
            codes::HCS_E_OPERATION_PENDING,
            win32::HCS_E_OPERATION_PENDING,
        ),
        (
            codes::HCS_E_OPERATION_TIMEOUT,
            win32::HCS_E_OPERATION_TIMEOUT,
        ),
        (
            codes::HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET,
            win32::HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET,
        ),
        (
            codes::HCS_E_SERVICE_DISCONNECT,
            win32::HCS_E_SERVICE_DISCONNECT,
        ),
        (
            codes::FILE_NOT_FOUND,
            from_win32(win32::ERROR_FILE_NOT_FOUND),
        ),
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
