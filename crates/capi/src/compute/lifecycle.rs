//! Compute systems come, run and go.

use std::ffi::c_void;
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdv_compute::{ComputeSystem, ExitStatus};

use super::Compute;
use super::query::PauseOptions;
use crate::document;
use crate::error::{Failure, codes};
use crate::guard;
use crate::operation::{Tracked, begin};
use crate::pointers::out;
use crate::strings::{optional_string, string};
use crate::system::{self, compute};
use crate::types::{
    GENERIC_ALL, Handle, HcsOperation, HcsSystem, Hresult, INFINITE, OperationType, Pcwstr, Pwstr,
};

/// Longest that is waited for an exit at a time.
const SLICE: Duration = Duration::from_secs(3600);

/// Creates a compute system from its document. The handle is given at once; calls with it wait until the operation has
/// ended.
///
/// # Safety
/// Pointers are null or valid; strings have a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsCreateComputeSystem(
    id: Pcwstr,
    configuration: Pcwstr,
    operation: HcsOperation,
    security_descriptor: *const c_void,
    place: *mut HcsSystem,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(place, "ComputeSystem", std::ptr::null_mut()) }?;
        // SAFETY: by the contract.
        let id = unsafe { string(id, "Id") }?;
        // SAFETY: by the contract.
        let document = unsafe { string(configuration, "Configuration") }?;
        if !security_descriptor.is_null() {
            return Err(Failure::argument(
                "SecurityDescriptor is reserved: it must be null",
            ));
        }
        let compute = Compute::creating();
        let handle = system::publish(Arc::clone(&compute))?;
        let tracked = Tracked {
            kind: OperationType::Create,
            handle,
            system: Some(Arc::clone(&compute)),
            waits_for_devices: false,
        };
        // Callbacks may use it already.
        place.set(handle);
        let begun = begin(operation, tracked, move || {
            create(&compute, || ComputeSystem::create(&id, &document)).map(|()| None)
        });
        if begun.is_err() {
            place.set(std::ptr::null_mut());
            system::forget(handle);
        }
        begun
    })
}

/// Carries a creation out, which is settled whatever happens: who has the handle waits for it.
pub(super) fn create(
    compute: &Arc<Compute>,
    work: impl FnOnce() -> hdv_compute::Result<ComputeSystem> + UnwindSafe,
) -> Result<(), Failure> {
    let created = catch_unwind(work);
    let created = created.map_or_else(|_| Err(Failure::fault()), |created| Ok(created?));
    compute.settle(&created);
    created.map(drop)
}

/// Opens a compute system of this user.
///
/// # Safety
/// Pointers are null or valid; strings have a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsOpenComputeSystem(
    id: Pcwstr,
    requested_access: u32,
    place: *mut HcsSystem,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(place, "ComputeSystem", std::ptr::null_mut()) }?;
        // SAFETY: by the contract.
        let id = unsafe { string(id, "Id") }?;
        if requested_access != GENERIC_ALL {
            return Err(Failure::argument(format!(
                "RequestedAccess is {requested_access:#x}, and must be GENERIC_ALL ({GENERIC_ALL:#x})"
            )));
        }
        place.set(system::publish(Compute::of(ComputeSystem::open(&id)?))?);
        Ok(())
    })
}

/// What a call does with its compute system.
type Work = fn(&ComputeSystem) -> hdv_compute::Result<()>;

/// A call that has nothing but its options.
struct Call {
    name: &'static str,
    kind: OperationType,
    /// It stops or tears down devices: waiting for it inside a call into one would never end.
    waits_for_devices: bool,
    /// It may not be asked for inside such a call at all.
    outside: bool,
    work: Work,
}

impl Call {
    /// # Safety
    /// `options` is null or has a terminating zero.
    unsafe fn begin(
        &self,
        handle: HcsSystem,
        operation: HcsOperation,
        options: Pcwstr,
        check: fn(&str) -> Result<(), Failure>,
    ) -> Hresult {
        guard::result(|| {
            let compute = compute(handle)?;
            // SAFETY: by the contract.
            if let Some(options) = unsafe { optional_string(options, "Options") }? {
                check(&options)?;
            }
            if self.outside {
                compute.check_outside_call(self.name)?;
            }
            let tracked = Tracked {
                kind: self.kind,
                handle,
                system: Some(Arc::clone(&compute)),
                waits_for_devices: self.waits_for_devices,
            };
            let work = self.work;
            begin(operation, tracked, move || {
                work(&compute.system()?)?;
                Ok(None)
            })
        })
    }
}

/// Options that are reserved.
fn reserved(_: &str) -> Result<(), Failure> {
    Err(Failure::argument("Options is reserved: it must be null"))
}

/// Starts a compute system.
///
/// # Safety
/// `options` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsStartComputeSystem(
    system: HcsSystem,
    operation: HcsOperation,
    options: Pcwstr,
) -> Hresult {
    let call = Call {
        name: "HcsStartComputeSystem",
        kind: OperationType::Start,
        waits_for_devices: true,
        outside: false,
        work: ComputeSystem::start,
    };
    // SAFETY: by the contract.
    unsafe { call.begin(system, operation, options, reserved) }
}

/// Presses the power button of a compute system's guest.
///
/// # Safety
/// `options` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsShutDownComputeSystem(
    system: HcsSystem,
    operation: HcsOperation,
    options: Pcwstr,
) -> Hresult {
    let call = Call {
        name: "HcsShutDownComputeSystem",
        kind: OperationType::Shutdown,
        waits_for_devices: false,
        outside: false,
        work: ComputeSystem::shut_down,
    };
    // SAFETY: by the contract.
    unsafe { call.begin(system, operation, options, reserved) }
}

/// Ends a compute system.
///
/// # Safety
/// `options` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsTerminateComputeSystem(
    system: HcsSystem,
    operation: HcsOperation,
    options: Pcwstr,
) -> Hresult {
    let call = Call {
        name: "HcsTerminateComputeSystem",
        kind: OperationType::Terminate,
        waits_for_devices: true,
        outside: false,
        work: ComputeSystem::terminate,
    };
    // SAFETY: by the contract.
    unsafe { call.begin(system, operation, options, reserved) }
}

/// Pauses a compute system.
///
/// # Safety
/// `options` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsPauseComputeSystem(
    system: HcsSystem,
    operation: HcsOperation,
    options: Pcwstr,
) -> Hresult {
    let call = Call {
        name: "HcsPauseComputeSystem",
        kind: OperationType::Pause,
        waits_for_devices: true,
        outside: true,
        work: ComputeSystem::pause,
    };
    // SAFETY: by the contract.
    unsafe { call.begin(system, operation, options, PauseOptions::check) }
}

/// Resumes a compute system.
///
/// # Safety
/// `options` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsResumeComputeSystem(
    system: HcsSystem,
    operation: HcsOperation,
    options: Pcwstr,
) -> Hresult {
    let call = Call {
        name: "HcsResumeComputeSystem",
        kind: OperationType::Resume,
        waits_for_devices: true,
        outside: true,
        work: ComputeSystem::resume,
    };
    // SAFETY: by the contract.
    unsafe { call.begin(system, operation, options, reserved) }
}

/// Changes a compute system.
///
/// # Safety
/// `configuration` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsModifyComputeSystem(
    system: HcsSystem,
    operation: HcsOperation,
    configuration: Pcwstr,
    identity: Handle,
) -> Hresult {
    guard::result(|| {
        let compute = compute(system)?;
        // SAFETY: by the contract.
        let request = unsafe { string(configuration, "Configuration") }?;
        if !identity.is_null() {
            return Err(Failure::argument(
                "Identity is an access token, of which there are none here: it must be null",
            ));
        }
        let tracked = Tracked {
            kind: OperationType::Modify,
            handle: system,
            system: Some(Arc::clone(&compute)),
            waits_for_devices: super::query::removes(&request),
        };
        begin(operation, tracked, move || {
            compute.system()?.modify(&request)?;
            Ok(None)
        })
    })
}

/// Waits until a compute system has ended.
///
/// # Safety
/// `result` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsWaitForComputeSystemExit(
    system: HcsSystem,
    timeout: u32,
    result: *mut Pwstr,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { document::place(result) };
        let compute = compute(system)?;
        let status = exit(&compute, timeout)?;
        let status = serde_json::to_string(&status)
            .map_err(|error| Failure::new(codes::E_FAIL, error.to_string()))?;
        document::hand_out(Some(&status), place.as_ref())
    })
}

fn exit(compute: &Compute, timeout: u32) -> Result<ExitStatus, Failure> {
    let limit = Duration::from_millis(timeout.into());
    let deadline = (timeout != INFINITE).then(|| Instant::now() + limit);
    let system = compute.system_by(deadline)?;
    if let Some(status) = system.wait_for_exit(Duration::ZERO) {
        return Ok(status);
    }
    if timeout > 0 {
        compute.check_outside_call("HcsWaitForComputeSystemExit")?;
    }
    loop {
        let left = deadline.map_or(SLICE, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return Err(Failure::new(
                codes::HCS_E_OPERATION_TIMEOUT,
                format!(
                    "compute system {:?} did not end within {timeout} ms",
                    system.id()
                ),
            ));
        }
        if let Some(status) = system.wait_for_exit(left) {
            return Ok(status);
        }
    }
}
