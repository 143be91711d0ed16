//! Files that a VM may use. VMs run as their user, who may what he may: there is nothing to grant, and a file that is not
//! there, or that the user may not read, is told of here.

use std::io::{Error, ErrorKind};

use rustix::fs::{Access, access};

use crate::error::{Failure, codes};
use crate::guard;
use crate::strings::string;
use crate::types::{Hresult, Pcwstr};

fn check(path: &str) -> Result<(), Failure> {
    // Not opened: that waits for a writer where the file is a pipe, and does things to some devices.
    match access(path, Access::READ_OK) {
        Ok(()) => Ok(()),
        Err(errno) => {
            let error = Error::from(errno);
            let code = match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => codes::FILE_NOT_FOUND,
                ErrorKind::PermissionDenied => codes::E_ACCESSDENIED,
                _ => codes::E_FAIL,
            };
            Err(Failure::new(code, format!("{path}: {error}")))
        }
    }
}

/// # Safety
/// Null, or with a terminating zero.
unsafe fn of_vm(vm_id: Pcwstr, path: Pcwstr) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        unsafe { string(vm_id, "VmId") }?;
        // SAFETY: by the contract.
        check(&unsafe { string(path, "FilePath") }?)
    })
}

/// # Safety
/// Null, or with a terminating zero.
unsafe fn of_group(path: Pcwstr) -> Hresult {
    // SAFETY: by the contract.
    guard::result(|| check(&unsafe { string(path, "FilePath") }?))
}

/// Checks that a VM can use a file.
///
/// # Safety
/// Strings are null or have a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsGrantVmAccess(vm_id: Pcwstr, path: Pcwstr) -> Hresult {
    // SAFETY: by the contract.
    unsafe { of_vm(vm_id, path) }
}

/// Checks a file, and leaves it as it is.
///
/// # Safety
/// Strings are null or have a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsRevokeVmAccess(vm_id: Pcwstr, path: Pcwstr) -> Hresult {
    // SAFETY: by the contract.
    unsafe { of_vm(vm_id, path) }
}

/// Checks that VMs can use a file.
///
/// # Safety
/// `path` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsGrantVmGroupAccess(path: Pcwstr) -> Hresult {
    // SAFETY: by the contract.
    unsafe { of_group(path) }
}

/// Checks a file, and leaves it as it is.
///
/// # Safety
/// `path` is null or has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcsRevokeVmGroupAccess(path: Pcwstr) -> Hresult {
    // SAFETY: by the contract.
    unsafe { of_group(path) }
}
