//! Handles of compute systems: of those that workers own, and of the system that is a directory of sockets.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use hdv::SocketDirectory;

use crate::compute::Compute;
use crate::error::{Failure, codes};
use crate::guard;
use crate::guid::uuid;
use crate::handles::{Kind, Table};
use crate::pointers::{out, text};
use crate::strings::strings;
use crate::types::{Guid, HcsSystem, Hresult, Pcwstr};

static SYSTEMS: Table<System> = Table::new(Kind::System);

/// What a handle names.
enum System {
    Directory(Arc<SocketDirectory>),
    Compute(Arc<Compute>),
}

/// What a device host attaches to; one that is being created is waited for.
pub(crate) fn system(handle: HcsSystem) -> Result<Arc<dyn hdv::System>, Failure> {
    match &*SYSTEMS.share(handle)? {
        System::Directory(directory) => {
            let system: Arc<SocketDirectory> = Arc::clone(directory);
            Ok(system)
        }
        System::Compute(compute) => Ok(compute.system()?.system()),
    }
}

/// What a device host behind a proxy of this process attaches to.
pub(crate) fn restricted(handle: HcsSystem) -> Result<Arc<dyn hdv::System>, Failure> {
    match &*SYSTEMS.share(handle)? {
        System::Directory(_) => system(handle),
        System::Compute(compute) => Ok(compute.system()?.restricted_system()),
    }
}

/// One that a worker owns.
pub(crate) fn compute(handle: HcsSystem) -> Result<Arc<Compute>, Failure> {
    match &*SYSTEMS.share(handle)? {
        System::Compute(compute) => Ok(Arc::clone(compute)),
        System::Directory(directory) => Err(Failure::argument(format!(
            "the compute system is a directory of sockets, {}: whoever connects there has the VM, nobody can do this to it \
             from here",
            directory.path().display()
        ))),
    }
}

/// Gives a compute system a handle.
pub(crate) fn publish(compute: Arc<Compute>) -> Result<HcsSystem, Failure> {
    SYSTEMS.insert(Arc::new(System::Compute(compute)))
}

/// Takes back a handle that nobody was given.
pub(crate) fn forget(handle: HcsSystem) {
    SYSTEMS.remove(handle);
}

/// Fails unless a handle is one.
pub(crate) fn check(handle: HcsSystem) -> Result<(), Failure> {
    SYSTEMS.get(handle).map(drop)
}

/// Whether a handle is one.
pub(crate) fn is_open(handle: HcsSystem) -> bool {
    SYSTEMS.get(handle).is_ok()
}

/// Opens a directory of sockets.
///
/// # Safety
/// Pointers are null or valid; `directory` has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvOpenSocketSystem(
    directory: *const c_char,
    system: *mut HcsSystem,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let system = unsafe { out(system, "ComputeSystem", std::ptr::null_mut()) }?;
        // SAFETY: by the contract.
        let directory = unsafe { text(directory, "Directory") }?;
        let opened = SocketDirectory::open(OsStr::from_bytes(directory.to_bytes()))?;
        system.set(SYSTEMS.insert(Arc::new(System::Directory(Arc::new(opened))))?);
        Ok(())
    })
}

/// Sets the strings that a device gets in `SetConfiguration`.
///
/// # Safety
/// Pointers are null or valid; `values` is an array of `count` strings with terminating zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvSetConfiguration(
    system: HcsSystem,
    instance_id: *const Guid,
    count: u32,
    values: *const Pcwstr,
) -> Hresult {
    guard::result(|| {
        let system = SYSTEMS.share(system)?;
        // SAFETY: by the contract.
        let instance_id = unsafe { uuid(instance_id, "DeviceInstanceId") }?;
        // SAFETY: by the contract.
        let values = unsafe { strings(values, count) }?;
        match &*system {
            System::Directory(directory) => directory.configure(instance_id, values),
            System::Compute(_) => {
                return Err(Failure::argument(
                    "the compute system is a VM: what its devices are configured with is in its document, or in the \
                     request that adds them (Configuration)",
                ));
            }
        }
        Ok(())
    })
}

/// Closes a handle to a compute system; device hosts keep the system.
#[unsafe(no_mangle)]
pub extern "C" fn HcsCloseComputeSystem(handle: HcsSystem) {
    let closed = guard::result(|| {
        let system = SYSTEMS.share(handle)?;
        SYSTEMS.remove(handle);
        if let System::Compute(compute) = &*system {
            compute.events().clear();
        }
        Ok(())
    });
    if closed != codes::S_OK {
        tracing::warn!("HcsCloseComputeSystem: {handle:p} is not an open compute system");
    }
}
