//! UTF-16 strings, with their terminating zero, from and to Rust's.

use crate::error::Failure;
use crate::types::Pcwstr;

/// The caller's array of strings, copied.
///
/// # Safety
/// `values` is null or an array of `count` pointers, each null or a string with a terminating zero.
pub(crate) unsafe fn strings(values: *const Pcwstr, count: u32) -> Result<Vec<String>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if values.is_null() {
        return Err(Failure::null("the array of values"));
    }
    (0..count as usize)
        .map(|index| {
            // SAFETY: within the array, by the contract.
            let value = unsafe { values.add(index).read_unaligned() };
            // SAFETY: by the contract.
            unsafe { string(value, &format!("value {index}")) }
        })
        .collect()
}

/// The caller's string, copied.
///
/// # Safety
/// Null, or a string with a terminating zero.
pub(crate) unsafe fn string(value: Pcwstr, what: &str) -> Result<String, Failure> {
    if value.is_null() {
        return Err(Failure::null(what));
    }
    let mut length = 0;
    // SAFETY: up to the terminating zero, by the contract.
    while unsafe { value.add(length).read_unaligned() } != 0 {
        length += 1;
    }
    // SAFETY: as above.
    let units = (0..length).map(|at| unsafe { value.add(at).read_unaligned() });
    char::decode_utf16(units)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::argument(format!("{what} is not UTF-16: {error}")))
}

/// The caller's string, copied; none if there is none, or nothing in it.
///
/// # Safety
/// As for [`string`].
pub(crate) unsafe fn optional_string(value: Pcwstr, what: &str) -> Result<Option<String>, Failure> {
    if value.is_null() {
        return Ok(None);
    }
    // SAFETY: by the contract.
    let text = unsafe { string(value, what) }?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

/// A text as UTF-16 with its terminating zero.
pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Strings as a callback gets them.
pub(crate) struct WideStrings {
    _texts: Vec<Vec<u16>>,
    /// One more than there are strings, so that the array is an array even if there are none.
    pointers: Vec<Pcwstr>,
}

impl WideStrings {
    pub(crate) fn new(values: &[String]) -> Self {
        let texts: Vec<Vec<u16>> = values.iter().map(|value| wide(value)).collect();
        let pointers = texts
            .iter()
            .map(Vec::as_ptr)
            .chain([std::ptr::null()])
            .collect();
        Self {
            _texts: texts,
            pointers,
        }
    }

    /// The array; valid as long as this is.
    pub(crate) fn as_ptr(&self) -> *const Pcwstr {
        self.pointers.as_ptr()
    }
}
