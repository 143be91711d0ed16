//! From a text to a value of a type: JSON, then its shape, then its types; each step's errors with their place.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::DocumentError;
use super::limits::{MEMORY_MAXIMUM_MIB, MEMORY_MINIMUM_MIB, PROCESSORS_MAXIMUM, TEXT_LIMIT};
use super::shape::{Shape, StrictValue, compare, join};
use super::validate::{MEMORY_SIZE, PROCESSORS};

/// What serde says of a type that was expected, and what people call it.
const EXPECTED: [(&str, &str); 10] = [
    ("expected u16", "a whole number from 0 to 65535 is expected"),
    (
        "expected u32",
        "a whole number from 0 to 4294967295 is expected",
    ),
    ("expected a boolean", "true or false is expected"),
    ("expected a string", "a string is expected"),
    ("expected path string", "a string with a path is expected"),
    ("expected a sequence", "an array is expected"),
    ("expected a map", "an object is expected"),
    ("expected a UUID string", "a string with a GUID is expected"),
    ("expected string or map", "a string is expected"),
    ("expected struct ", "an object is expected: "),
];

/// How that begins for integers.
const INTEGER: &str = "expected u";
/// How it begins what it says of a string that is no GUID; a class id is the only one that there is.
const BAD_UUID: &str = "UUID parsing failed";

/// Reads a text of a shape.
///
/// # Errors
/// It is too long, not JSON, has what the shape has not, or is of another type.
pub(super) fn read<T: DeserializeOwned>(text: &str, shape: &Shape) -> Result<T, DocumentError> {
    if text.len() > TEXT_LIMIT {
        let reason = format!(
            "it has {} bytes and may have {TEXT_LIMIT}; make it shorter",
            text.len()
        );
        return Err(DocumentError::new("", reason));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let StrictValue(mut value) = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| DocumentError::new(place(error.path()), not_json(error.inner())))?;
    deserializer
        .end()
        .map_err(|error| DocumentError::new("", not_json(&error)))?;
    compare(&mut value, shape, "")?;
    serde_path_to_error::deserialize(value)
        .map_err(|error| mistyped(&place(error.path()), &error.inner().to_string()))
}

fn not_json(error: &serde_json::Error) -> String {
    format!("it is not proper JSON: {error}")
}

fn place(path: &Path) -> String {
    path.iter()
        .fold(String::new(), |path, segment| match segment {
            Segment::Seq { index } => join(&path, &index.to_string()),
            Segment::Map { key } => join(&path, key),
            Segment::Enum { .. } | Segment::Unknown => path,
        })
}

/// An error of serde's: it names what is missing, of the wrong type, or out of its range.
fn mistyped(path: &str, said: &str) -> DocumentError {
    let quoted = |text: &str| text.split('`').next().unwrap_or_default().to_owned();
    if let Some(missing) = said.strip_prefix("missing field `") {
        let reason = "it is missing and there is no default for it";
        return DocumentError::new(join(path, &quoted(missing)), reason);
    }
    if said.starts_with(BAD_UUID) {
        let reason = "it is no GUID; `hdv devices` lists the class ids of OpenHDV's devices";
        return DocumentError::new(path, reason);
    }
    let numbers = match path {
        MEMORY_SIZE => Some((MEMORY_MINIMUM_MIB, MEMORY_MAXIMUM_MIB)),
        PROCESSORS => Some((1, PROCESSORS_MAXIMUM.into())),
        _ => None,
    };
    let numbers =
        numbers.map(|(low, high)| format!("a whole number from {low} to {high} is expected"));
    let mut reason = said.to_owned();
    for (theirs, ours) in EXPECTED {
        if let Some(at) = reason.find(theirs) {
            let ours = match &numbers {
                Some(numbers) if theirs.starts_with(INTEGER) => numbers,
                _ => ours,
            };
            reason.replace_range(at..at + theirs.len(), ours);
            break;
        }
    }
    DocumentError::new(path, reason)
}
