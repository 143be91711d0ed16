//! How a host serves its devices.

use std::time::Duration;

/// How a host serves its devices.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostOptions {
    /// How long a session looks for the next message before it blocks; `None`, the default, is not at
    /// all. It costs a CPU for that long after each message and saves the wake-up, most of an access's
    /// time on two CPUs.
    pub poll: Option<Duration>,
    /// Answer on a control socket in the user's runtime directory, so that `hdv ls` finds this host;
    /// the default.
    pub control: bool,
}

/// As [`HostOptions::new`].
impl Default for HostOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl HostOptions {
    /// The defaults: blocking, with a control socket.
    #[must_use]
    pub fn new() -> Self {
        Self {
            poll: None,
            control: true,
        }
    }

    /// Sets [`HostOptions::poll`].
    #[must_use]
    pub fn poll(mut self, poll: Option<Duration>) -> Self {
        self.poll = poll;
        self
    }

    /// Sets [`HostOptions::control`].
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_new_gives() {
        let options = HostOptions::default();
        assert_eq!((options.poll, options.control), (None, true));
    }
}
