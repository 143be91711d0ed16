//! The errors of compute systems, and the result codes that cross sockets and the C interface with them.

use std::path::PathBuf;

use hdv_control::{CallError, ConnectError, ControlError, RuntimeDirectoryError};

use crate::document::DocumentError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Result codes of HCS, `HRESULT`s (`Win32::Foundation` of `windows-sys`).
pub mod codes {
    const fn code(value: u32) -> i32 {
        value.cast_signed()
    }

    /// The compute system is in the wrong state for what was asked.
    pub const HCS_E_INVALID_STATE: i32 = code(0x8037_0105);
    /// The compute system ended unexpectedly.
    pub const HCS_E_UNEXPECTED_EXIT: i32 = code(0x8037_0106);
    /// The compute system was terminated.
    pub const HCS_E_TERMINATED: i32 = code(0x8037_0107);
    /// The document is not what it should be.
    pub const HCS_E_INVALID_JSON: i32 = code(0x8037_010d);
    /// There is no such compute system.
    pub const HCS_E_SYSTEM_NOT_FOUND: i32 = code(0x8037_010e);
    /// A compute system of that id exists.
    pub const HCS_E_SYSTEM_ALREADY_EXISTS: i32 = code(0x8037_010f);
    /// The compute system has ended.
    pub const HCS_E_SYSTEM_ALREADY_STOPPED: i32 = code(0x8037_0110);
    /// The operation did not end in time.
    pub const HCS_E_OPERATION_TIMEOUT: i32 = code(0x8037_0118);
    /// The worker, or the connection to it, is gone (`HCS_E_SERVICE_DISCONNECT`).
    pub const HCS_E_SERVICE_DISCONNECT: i32 = code(0x8037_011e);
    /// An argument makes no sense.
    pub const E_INVALIDARG: i32 = code(0x8007_0057);
    /// Not allowed.
    pub const E_ACCESSDENIED: i32 = code(0x8007_0005);
    /// No such device.
    pub const NOT_FOUND: i32 = code(0x8007_0490);
    /// The instance id is in use.
    pub const ALREADY_EXISTS: i32 = code(0x8007_00b7);
    /// This thread would wait for itself.
    pub const POSSIBLE_DEADLOCK: i32 = code(0x8007_046b);
    /// Anything else.
    pub const E_FAIL: i32 = code(0x8000_4005);
}

/// Why a compute system could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The document is not what it should be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// There is no such compute system.
    #[error("there is no compute system {0:?}; `hdv ls` lists those that there are")]
    NotFound(String),
    /// A compute system of that id exists.
    #[error("a compute system {0:?} exists already; stop it (`hdv stop`), or choose another id")]
    AlreadyExists(String),
    /// The id cannot be one.
    #[error("{id:?} cannot be the id of a compute system: {reason}")]
    BadId {
        /// The id.
        id: String,
        /// Why not.
        reason: &'static str,
    },
    /// The worker's program was not found.
    #[error("the program openhdv-worker was not found: {}; `cargo xtask install` brings it, `cargo build -p openhdv-compute` builds it, OPENHDV_WORKER names it", tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoWorker {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The worker refused, or failed.
    #[error("{message}")]
    Refused {
        /// What was wrong and what to do.
        message: String,
        /// Its result code.
        code: i32,
    },
    /// The worker is gone.
    #[error("the worker of compute system {id:?} is gone: {reason}")]
    Gone {
        /// The compute system's id.
        id: String,
        /// What was seen of it.
        reason: String,
    },
    /// An answer did not come in time.
    #[error("{what} did not end within {seconds} s; it goes on")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The limit in seconds.
        seconds: u64,
    },
    /// Asked for from inside a callback of a device of that VM, which it would wait for.
    #[error(
        "{what} was asked for from inside a call into a device of compute system {id:?}, and would wait for it: do it from another thread"
    )]
    InsideCall {
        /// What was asked for.
        what: &'static str,
        /// The compute system's id.
        id: String,
    },
    /// This process cannot be a restricted device host: it was not started as one, or cannot lock itself in.
    #[error("{0}")]
    LockedOut(String),
    /// The runtime directory cannot be used.
    #[error(transparent)]
    RuntimeDirectory(#[from] RuntimeDirectoryError),
    /// The system refused an operation.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// Its result code, an `HRESULT`.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Document(_) => codes::HCS_E_INVALID_JSON,
            Self::NotFound(_) => codes::HCS_E_SYSTEM_NOT_FOUND,
            Self::AlreadyExists(_) => codes::HCS_E_SYSTEM_ALREADY_EXISTS,
            Self::BadId { .. } => codes::E_INVALIDARG,
            Self::Refused { code, .. } => *code,
            Self::Gone { .. } => codes::HCS_E_SERVICE_DISCONNECT,
            Self::TimedOut { .. } => codes::HCS_E_OPERATION_TIMEOUT,
            Self::InsideCall { .. } => codes::POSSIBLE_DEADLOCK,
            Self::LockedOut(_) => codes::E_ACCESSDENIED,
            Self::NoWorker { .. } | Self::RuntimeDirectory(_) | Self::Io { .. } => codes::E_FAIL,
        }
    }

    /// It, as it crosses a socket.
    pub(crate) fn to_control(&self) -> ControlError {
        ControlError::internal(self.to_string()).with_code(self.code())
    }

    /// What a call to the worker of `id` failed with.
    pub(crate) fn of_call(id: &str, what: &str, error: CallError) -> Self {
        match error {
            CallError::Command(error) => Self::Refused {
                code: error.code.unwrap_or(codes::E_FAIL),
                message: error.message,
            },
            CallError::TimedOut { patience, .. } => Self::TimedOut {
                what: format!("{what} of compute system {id:?}"),
                seconds: patience.as_secs(),
            },
            error => Self::Gone {
                id: id.to_owned(),
                reason: error.to_string(),
            },
        }
    }

    /// Why a worker could not be reached.
    pub(crate) fn of_connect(id: &str, error: &ConnectError) -> Self {
        Self::Gone {
            id: id.to_owned(),
            reason: error.to_string(),
        }
    }
}
