//! The types and constants of `computecore.h`.

use std::ffi::c_void;

use super::{Handle, Pcwstr};

/// `PWSTR`.
pub type Pwstr = *mut u16;
/// `HCS_OPERATION`.
pub type HcsOperation = *mut c_void;
/// `HCS_PROCESS`.
pub type HcsProcess = *mut c_void;

/// `HCS_OPERATION_COMPLETION`.
pub type OperationCompletion =
    unsafe extern "C-unwind" fn(operation: HcsOperation, context: *mut c_void);
/// `HCS_EVENT_CALLBACK`.
pub type EventCallback = unsafe extern "C-unwind" fn(event: *mut HcsEvent, context: *mut c_void);

/// `HCS_EVENT`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HcsEvent {
    /// `Type`: one of `HCS_EVENT_TYPE`.
    pub event_type: i32,
    /// `EventData`: JSON, or null.
    pub event_data: Pcwstr,
    /// `Operation`: the one that has completed, or null.
    pub operation: HcsOperation,
}

/// `HCS_PROCESS_INFORMATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HcsProcessInformation {
    /// `ProcessId`.
    pub process_id: u32,
    /// `Reserved`.
    pub reserved: u32,
    /// `StdInput`.
    pub std_input: Handle,
    /// `StdOutput`.
    pub std_output: Handle,
    /// `StdError`.
    pub std_error: Handle,
}

/// `HCS_CREATE_OPTIONS_1`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HcsCreateOptions1 {
    /// `Version`: `HcsCreateOptions_1`.
    pub version: i32,
    /// `UserToken`.
    pub user_token: Handle,
    /// `SecurityDescriptor`.
    pub security_descriptor: *mut c_void,
    /// `CallbackOptions`.
    pub callback_options: i32,
    /// `CallbackContext`.
    pub callback_context: *mut c_void,
    /// `Callback`.
    pub callback: Option<EventCallback>,
}

/// `HCS_OPERATION_TYPE`, those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum OperationType {
    /// No call is tracked.
    None = -1,
    /// `HcsEnumerateComputeSystems`.
    Enumerate = 0,
    /// `HcsCreateComputeSystem`.
    Create = 1,
    /// `HcsStartComputeSystem`.
    Start = 2,
    /// `HcsShutDownComputeSystem`.
    Shutdown = 3,
    /// `HcsPauseComputeSystem`.
    Pause = 4,
    /// `HcsResumeComputeSystem`.
    Resume = 5,
    /// `HcsTerminateComputeSystem`.
    Terminate = 7,
    /// `HcsModifyComputeSystem`.
    Modify = 8,
    /// `HcsGetComputeSystemProperties`.
    GetProperties = 9,
}

/// `HcsEventSystemExited`.
pub const EVENT_SYSTEM_EXITED: i32 = 1;
/// `HcsEventOperationCallback`.
pub const EVENT_OPERATION_CALLBACK: i32 = 0x0100_0000;
/// `HcsEventServiceDisconnect`.
pub const EVENT_SERVICE_DISCONNECT: i32 = 0x0200_0000;
/// `HcsEventOptionEnableOperationCallbacks`.
pub const EVENT_OPTION_OPERATION_CALLBACKS: i32 = 1;
/// `HCS_INVALID_OPERATION_ID`.
pub const INVALID_OPERATION_ID: u64 = u64::MAX;
/// `GENERIC_ALL`.
pub const GENERIC_ALL: u32 = 0x1000_0000;
/// `INFINITE`.
pub const INFINITE: u32 = u32::MAX;
