//! The constants of `computecore.h`, and the result codes of compute systems, compared with the bindings that are generated
//! from the vendor's own metadata: by the compiler, in a source that is made of those.

#[path = "support/toolchain.rs"]
mod toolchain;

use std::fmt::Write;

use toolchain::{WAYS, build};
use windows_sys::Win32::Foundation as win32;
use windows_sys::Win32::System::HostComputeSystem as hcs;

macro_rules! values {
    ($module:ident: $($name:ident),* $(,)?) => {
        [$((stringify!($name), $module::$name)),*]
    };
}

#[test]
fn constants_have_the_vendors_values() {
    let enumerations = values!(hcs:
        HcsCreateOptions_1, HcsEventGroupOperationInfo, HcsEventGroupVmLifecycle, HcsEventInvalid,
        HcsEventOperationCallback, HcsEventOptionEnableOperationCallbacks,
        HcsEventOptionEnableVmLifecycle, HcsEventOptionNone, HcsEventProcessExited,
        HcsEventServiceDisconnect, HcsEventSystemCrashInitiated, HcsEventSystemCrashReport,
        HcsEventSystemExited, HcsEventSystemGuestConnectionClosed,
        HcsEventSystemRdpEnhancedModeStateChanged, HcsEventSystemSiloJobCreated,
        HcsOperationOptionNone, HcsOperationOptionProgressUpdate, HcsOperationTypeCrash,
        HcsOperationTypeCreate, HcsOperationTypeCreateProcess, HcsOperationTypeEnumerate,
        HcsOperationTypeGetProcessInfo, HcsOperationTypeGetProcessProperties,
        HcsOperationTypeGetProperties, HcsOperationTypeModify, HcsOperationTypeModifyProcess,
        HcsOperationTypeNone, HcsOperationTypePause, HcsOperationTypeResume, HcsOperationTypeSave,
        HcsOperationTypeShutdown, HcsOperationTypeSignalProcess, HcsOperationTypeStart,
        HcsOperationTypeTerminate, HcsResourceTypeFile, HcsResourceTypeJob, HcsResourceTypeNone,
    );
    let results = values!(win32:
        HCS_E_ACCESS_DENIED, HCS_E_CONNECTION_CLOSED, HCS_E_CONNECTION_TIMEOUT,
        HCS_E_CONNECT_FAILED, HCS_E_GUEST_CRITICAL_ERROR, HCS_E_HYPERV_NOT_INSTALLED,
        HCS_E_IMAGE_MISMATCH, HCS_E_INVALID_JSON, HCS_E_INVALID_LAYER, HCS_E_INVALID_STATE,
        HCS_E_OPERATION_ALREADY_CANCELLED, HCS_E_OPERATION_ALREADY_STARTED,
        HCS_E_OPERATION_NOT_STARTED, HCS_E_OPERATION_PENDING,
        HCS_E_OPERATION_RESULT_ALLOCATION_FAILED, HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET,
        HCS_E_OPERATION_TIMEOUT, HCS_E_PROCESS_ALREADY_STOPPED, HCS_E_PROCESS_INFO_NOT_AVAILABLE,
        HCS_E_PROTOCOL_ERROR, HCS_E_SERVICE_DISCONNECT, HCS_E_SERVICE_NOT_AVAILABLE,
        HCS_E_SYSTEM_ALREADY_EXISTS, HCS_E_SYSTEM_ALREADY_STOPPED,
        HCS_E_SYSTEM_NOT_CONFIGURED_FOR_OPERATION, HCS_E_SYSTEM_NOT_FOUND, HCS_E_TERMINATED,
        HCS_E_TERMINATED_DURING_START, HCS_E_UNEXPECTED_EXIT, HCS_E_UNKNOWN_MESSAGE,
        HCS_E_UNSUPPORTED_PROTOCOL_VERSION, HCS_E_WINDOWS_INSIDER_REQUIRED,
    );
    let mut source = String::from(
        "#include <openhdv.h>\n#ifdef __cplusplus\n#define _Static_assert static_assert\n#endif\n",
    );
    for (name, value) in enumerations.into_iter().chain(results) {
        let value = value.cast_unsigned();
        writeln!(
            source,
            "_Static_assert((UINT32){name} == {value:#x}u, \"{name}\");"
        )
        .unwrap();
    }
    source.push_str("int main(void) { return 0; }\n");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("values.c");
    std::fs::write(&path, source).expect("written");
    for (language, wide) in WAYS {
        build(&path, language, wide, directory.path());
    }
}
