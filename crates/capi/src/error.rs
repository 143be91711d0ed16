//! What becomes a result code, and this thread's last error text. The codes are in `codes`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::io;

use hdv::{BindError, DeviceError, HostError, MemoryError, MmioError};
use hdv_sriov::PfError;

use crate::types::Hresult;

pub mod codes;

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

    /// A panic of ours.
    pub(crate) fn fault() -> Self {
        Self::new(
            codes::E_FAIL,
            "a fault of OpenHDV itself; what it printed on standard error says where: please report it",
        )
    }

    pub(crate) fn argument(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(codes::E_INVALIDARG, text)
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        let code = match &error {
            MemoryError::NotMapped(_) | MemoryError::Lost(_) => codes::INVALID_ADDRESS,
            MemoryError::NoMemory | MemoryError::NotBusMaster => codes::NOT_READY,
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
            MmioError::Limit { .. } => codes::E_ACCESSDENIED,
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
            HostError::Refused { code, .. } => code.unwrap_or(codes::E_FAIL),
            HostError::NoSuchInstance(_) => codes::NOT_FOUND,
            HostError::TooManyDevices { .. } => codes::E_ACCESSDENIED,
            HostError::InstanceExists(_) | HostError::AlreadyAttached | HostError::PoweredOn(_) => {
                codes::ALREADY_EXISTS
            }
            HostError::InsideCall => codes::POSSIBLE_DEADLOCK,
            _ => codes::E_FAIL,
        };
        Self::told(code, &error)
    }
}

impl From<hdv_compute::Error> for Failure {
    fn from(error: hdv_compute::Error) -> Self {
        let code = match &error {
            hdv_compute::Error::Io { source, .. } => system_code(source),
            error => error.code(),
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
        Some(Errno::NOENT) => codes::FILE_NOT_FOUND,
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
            (MmioError::Limit { limit: 1 }, codes::E_ACCESSDENIED),
            (MmioError::File(Errno::NODEV), codes::E_OUTOFMEMORY),
            (MmioError::Limit { limit: 1 }, codes::E_ACCESSDENIED),
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
            (
                HostError::Refused {
                    message: String::new(),
                    code: Some(-6),
                },
                -6,
            ),
            (
                HostError::TooManyDevices { limit: 1 },
                codes::E_ACCESSDENIED,
            ),
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
