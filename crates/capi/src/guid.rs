//! GUIDs, and their text.

use std::ffi::c_char;

use hdv::Uuid;

use crate::error::Failure;
use crate::guard;
use crate::pointers::{copied, out, text};
use crate::types::{Guid, Hresult};

/// `OPENHDV_GUID_TEXT_SIZE`: the characters and the terminating zero.
const TEXT_SIZE: usize = uuid_text_length() + 1;

const fn uuid_text_length() -> usize {
    "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx".len()
}

impl Guid {
    /// As Rust has it.
    #[must_use]
    pub const fn to_uuid(self) -> Uuid {
        Uuid::from_fields(self.data1, self.data2, self.data3, &self.data4)
    }

    /// As C has it.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        let (data1, data2, data3, data4) = uuid.as_fields();
        Self {
            data1,
            data2,
            data3,
            data4: *data4,
        }
    }
}

/// The GUID at `place`.
///
/// # Safety
/// Null, or valid for reads.
pub(crate) unsafe fn uuid(place: *const Guid, what: &str) -> Result<Uuid, Failure> {
    // SAFETY: by the contract.
    Ok(unsafe { copied(place, what) }?.to_uuid())
}

/// Writes a GUID as text.
///
/// # Safety
/// Pointers are null or valid, `buffer` for 37 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvFormatGuid(guid: *const Guid, buffer: *mut c_char) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let guid = unsafe { uuid(guid, "the GUID") }?;
        // SAFETY: by the contract.
        let buffer = unsafe {
            out(
                buffer.cast::<[u8; TEXT_SIZE]>(),
                "the buffer",
                [0; TEXT_SIZE],
            )
        }?;
        let mut text = [0; TEXT_SIZE];
        guid.hyphenated()
            .encode_lower(&mut text[..uuid_text_length()]);
        buffer.set(text);
        Ok(())
    })
}

/// Reads a GUID from text.
///
/// # Safety
/// Pointers are null or valid; `string` has a terminating zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvParseGuid(string: *const c_char, guid: *mut Guid) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let guid = unsafe { out(guid, "the place for the GUID", Guid::default()) }?;
        // SAFETY: by the contract.
        let string = unsafe { text(string, "the text") }?.to_string_lossy();
        let parsed = Uuid::try_parse(&string).map_err(|_| {
            Failure::argument(format!(
                "{string:?} is not a GUID: write it as xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, in \
                     hexadecimal, in braces or without"
            ))
        })?;
        guid.set(Guid::from_uuid(parsed));
        Ok(())
    })
}
