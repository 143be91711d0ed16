//! The errors that a worker answers with, as they cross its socket: a message for people and a result code.

use hdv_control::{ControlError, ErrorKind};

use super::state::{Operation, Refusal};
use crate::error::codes;

/// What a worker's operation gives.
pub(super) type Result<T, E = ControlError> = std::result::Result<T, E>;

/// An error with a code.
pub(super) fn refused(code: i32, message: impl Into<String>) -> ControlError {
    let kind = match code {
        codes::E_INVALIDARG | codes::HCS_E_INVALID_JSON => ErrorKind::BadArguments,
        codes::NOT_FOUND => ErrorKind::NotFound,
        codes::HCS_E_INVALID_STATE => ErrorKind::Busy,
        _ => ErrorKind::Internal,
    };
    ControlError::new(kind, message).with_code(code)
}

/// Why an operation may not begin.
pub(super) fn of_operation(id: &str, operation: Operation, refusal: Refusal) -> ControlError {
    of_state(id, &format!("be {}", operation.done()), refusal)
}

/// Why a compute system cannot do something now: the end of a sentence that begins with "it cannot".
pub(super) fn of_state(id: &str, what: &str, refusal: Refusal) -> ControlError {
    match refusal {
        Refusal::Wrong(state) => refused(
            codes::HCS_E_INVALID_STATE,
            format!("compute system {id:?} cannot {what}: it {state}"),
        ),
        Refusal::Ended => refused(
            codes::HCS_E_SYSTEM_ALREADY_STOPPED,
            format!("compute system {id:?} cannot {what}: it has ended"),
        ),
    }
}

/// The system ended while an operation was under way.
pub(super) fn ended_meanwhile(id: &str, what: &str) -> ControlError {
    refused(
        codes::HCS_E_TERMINATED,
        format!("compute system {id:?} ended while {what}"),
    )
}

/// What QEMU, or the way to it, failed with.
pub(super) fn of_qemu(error: &hdv_qemu::Error) -> ControlError {
    let code = match error {
        hdv_qemu::Error::TimedOut { .. } => codes::HCS_E_OPERATION_TIMEOUT,
        hdv_qemu::Error::Closed { .. } | hdv_qemu::Error::Ended { .. } => {
            codes::HCS_E_UNEXPECTED_EXIT
        }
        _ => codes::E_FAIL,
    };
    refused(code, error.to_string())
}
