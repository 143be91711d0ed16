//! Documents that go out: UTF-16 in memory that `LocalFree` takes back.

use std::ffi::c_void;

use serde_json::json;

use crate::error::{Failure, codes};
use crate::pointers::{Out, out};
use crate::strings::wide;
use crate::types::Pwstr;

/// A place for a document that may be null, set to null at once.
///
/// # Safety
/// Null, or valid for writes for the whole call.
pub(crate) unsafe fn place(result: *mut Pwstr) -> Option<Out<Pwstr>> {
    if result.is_null() {
        return None;
    }
    // SAFETY: by the contract.
    unsafe { out(result, "the place for the document", std::ptr::null_mut()) }.ok()
}

/// Puts a document where the caller wants one.
pub(crate) fn hand_out(document: Option<&str>, place: Option<&Out<Pwstr>>) -> Result<(), Failure> {
    let (Some(document), Some(place)) = (document, place) else {
        return Ok(());
    };
    let units = wide(document);
    // SAFETY: any size may be asked for.
    let memory: Pwstr = unsafe { libc::malloc(size_of_val(&*units)) }.cast();
    if memory.is_null() {
        return Err(Failure::new(
            codes::E_OUTOFMEMORY,
            "there is no memory for the result document",
        ));
    }
    // SAFETY: as many units as were asked for, in memory of its own, which malloc aligns for them.
    unsafe { memory.copy_from_nonoverlapping(units.as_ptr(), units.len()) };
    place.set(memory);
    Ok(())
}

/// `ResultError`: what is known of a failure.
pub(crate) fn of_failure(failure: &Failure) -> String {
    json!({ "Error": failure.code, "ErrorMessage": failure.text }).to_string()
}

/// Takes back a document. Returns null.
///
/// # Safety
/// Null, or a document of this library's, which nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn LocalFree(memory: *mut c_void) -> *mut c_void {
    // SAFETY: by the contract: from malloc, or null.
    unsafe { libc::free(memory) };
    std::ptr::null_mut()
}
