//! Pointers that come in: looked at once, here.

use std::ffi::{CStr, c_char};

use crate::error::Failure;

/// A place for a result, set to `initial` at once, so that a failure leaves no rubbish there.
///
/// # Safety
/// Null, or valid for writes of a `T` for the whole call.
pub(crate) unsafe fn out<T>(place: *mut T, what: &str, initial: T) -> Result<Out<T>, Failure> {
    if place.is_null() {
        return Err(Failure::null(what));
    }
    let out = Out(place);
    out.set(initial);
    Ok(out)
}

/// A place that has been checked.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub(crate) fn set(&self, value: T) {
        // SAFETY: valid for the whole call, by the contract of `out`, which is where this comes from.
        unsafe { self.0.write_unaligned(value) };
    }
}

/// A copy of what the caller points at.
///
/// # Safety
/// Null, or valid for reads of a `T`.
pub(crate) unsafe fn copied<T: Copy>(place: *const T, what: &str) -> Result<T, Failure> {
    if place.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: not null, so valid for reads by the caller's contract.
    Ok(unsafe { place.read_unaligned() })
}

/// A buffer of the caller's to read.
///
/// # Safety
/// Null, or valid for reads of `count` bytes as long as the result is used.
pub(crate) unsafe fn bytes<'a>(
    buffer: *const u8,
    count: usize,
    what: &str,
) -> Result<&'a [u8], Failure> {
    if buffer.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: by the contract.
    Ok(unsafe { std::slice::from_raw_parts(buffer, count) })
}

/// A buffer of the caller's to fill.
///
/// # Safety
/// Null, or valid for reads and writes of `count` bytes, and used by nobody else, as long as the result is.
pub(crate) unsafe fn bytes_mut<'a>(
    buffer: *mut u8,
    count: usize,
    what: &str,
) -> Result<&'a mut [u8], Failure> {
    if buffer.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: by the contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer, count) })
}

/// A string of the caller's, without its terminating zero.
///
/// # Safety
/// Null, or a string with a terminating zero, as long as the result is used.
pub(crate) unsafe fn text<'a>(string: *const c_char, what: &str) -> Result<&'a CStr, Failure> {
    if string.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: by the contract.
    Ok(unsafe { CStr::from_ptr(string) })
}
