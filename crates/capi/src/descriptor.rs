//! Handles that are descriptors: events, sections, and sockets to brokers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec, fcntl_getfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::error::{Failure, codes, system_code};
use crate::guard;
use crate::pointers::out;
use crate::types::{Handle, Hresult};

/// The descriptor that a handle is, if it is open. Not 0, which would be the null handle.
fn number(handle: Handle, what: &str) -> Result<RawFd, Failure> {
    let number = handle.addr().cast_signed();
    let open = |descriptor: &RawFd| {
        // SAFETY: only asked whether it is open; EBADF is an answer.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*descriptor) };
        fcntl_getfd(borrowed) != Err(Errno::BADF)
    };
    RawFd::try_from(number)
        .ok()
        .filter(|&descriptor| descriptor > 0)
        .filter(open)
        .ok_or_else(|| {
            Failure::new(
                codes::E_HANDLE,
                format!("{what} ({handle:p}) is not an open descriptor"),
            )
        })
}

/// Uses the descriptor that a handle is; it stays the caller's.
pub(crate) fn with(
    handle: Handle,
    what: &str,
    use_it: impl FnOnce(BorrowedFd<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let descriptor = number(handle, what)?;
    // SAFETY: it is open, and stays so during the call, unless the caller breaks its own handle meanwhile.
    use_it(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// A duplicate of the socket that a handle is; the handle stays the caller's.
pub(crate) fn socket(handle: Handle, what: &str) -> Result<UnixStream, Failure> {
    let mut duplicate = None;
    with(handle, what, |descriptor| {
        let connection = sockopt::socket_domain(descriptor) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(descriptor) == Ok(SocketType::STREAM);
        if !connection {
            return Err(Failure::argument(format!(
                "{what} is no Unix stream socket"
            )));
        }
        let copy = fcntl_dupfd_cloexec(descriptor, 3).map_err(refused("duplicating a socket"))?;
        duplicate = Some(UnixStream::from(copy));
        Ok(())
    })?;
    duplicate.ok_or_else(Failure::fault)
}

/// A descriptor of ours as a handle of the caller's.
pub(crate) fn into_handle(descriptor: OwnedFd) -> Result<Handle, Failure> {
    // 0 would be the null handle.
    let descriptor = if std::os::fd::AsRawFd::as_raw_fd(&descriptor) == 0 {
        fcntl_dupfd_cloexec(descriptor.as_fd(), 1).map_err(refused("duplicating a descriptor"))?
    } else {
        descriptor
    };
    let number = usize::try_from(descriptor.into_raw_fd())
        .map_err(|_| Failure::new(codes::E_FAIL, "the kernel gave a negative descriptor"))?;
    Ok(std::ptr::without_provenance_mut(number))
}

fn refused(doing: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| {
        let error = io::Error::from(errno);
        Failure::new(system_code(&error), format!("{doing}: {error}"))
    }
}

/// Creates an event.
///
/// # Safety
/// `event` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvCreateEvent(event: *mut Handle) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let event = unsafe { out(event, "Event", std::ptr::null_mut()) }?;
        let created = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(refused("creating an eventfd"))?;
        event.set(into_handle(created)?);
        Ok(())
    })
}

/// Creates a section.
///
/// # Safety
/// `section` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvCreateSection(byte_count: u64, section: *mut Handle) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let section = unsafe { out(section, "Section", std::ptr::null_mut()) }?;
        if byte_count == 0 || i64::try_from(byte_count).is_err() {
            return Err(Failure::argument(format!(
                "a section of {byte_count:#x} bytes cannot be"
            )));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let created =
            memfd_create("openhdv-section", flags).map_err(refused("creating a memfd"))?;
        ftruncate(&created, byte_count).map_err(refused("giving the memfd its size"))?;
        // A VMM that maps it gets the descriptor, and could end this process by making the file
        // smaller than what the device has mapped of it.
        let size = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&created, size).map_err(refused("sealing the memfd's size"))?;
        section.set(into_handle(created)?);
        Ok(())
    })
}

/// Closes an event or a section.
#[unsafe(no_mangle)]
pub extern "C" fn OpenHdvCloseHandle(handle: Handle) -> Hresult {
    guard::result(|| {
        let descriptor = number(handle, "the handle")?;
        // SAFETY: it is open, and the caller gives it away.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_a_section_cannot_change_its_size() {
        let mut section = std::ptr::null_mut();
        // SAFETY: the place is valid for writes.
        let result = unsafe { OpenHdvCreateSection(3, &raw mut section) };
        assert_eq!(result, codes::S_OK);
        let resized = |bytes| {
            with(section, "the section", |file| {
                ftruncate(file, bytes).map_err(refused("resizing"))
            })
        };
        assert!(resized(3).is_ok());
        for bytes in [0, 2, 4096] {
            assert_eq!(resized(bytes).unwrap_err().code, codes::E_ACCESSDENIED);
        }
        assert_eq!(OpenHdvCloseHandle(section), codes::S_OK);
        assert_eq!(OpenHdvCloseHandle(section), codes::E_HANDLE);
    }
}
