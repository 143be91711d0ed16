//! Result codes, what becomes one, and this thread's last error text.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::io;

use hdv::{BindError, DeviceError, HostError, MemoryError, MmioError};
use hdv_sriov::PfError;

use crate::types::Hresult;

/// The codes that the functions return.
pub mod codes {
    use crate::types::Hresult;

    const fn code(value: u32) -> Hresult {
        value.cast_signed()
    }

    /// A code of Windows as a result (`HRESULT_FROM_WIN32`).
    const fn win32(value: u16) -> Hresult {
        code(0x8007_0000 | value as u32)
    }

    /// Success.
    pub const S_OK: Hresult = 0;
    /// A COM object does not support an interface.
    pub const E_NOINTERFACE: Hresult = code(0x8000_4002);
    /// Null where a pointer is required.
    pub const E_POINTER: Hresult = code(0x8000_4003);
    /// Something unforeseen.
    pub const E_FAIL: Hresult = code(0x8000_4005);
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
    /// There is no such compute system.
    pub const HCS_E_SYSTEM_NOT_FOUND: Hresult = code(0x8037_010e);
}

/// Why a function fails: for programs and for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Hresult,
    pub(crate) text: Cow<'static, str>,
}

impl Failure {
    pub(crate) fn new(code: Hresult, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    fn told(code: Hresult, error: &impl Display) -> Self {
        Self::new(code, error.to_string())
    }

    pub(crate) fn null(what: &str) -> Self {
        Self::new(codes::E_POINTER, format!("{what} is null"))
    }

    pub(crate) fn argument(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(codes::E_INVALIDARG, text)
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        let code = match &error {
            MemoryError::NotMapped(_) | MemoryError::Lost(_) => codes::INVALID_ADDRESS,
            MemoryError::NoMemory => codes::NOT_READY,
            MemoryError::BadRange { .. } | MemoryError::Misaligned(_) => codes::E_INVALIDARG,
            MemoryError::NoDescriptor(_)
            | MemoryError::HugePages(_)
            | MemoryError::MappingFailed { .. } => codes::E_OUTOFMEMORY,
            MemoryError::Denied(_) => codes::E_ACCESSDENIED,
            MemoryError::ClientWaits(_) => codes::RETRY,
            _ => codes::E_FAIL,
        };
        Self::told(code, &error)
    }
}

impl From<MmioError> for Failure {
    fn from(error: MmioError) -> Self {
        let code = match &error {
            MmioError::Range { .. } => codes::E_INVALIDARG,
            MmioError::Taken { .. } => codes::ALREADY_EXISTS,
            MmioError::NotFound { .. } => codes::NOT_FOUND,
            MmioError::Mapped { .. } => codes::BUSY,
            MmioError::NotAnEvent | MmioError::Gone => codes::E_HANDLE,
            MmioError::File(_) => codes::E_OUTOFMEMORY,
            _ => codes::E_FAIL,
        };
        Self::told(code, &error)
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::told(error.code().unwrap_or(codes::E_FAIL), &error)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let code = match &error {
            HostError::Device(device) => device.code().unwrap_or(codes::E_FAIL),
            HostError::Config(_) => codes::E_INVALIDARG,
            HostError::Socket(bind) => socket_code(bind),
            HostError::System { source, .. } | HostError::Descriptors { source, .. } => {
                system_code(source)
            }
            HostError::NoSuchSystem(..) => codes::HCS_E_SYSTEM_NOT_FOUND,
            HostError::NoSuchDevice(_) | HostError::Closed => codes::E_HANDLE,
            HostError::InstanceExists(_) | HostError::AlreadyAttached => codes::ALREADY_EXISTS,
            HostError::InsideCall => codes::POSSIBLE_DEADLOCK,
            _ => codes::E_FAIL,
        };
        Self::told(code, &error)
    }
}

impl From<PfError> for Failure {
    fn from(error: PfError) -> Self {
        match error {
            PfError::Host(error) => error.into(),
            error => Self::told(codes::E_INVALIDARG, &error),
        }
    }
}

fn socket_code(error: &BindError) -> Hresult {
    match error {
        BindError::InUse { .. } | BindError::NotASocket { .. } => codes::ALREADY_EXISTS,
        BindError::NoDirectory { .. } => codes::HCS_E_SYSTEM_NOT_FOUND,
        BindError::NotPermitted { .. } => codes::E_ACCESSDENIED,
        BindError::PathTooLong { .. } => codes::E_INVALIDARG,
        _ => codes::E_FAIL,
    }
}

/// What the kernel refused.
pub(crate) fn system_code(error: &io::Error) -> Hresult {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::NOSPC) => codes::E_OUTOFMEMORY,
        Some(Errno::ACCESS | Errno::PERM) => codes::E_ACCESSDENIED,
        _ => codes::E_FAIL,
    }
}

thread_local! {
    static LAST: RefCell<Cow<'static, str>> = const { RefCell::new(Cow::Borrowed("")) };
}

/// Keeps the text of a failure for this thread.
pub(crate) fn remember(text: Cow<'static, str>) {
    // While the thread ends nobody asks any more.
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
}

/// Hands the text of this thread's last failure to `use_it`.
pub(crate) fn last<R>(use_it: impl FnOnce(&str) -> R) -> R {
    let text = LAST
        .try_with(|last| last.borrow().clone())
        .unwrap_or(Cow::Borrowed(""));
    use_it(&text)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use hdv::{BarIndex, GuestAddress, Uuid};
    use rustix::io::Errno;

    use super::*;

    fn code(failure: impl Into<Failure>) -> Hresult {
        failure.into().code
    }

    #[test]
    fn memory_errors_have_their_codes() {
        let address = GuestAddress(1);
        let pairs = [
            (MemoryError::NotMapped(address), codes::INVALID_ADDRESS),
            (MemoryError::Lost(address), codes::INVALID_ADDRESS),
            (MemoryError::NoMemory, codes::NOT_READY),
            (MemoryError::NoDescriptor(address), codes::E_OUTOFMEMORY),
            (MemoryError::HugePages(address), codes::E_OUTOFMEMORY),
            (MemoryError::Denied(address), codes::E_ACCESSDENIED),
            (MemoryError::ClientWaits(address), codes::RETRY),
            (
                MemoryError::BadRange { address, length: 0 },
                codes::E_INVALIDARG,
            ),
            (
                MemoryError::MappingFailed {
                    address,
                    reason: Errno::NOMEM,
                },
                codes::E_OUTOFMEMORY,
            ),
        ];
        for (error, expected) in pairs {
            assert_eq!(code(error), expected, "{error}");
        }
    }

    #[test]
    fn mmio_errors_have_their_codes() {
        let (bar, offset) = (BarIndex::BAR0, 0);
        let pairs = [
            (MmioError::Taken { bar, offset }, codes::ALREADY_EXISTS),
            (MmioError::NotFound { bar, offset }, codes::NOT_FOUND),
            (MmioError::Mapped { bar, offset }, codes::BUSY),
            (MmioError::NotAnEvent, codes::E_HANDLE),
            (MmioError::Gone, codes::E_HANDLE),
            (MmioError::File(Errno::NODEV), codes::E_OUTOFMEMORY),
        ];
        for (error, expected) in pairs {
            assert_eq!(code(error), expected, "{error}");
        }
    }

    #[test]
    fn host_errors_have_their_codes() {
        let failed = || DeviceError::new("as the test wants");
        let refused = |errno: Errno| HostError::System {
            what: "trying",
            source: errno.into(),
        };
        let pairs = [
            (HostError::Device(failed().with_code(-5)), -5),
            (HostError::Device(failed()), codes::E_FAIL),
            (
                HostError::NoSuchSystem(PathBuf::new(), String::new()),
                codes::HCS_E_SYSTEM_NOT_FOUND,
            ),
            (
                HostError::InstanceExists(Uuid::nil()),
                codes::ALREADY_EXISTS,
            ),
            (HostError::AlreadyAttached, codes::ALREADY_EXISTS),
            (HostError::InsideCall, codes::POSSIBLE_DEADLOCK),
            (HostError::Closed, codes::E_HANDLE),
            (refused(Errno::NOMEM), codes::E_OUTOFMEMORY),
            (refused(Errno::MFILE), codes::E_OUTOFMEMORY),
            (refused(Errno::ACCESS), codes::E_ACCESSDENIED),
            (refused(Errno::IO), codes::E_FAIL),
        ];
        for (error, expected) in pairs {
            let text = error.to_string();
            assert_eq!(code(error), expected, "{text}");
        }
    }
}
