//! `NTSTATUS`: why a function or routine of `pcivirt.h` fails, and the border of those functions.

use std::borrow::Cow;

use hdv_sriov::{AddressError, NtStatus, VirtualizationError};

use crate::error::{Failure, remember};
use crate::guard::value;
use crate::types::Ntstatus;

/// Not a live handle of that kind.
pub(crate) const INVALID_HANDLE: NtStatus = NtStatus(0xc000_0008);

/// Why a function fails: for programs and for people.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: NtStatus,
    text: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(status: NtStatus, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    pub(crate) fn null(what: &str) -> Self {
        Self::new(NtStatus::INVALID_PARAMETER, format!("{what} is null"))
    }

    /// A handle that names nothing of this process.
    pub(crate) fn handle(failure: Failure) -> Self {
        Self::new(INVALID_HANDLE, failure.text)
    }
}

impl From<VirtualizationError> for Refusal {
    fn from(error: VirtualizationError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl From<AddressError> for Refusal {
    fn from(error: AddressError) -> Self {
        Self::new(NtStatus::INVALID_PARAMETER, error.to_string())
    }
}

/// Runs the body of a function; a failure's text is kept for this thread, a panic is
/// `STATUS_UNSUCCESSFUL`.
pub(crate) fn status(body: impl FnOnce() -> Result<(), Refusal>) -> Ntstatus {
    let result = value(Err(fault()), body);
    let status = match result {
        Ok(()) => NtStatus::SUCCESS,
        Err(refusal) => {
            remember(refusal.text);
            refusal.status
        }
    };
    status.0.cast_signed()
}

/// As [`status`] for a routine that returns a number, 0 for a failure.
pub(crate) fn number(body: impl FnOnce() -> Result<u32, Refusal>) -> u32 {
    let result = value(Err(fault()), body);
    result.unwrap_or_else(|refusal| {
        remember(refusal.text);
        0
    })
}

fn fault() -> Refusal {
    Refusal::new(
        NtStatus::UNSUCCESSFUL,
        "a fault of OpenHDV itself; what it printed on standard error says where: please report it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::last;

    #[test]
    fn a_panic_is_a_failure_with_a_text() {
        let unsuccessful = NtStatus::UNSUCCESSFUL.0.cast_signed();
        assert_eq!(status(|| panic!("on purpose")), unsuccessful);
        last(|text| assert!(text.contains("fault of OpenHDV"), "{text}"));
        assert_eq!(number(|| panic!("on purpose")), 0);
    }

    #[test]
    fn a_refusal_keeps_its_status_and_text() {
        assert_eq!(status(|| Ok(())), 0);
        assert_eq!(number(|| Ok(7)), 7);
        let status = status(|| Err(Refusal::null("it")));
        assert_eq!(status.cast_unsigned(), 0xc000_000d);
        last(|text| assert_eq!(text, "it is null"));
        assert_eq!(number(|| Err(VirtualizationError::Gone.into())), 0);
        last(|text| assert_eq!(text, "the device is gone"));
    }
}
