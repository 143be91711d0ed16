//! The border itself: no panic of ours leaves a function, no exception of a caller's enters one.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Failure, codes, remember};
use crate::types::Hresult;

/// Runs the body of an exported function: its result as a code, a failure's text kept for this
/// thread, a panic as `E_FAIL`.
pub(crate) fn result(body: impl FnOnce() -> Result<(), Failure>) -> Hresult {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return codes::S_OK,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::fault(),
    };
    remember(failure.text);
    failure.code
}

/// As [`result`] for a function that returns something else; `fault` if it panicked.
pub(crate) fn value<R>(fault: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(fault)
}

/// Calls a function of somebody else's that is called `name`. An exception out of it ends the process,
/// and says so: there is nobody whom it could reach.
pub(crate) fn call_out<R>(name: &'static str, call: impl FnOnce() -> R) -> R {
    let armed = Armed(name);
    let result = call();
    std::mem::forget(armed);
    result
}

/// Dropped only while something unwinds through the frame.
struct Armed(&'static str);

impl Drop for Armed {
    fn drop(&mut self) {
        let _ = writeln!(
            std::io::stderr(),
            "openhdv: an exception left {}; it must be caught there, since no caller of it can \
             catch one: the process ends",
            self.0
        );
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::last;

    #[test]
    fn a_panic_is_a_failure_with_a_text() {
        assert_eq!(result(|| panic!("on purpose")), codes::E_FAIL);
        last(|text| assert!(text.contains("fault of OpenHDV"), "{text}"));
        assert_eq!(value(7, || panic!("on purpose")), 7);
    }

    #[test]
    fn a_failure_keeps_its_code_and_text() {
        assert_eq!(result(|| Ok(())), codes::S_OK);
        assert_eq!(result(|| Err(Failure::null("it"))), codes::E_POINTER);
        last(|text| assert_eq!(text, "it is null"));
    }
}
