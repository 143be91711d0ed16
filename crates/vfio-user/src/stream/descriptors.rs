//! The descriptors of one message.

use std::os::fd::OwnedFd;

use crate::limits::MAX_MESSAGE_FDS;

/// The descriptors that came with one message, in order. They are closed with it, unless
/// taken.
#[derive(Debug, Default)]
pub struct Descriptors {
    fds: Vec<OwnedFd>,
    excess: bool,
}

impl Descriptors {
    /// No descriptors.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            fds: Vec::new(),
            excess: false,
        }
    }

    /// How many came, up to the limit.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fds.len()
    }

    /// Whether none came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fds.is_empty() && !self.excess
    }

    /// Whether some were lost: more than [`MAX_MESSAGE_FDS`] were sent, or this process could
    /// not open them. The message they came with cannot be carried out.
    #[must_use]
    pub fn excess(&self) -> bool {
        self.excess
    }

    /// Takes the descriptors.
    #[must_use]
    pub fn into_vec(self) -> Vec<OwnedFd> {
        self.fds
    }

    /// Adds descriptors; those above the limit are closed.
    pub(super) fn add(&mut self, fds: Vec<OwnedFd>, truncated: bool) {
        self.excess |= truncated;
        for fd in fds {
            if self.fds.len() < MAX_MESSAGE_FDS {
                self.fds.push(fd);
            } else {
                self.excess = true;
            }
        }
    }
}

impl From<Vec<OwnedFd>> for Descriptors {
    fn from(fds: Vec<OwnedFd>) -> Self {
        let mut descriptors = Self::none();
        descriptors.add(fds, false);
        descriptors
    }
}
