//! Why a benchmark could not be made. A slow result is none of these.

use std::error::Error;

/// What was being done and what went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub(crate) struct BenchError {
    what: String,
    source: Box<dyn Error + Send + Sync>,
}

impl BenchError {
    pub(super) fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// Says what was being done when something failed.
pub(super) trait During<T> {
    fn during(self, what: &str) -> Result<T, BenchError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> During<T> for Result<T, E> {
    fn during(self, what: &str) -> Result<T, BenchError> {
        self.map_err(|error| BenchError::new(what, error))
    }
}
