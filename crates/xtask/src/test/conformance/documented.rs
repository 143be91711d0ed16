//! The errors that each function, and each routine of an interface, documents, by the table of conditions that the interface
//! has: what follows from parameters alone is in `rules`.

/// Functions with the further errors that they must be tested for.
pub(super) const DOCUMENTED: [(&str, &[&str]); 37] = [
    ("HdvInitializeDeviceHostForProxy", &["E_NOINTERFACE"]),
    (
        "HdvInitializeDeviceHostForProxyEx",
        &["E_NOINTERFACE", "E_INVALIDARG"],
    ),
    ("HdvProxyDeviceHost", &["E_NOINTERFACE"]),
    ("HdvTeardownDeviceHost", &["ERROR_POSSIBLE_DEADLOCK"]),
    (
        "HdvCreateDeviceInstance",
        &["ERROR_ALREADY_EXISTS", "callback"],
    ),
    ("HdvReadGuestMemory", &["ERROR_RETRY"]),
    ("HdvWriteGuestMemory", &["ERROR_RETRY", "E_ACCESSDENIED"]),
    (
        "HdvCreateGuestMemoryAperture",
        &["E_ACCESSDENIED", "E_INVALIDARG"],
    ),
    ("HdvDestroyGuestMemoryAperture", &["ERROR_NOT_FOUND"]),
    (
        "HdvDeliverGuestInterrupt",
        &["ERROR_NOT_FOUND", "ERROR_NOT_READY"],
    ),
    (
        "HdvRegisterDoorbell",
        &["ERROR_ALREADY_EXISTS", "ERROR_BUSY"],
    ),
    ("HdvUnregisterDoorbell", &["ERROR_NOT_FOUND"]),
    (
        "HdvRegisterDoorbellPage",
        &["ERROR_ALREADY_EXISTS", "ERROR_BUSY"],
    ),
    ("HdvUnregisterDoorbellPage", &["ERROR_NOT_FOUND"]),
    ("HdvCreateSectionBackedMmioRange", &["ERROR_ALREADY_EXISTS"]),
    (
        "HdvDestroySectionBackedMmioRange",
        &["ERROR_NOT_FOUND", "ERROR_BUSY"],
    ),
    (
        "OpenHdvCreatePhysicalFunction",
        &["ERROR_ALREADY_EXISTS", "E_INVALIDARG", "callback"],
    ),
    (
        "OpenHdvQueryPciVirtualizationInterface",
        &["STATUS_NOT_SUPPORTED", "STATUS_BUFFER_TOO_SMALL"],
    ),
    (
        "OpenHdvQueryPciVirtualizationInterfaceAt",
        &[
            "STATUS_NOT_SUPPORTED",
            "STATUS_BUFFER_TOO_SMALL",
            "STATUS_UNSUCCESSFUL",
        ],
    ),
    (
        "HcsCreateComputeSystem",
        &[
            "E_INVALIDARG",
            "HCS_E_INVALID_JSON",
            "HCS_E_OPERATION_ALREADY_STARTED",
            "HCS_E_SYSTEM_ALREADY_EXISTS",
        ],
    ),
    (
        "HcsOpenComputeSystem",
        &["E_INVALIDARG", "HCS_E_SYSTEM_NOT_FOUND"],
    ),
    (
        "HcsStartComputeSystem",
        &[
            "HCS_E_INVALID_STATE",
            "HCS_E_SYSTEM_ALREADY_STOPPED",
            "callback",
        ],
    ),
    (
        "HcsShutDownComputeSystem",
        &["HCS_E_INVALID_STATE", "HCS_E_SYSTEM_ALREADY_STOPPED"],
    ),
    (
        "HcsTerminateComputeSystem",
        &["HCS_E_SYSTEM_ALREADY_STOPPED"],
    ),
    (
        "HcsPauseComputeSystem",
        &[
            "HCS_E_INVALID_STATE",
            "HCS_E_SYSTEM_ALREADY_STOPPED",
            "ERROR_POSSIBLE_DEADLOCK",
        ],
    ),
    (
        "HcsResumeComputeSystem",
        &[
            "HCS_E_INVALID_STATE",
            "HCS_E_SYSTEM_ALREADY_STOPPED",
            "ERROR_POSSIBLE_DEADLOCK",
        ],
    ),
    (
        "HcsModifyComputeSystem",
        &[
            "HCS_E_INVALID_JSON",
            "HCS_E_INVALID_STATE",
            "HCS_E_SYSTEM_ALREADY_STOPPED",
            "ERROR_NOT_FOUND",
            "ERROR_ALREADY_EXISTS",
            "callback",
        ],
    ),
    (
        "HcsSetComputeSystemCallback",
        &["HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET"],
    ),
    (
        "HcsGetOperationResult",
        &["HCS_E_OPERATION_NOT_STARTED", "HCS_E_OPERATION_PENDING"],
    ),
    (
        "HcsWaitForOperationResult",
        &[
            "HCS_E_OPERATION_NOT_STARTED",
            "HCS_E_OPERATION_TIMEOUT",
            "ERROR_POSSIBLE_DEADLOCK",
        ],
    ),
    (
        "HcsWaitForComputeSystemExit",
        &["HCS_E_OPERATION_TIMEOUT", "ERROR_POSSIBLE_DEADLOCK"],
    ),
    ("HcsGetServiceProperties", &["HCS_E_INVALID_JSON"]),
    (
        "ENABLE_VIRTUALIZATION",
        &[
            "STATUS_INVALID_PARAMETER",
            "STATUS_INVALID_DEVICE_STATE",
            "STATUS_UNSUCCESSFUL",
            "STATUS_ACCESS_DENIED",
            "STATUS_POSSIBLE_DEADLOCK",
        ],
    ),
    (
        "GET_VIRTUAL_DEVICE_LOCATION",
        &[
            "STATUS_INVALID_PARAMETER",
            "STATUS_NOT_SUPPORTED",
            "STATUS_INVALID_DEVICE_STATE",
        ],
    ),
    (
        "GET_VIRTUAL_FUNCTION_PROBED_BARS",
        &["STATUS_INVALID_PARAMETER", "STATUS_INVALID_DEVICE_STATE"],
    ),
    ("GET_VIRTUAL_DEVICE_DATA", &["zero"]),
    ("SET_VIRTUAL_DEVICE_DATA", &["zero"]),
];
