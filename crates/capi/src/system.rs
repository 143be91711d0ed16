//! Handles of compute systems, and the system that is a directory of sockets.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use hdv::{SocketDirectory, System};

use crate::error::{Failure, codes};
use crate::guard;
use crate::guid::uuid;
use crate::handles::{Kind, Table};
use crate::pointers::{out, text};
use crate::strings::strings;
use crate::types::{Guid, HcsSystem, Hresult, Pcwstr};

static SYSTEMS: Table<SocketDirectory> = Table::new(Kind::System);

/// What a device host attaches to.
pub(crate) fn system(handle: HcsSystem) -> Result<Arc<dyn System>, Failure> {
    let system: Arc<SocketDirectory> = SYSTEMS.share(handle)?;
    Ok(system)
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
        system.set(SYSTEMS.insert(Arc::new(opened))?);
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
        system.configure(instance_id, values);
        Ok(())
    })
}

/// Closes a handle to a compute system; device hosts keep the system.
#[unsafe(no_mangle)]
pub extern "C" fn HcsCloseComputeSystem(system: HcsSystem) {
    let closed = guard::result(|| {
        SYSTEMS.share(system)?;
        SYSTEMS.remove(system);
        Ok(())
    });
    if closed != codes::S_OK {
        tracing::warn!("HcsCloseComputeSystem: {system:p} is not an open compute system");
    }
}
