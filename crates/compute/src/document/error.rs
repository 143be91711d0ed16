//! What is wrong with a document, and where.

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is wrong at {path}: {reason}")]
pub struct DocumentError {
    /// The place, as a path of names with slashes: `VirtualMachine/Devices/ComPorts/0/NamedPipe`; empty for the whole
    /// document.
    pub path: String,
    /// What is wrong there and what to do.
    pub reason: String,
}

impl DocumentError {
    /// An error at a place.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
