//! What is wrong with a document, and where.

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the document is wrong{}: {reason}", at(path))]
pub struct DocumentError {
    /// The place, as a path of names with slashes: `VirtualMachine/Devices/ComPorts/0/NamedPipe`; empty for the whole
    /// document.
    pub path: String,
    /// What is wrong there and what to do.
    pub reason: String,
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!(" at {path}")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_where_there_is_one() {
        let whole = DocumentError::new("", "it is missing").to_string();
        assert_eq!(whole, "the document is wrong: it is missing");
        let part = DocumentError::new("Owner", "it is missing").to_string();
        assert_eq!(part, "the document is wrong at Owner: it is missing");
    }
}
