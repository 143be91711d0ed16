//! Functions of the documented interface that are not there: each says so, whatever it is given, and leaves null where
//! a handle or a document would be.

use std::ffi::c_void;

use crate::error::{Failure, codes};
use crate::guard;
use crate::pointers::out;
use crate::types::{
    EventCallback, Handle, HcsOperation, HcsProcess, HcsProcessInformation, HcsSystem, Hresult,
    Pcwstr, Pwstr,
};

fn absent(name: &str) -> Hresult {
    guard::result(|| {
        Err(Failure::new(
            codes::E_NOTIMPL,
            format!(
                "{name} is not supported: VMs are not saved, and have no processes of the host's"
            ),
        ))
    })
}

/// Declares such functions; the place behind the arrow is set to null.
macro_rules! absent {
    ($($name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $place:ident)?;)*) => {$(
        #[doc = concat!("`", stringify!($name), "` is not there.")]
        ///
        /// # Safety
        /// Places for results are null or valid for writes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> Hresult {
            $(let _ = $argument;)*
            // SAFETY: by the contract.
            $(let _ = unsafe { out($place, "the result", std::ptr::null_mut()) };)?
            absent(stringify!($name))
        }
    )*};
}

absent! {
    HcsCancelOperation(operation: HcsOperation);
    HcsAddResourceToOperation(operation: HcsOperation, kind: i32, uri: Pcwstr, handle: Handle);
    HcsGetOperationResultAndProcessInfo(
        operation: HcsOperation, information: *mut HcsProcessInformation, result: *mut Pwstr,
    ) -> result;
    HcsWaitForOperationResultAndProcessInfo(
        operation: HcsOperation, timeout: u32, information: *mut HcsProcessInformation, result: *mut Pwstr,
    ) -> result;
    HcsCreateComputeSystemInNamespace(
        namespace: Pcwstr, id: Pcwstr, configuration: Pcwstr, operation: HcsOperation, options: *const i32,
        system: *mut HcsSystem,
    ) -> system;
    HcsOpenComputeSystemInNamespace(
        namespace: Pcwstr, id: Pcwstr, requested_access: u32, system: *mut HcsSystem,
    ) -> system;
    HcsEnumerateComputeSystemsInNamespace(namespace: Pcwstr, query: Pcwstr, operation: HcsOperation);
    HcsSaveComputeSystem(system: HcsSystem, operation: HcsOperation, options: Pcwstr);
    HcsCrashComputeSystem(system: HcsSystem, operation: HcsOperation, options: Pcwstr);
    HcsCreateProcess(
        system: HcsSystem, parameters: Pcwstr, operation: HcsOperation, security_descriptor: *const c_void,
        process: *mut HcsProcess,
    ) -> process;
    HcsOpenProcess(
        system: HcsSystem, process_id: u32, requested_access: u32, process: *mut HcsProcess,
    ) -> process;
    HcsTerminateProcess(process: HcsProcess, operation: HcsOperation, options: Pcwstr);
    HcsSignalProcess(process: HcsProcess, operation: HcsOperation, options: Pcwstr);
    HcsGetProcessInfo(process: HcsProcess, operation: HcsOperation);
    HcsGetProcessProperties(process: HcsProcess, operation: HcsOperation, query: Pcwstr);
    HcsModifyProcess(process: HcsProcess, operation: HcsOperation, settings: Pcwstr);
    HcsSetProcessCallback(
        process: HcsProcess, options: i32, context: *const c_void, callback: Option<EventCallback>,
    );
    HcsWaitForProcessExit(process: HcsProcess, timeout: u32, result: *mut Pwstr) -> result;
    HcsModifyServiceSettings(settings: Pcwstr, result: *mut Pwstr) -> result;
    HcsSubmitWerReport(settings: Pcwstr);
    HcsCreateEmptyGuestStateFile(path: Pcwstr);
    HcsCreateEmptyRuntimeStateFile(path: Pcwstr);
    HcsGetProcessorCompatibilityFromSavedState(path: Pcwstr, features: *mut Pcwstr) -> features;
}

/// There are no operations with notifications: null.
///
/// # Safety
/// Nothing is read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsCreateOperationWithNotifications(
    options: i32,
    context: *const c_void,
    callback: Option<EventCallback>,
) -> HcsOperation {
    let _ = (options, context, callback);
    absent("HcsCreateOperationWithNotifications");
    std::ptr::null_mut()
}

/// There are no processes: null.
#[unsafe(no_mangle)]
pub extern "C" fn HcsGetProcessFromOperation(operation: HcsOperation) -> HcsProcess {
    let _ = operation;
    absent("HcsGetProcessFromOperation");
    std::ptr::null_mut()
}

/// There are no processes.
#[unsafe(no_mangle)]
pub extern "C" fn HcsCloseProcess(process: HcsProcess) {
    let _ = process;
}
