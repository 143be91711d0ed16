//! Whose something is: a child of a fork has copies of its parent's hosts and devices, and neither their threads
//! nor their sockets.

use crate::error::{Failure, codes};

/// The process that made something, by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    /// This one.
    pub(crate) fn this() -> Self {
        Self(std::process::id())
    }

    #[cfg(test)]
    pub(crate) fn another() -> Self {
        Self(std::process::id().wrapping_add(1))
    }

    pub(crate) fn is_this(self) -> bool {
        self.0 == std::process::id()
    }

    /// # Errors
    /// It is another one, so `what` is none of this one's.
    pub(crate) fn check(self, what: &str) -> Result<(), Failure> {
        if self.is_this() {
            return Ok(());
        }
        Err(Failure::new(
            codes::E_HANDLE,
            format!(
                "the {what} is of process {}, which forked this one: a child has none of its parent's \
                 threads; make device hosts after the fork",
                self.0
            ),
        ))
    }
}
