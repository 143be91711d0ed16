//! The text of a thread's last error.

use std::ffi::c_char;

use crate::error::last;
use crate::guard;

/// How many bytes of `text`, at most `limit`, are whole characters.
fn whole_characters(text: &str, limit: usize) -> usize {
    (0..=limit.min(text.len()))
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0)
}

/// Copies the text of this thread's last failure; returns the size of all of it.
///
/// # Safety
/// `buffer` is null or valid for writes of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvGetLastErrorText(buffer: *mut c_char, size: usize) -> usize {
    guard::value(1, || {
        last(|text| {
            if !buffer.is_null() && size > 0 {
                let fits = whole_characters(text, size - 1);
                // SAFETY: valid for `size` bytes by the contract, of which these are fewer.
                unsafe {
                    buffer
                        .cast::<u8>()
                        .copy_from_nonoverlapping(text.as_ptr(), fits);
                    buffer.add(fits).write(0);
                }
            }
            text.len() + 1
        })
    })
}
