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
    /// How many devices it may have; `None`, the default, is no limit.
    pub devices: Option<usize>,
    /// How many doorbells its devices may have, all together; `None`, the default, is no limit.
    pub doorbells: Option<usize>,
}

/// Devices of a restricted host.
const RESTRICTED_DEVICES: usize = 16;

/// Doorbells of a restricted host.
const RESTRICTED_DOORBELLS: usize = 256;

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
            devices: None,
            doorbells: None,
        }
    }

    /// For a host in a process without rights, which is reached through a broker: without a control socket, which the
    /// broker has for it, with at most 16 devices and 256 doorbells.
    #[must_use]
    pub fn restricted() -> Self {
        Self {
            control: false,
            devices: Some(RESTRICTED_DEVICES),
            doorbells: Some(RESTRICTED_DOORBELLS),
            ..Self::new()
        }
    }

    /// Sets [`HostOptions::poll`].
    #[must_use]
    pub fn poll(mut self, poll: Option<Duration>) -> Self {
        self.poll = poll;
        self
    }

    /// Sets [`HostOptions::devices`].
    #[must_use]
    pub fn devices(mut self, devices: Option<usize>) -> Self {
        self.devices = devices;
        self
    }

    /// Sets [`HostOptions::doorbells`].
    #[must_use]
    pub fn doorbells(mut self, doorbells: Option<usize>) -> Self {
        self.doorbells = doorbells;
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
