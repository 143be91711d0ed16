//! The functions on operations.

use std::ffi::c_void;

use super::{OPERATIONS, Operation, operation};
use crate::document::{hand_out, place};
use crate::error::{Failure, codes};
use crate::guard;
use crate::types::{
    HcsOperation, HcsSystem, Hresult, INVALID_OPERATION_ID, OperationCompletion, OperationType,
    Pwstr,
};

/// Creates an operation; null if there is no memory for it.
///
/// # Safety
/// `callback` is null or keeps to its type, and may be called with the operation's context on any thread until the
/// operation is closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsCreateOperation(
    context: *const c_void,
    callback: Option<OperationCompletion>,
) -> HcsOperation {
    let mut created = std::ptr::null_mut();
    guard::result(|| {
        created = Operation::create(context.cast_mut(), callback)?;
        Ok(())
    });
    created
}

/// Closes an operation. Its call goes on, its callback does not run any more.
#[unsafe(no_mangle)]
pub extern "C" fn HcsCloseOperation(handle: HcsOperation) {
    let closed = guard::result(|| {
        let operation = operation(handle)?;
        OPERATIONS.remove(handle);
        operation.gate.close();
        Ok(())
    });
    if closed != codes::S_OK {
        tracing::warn!("HcsCloseOperation: {handle:p} is not an open operation");
    }
}

/// An operation's context; null if there is no such operation.
#[unsafe(no_mangle)]
pub extern "C" fn HcsGetOperationContext(handle: HcsOperation) -> *mut c_void {
    let mut context = std::ptr::null_mut();
    guard::result(|| {
        context = operation(handle)?.state().context;
        Ok(())
    });
    context
}

/// Sets an operation's context.
///
/// # Safety
/// The operation's callback may be called with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsSetOperationContext(
    handle: HcsOperation,
    context: *const c_void,
) -> Hresult {
    guard::result(|| {
        operation(handle)?.state().context = context.cast_mut();
        Ok(())
    })
}

/// The compute system whose call an operation tracks; null if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn HcsGetComputeSystemFromOperation(handle: HcsOperation) -> HcsSystem {
    let mut system = std::ptr::null_mut();
    guard::result(|| {
        system = operation(handle)?.system();
        Ok(())
    });
    system
}

/// Which call an operation tracks.
#[unsafe(no_mangle)]
pub extern "C" fn HcsGetOperationType(handle: HcsOperation) -> i32 {
    let mut kind = OperationType::None;
    guard::result(|| {
        let operation = operation(handle)?;
        if let Some(call) = &operation.state().call {
            kind = call.tracked.kind;
        }
        Ok(())
    });
    kind as i32
}

/// An operation's id.
#[unsafe(no_mangle)]
pub extern "C" fn HcsGetOperationId(handle: HcsOperation) -> u64 {
    let mut id = INVALID_OPERATION_ID;
    guard::result(|| {
        id = operation(handle)?.id;
        Ok(())
    });
    id
}

/// The result of an operation's call.
///
/// # Safety
/// `result` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsGetOperationResult(
    handle: HcsOperation,
    result: *mut Pwstr,
) -> Hresult {
    // SAFETY: by the contract.
    guard::result(|| unsafe { take(handle, None, result) })
}

/// Waits for an operation's call, and gives its result.
///
/// # Safety
/// `result` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsWaitForOperationResult(
    handle: HcsOperation,
    timeout: u32,
    result: *mut Pwstr,
) -> Hresult {
    // SAFETY: by the contract.
    guard::result(|| unsafe { take(handle, Some(timeout), result) })
}

/// # Safety
/// `result` is null or valid for writes.
unsafe fn take(
    handle: HcsOperation,
    limit: Option<u32>,
    result: *mut Pwstr,
) -> Result<(), Failure> {
    // SAFETY: by the contract.
    let place = unsafe { place(result) };
    let operation = operation(handle)?;
    let outcome = match limit {
        Some(limit) => operation.wait(limit)?,
        None => operation.outcome()?,
    };
    hand_out(outcome.document.as_deref(), place.as_ref())?;
    outcome.result()
}

/// Sets an operation's context and callback.
///
/// # Safety
/// As for [`HcsCreateOperation`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsSetOperationCallback(
    handle: HcsOperation,
    context: *const c_void,
    callback: Option<OperationCompletion>,
) -> Hresult {
    guard::result(|| operation(handle)?.set_callback(context.cast_mut(), callback))
}
