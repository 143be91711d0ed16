//! Processes without rights: how a broker starts one, and how it locks itself in.

use std::ffi::{OsStr, c_char};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use hdv_compute::{Broker, lock_in};

use crate::descriptor::into_handle;
use crate::error::Failure;
use crate::guard;
use crate::pointers::{out, text};
use crate::types::{Handle, Hresult};

/// Starts a program with nothing but its standard streams and a socket.
///
/// # Safety
/// Pointers are null or valid; `arguments` is an array of strings with terminating zeros, with a null at its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvSpawnRestricted(
    arguments: *const *const c_char,
    process_id: *mut u32,
    host_socket: *mut Handle,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let process_id = unsafe { out(process_id, "ProcessId", 0) }?;
        // SAFETY: by the contract.
        let host_socket = unsafe { out(host_socket, "HostSocket", std::ptr::null_mut()) }?;
        if arguments.is_null() {
            return Err(Failure::null("Arguments"));
        }
        // SAFETY: by the contract, here and below.
        let program = unsafe { text(arguments.read(), "Arguments[0]") }?;
        let mut command = Command::new(OsStr::from_bytes(program.to_bytes()));
        for index in 1.. {
            // SAFETY: up to the null at the end.
            let argument = unsafe { arguments.add(index).read() };
            if argument.is_null() {
                break;
            }
            // SAFETY: by the contract.
            let argument = unsafe { text(argument, "an argument") }?;
            command.arg(OsStr::from_bytes(argument.to_bytes()));
        }
        let (child, socket) = Broker::spawn(command)?;
        host_socket.set(into_handle(OwnedFd::from(socket))?);
        process_id.set(child.id());
        Ok(())
    })
}

/// Locks this process in, for good.
#[unsafe(no_mangle)]
pub extern "C" fn OpenHdvLockIn() -> Hresult {
    guard::result(|| Ok(lock_in()?))
}
