//! The codes that the functions return.

use crate::types::Hresult;

pub use hdv_compute::codes::{
    HCS_E_INVALID_JSON, HCS_E_INVALID_STATE, HCS_E_OPERATION_TIMEOUT, HCS_E_SERVICE_DISCONNECT,
    HCS_E_SYSTEM_ALREADY_EXISTS, HCS_E_SYSTEM_ALREADY_STOPPED, HCS_E_SYSTEM_NOT_FOUND,
    HCS_E_TERMINATED, HCS_E_UNEXPECTED_EXIT,
};

const fn code(value: u32) -> Hresult {
    value.cast_signed()
}

/// A code of Windows as a result (`HRESULT_FROM_WIN32`).
const fn win32(value: u16) -> Hresult {
    code(0x8007_0000 | value as u32)
}

/// Success.
pub const S_OK: Hresult = 0;
/// There is no such function here.
pub const E_NOTIMPL: Hresult = code(0x8000_4001);
/// A COM object does not support an interface.
pub const E_NOINTERFACE: Hresult = code(0x8000_4002);
/// Null where a pointer is required.
pub const E_POINTER: Hresult = code(0x8000_4003);
/// Something unforeseen.
pub const E_FAIL: Hresult = code(0x8000_4005);
/// There is no such file.
pub const FILE_NOT_FOUND: Hresult = win32(2);
/// Not allowed.
pub const E_ACCESSDENIED: Hresult = win32(5);
/// Not a live handle of that kind.
pub const E_HANDLE: Hresult = win32(6);
/// Out of memory, or a mapping failed.
pub const E_OUTOFMEMORY: Hresult = win32(14);
/// No client, so neither memory nor interrupts.
pub const NOT_READY: Hresult = win32(21);
/// An argument makes no sense.
pub const E_INVALIDARG: Hresult = win32(87);
/// A client has it mapped.
pub const BUSY: Hresult = win32(170);
/// It exists already.
pub const ALREADY_EXISTS: Hresult = win32(183);
/// Not in guest memory.
pub const INVALID_ADDRESS: Hresult = win32(487);
/// This thread would wait for itself.
pub const POSSIBLE_DEADLOCK: Hresult = win32(1131);
/// There is no such thing.
pub const NOT_FOUND: Hresult = win32(1168);
/// The client waits for us: later, or from another thread.
pub const RETRY: Hresult = win32(1237);
/// The operation tracks no call yet.
pub const HCS_E_OPERATION_NOT_STARTED: Hresult = code(0x8037_0115);
/// The operation tracks a call that has not ended.
pub const HCS_E_OPERATION_ALREADY_STARTED: Hresult = code(0x8037_0116);
/// The call has not ended.
pub const HCS_E_OPERATION_PENDING: Hresult = code(0x8037_0117);
/// The compute system's handle has a callback.
pub const HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET: Hresult = code(0x8037_0119);
