//! Interrupt vectors as eventfds: made, kept, waited for. Who signals them is told elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, read};

use super::{Error, Result};

/// Most vectors a driver may enable.
pub const VECTORS_MAX: u16 = 64;

/// The eventfds of the vectors in use.
#[derive(Debug, Default)]
pub struct Vectors {
    events: Mutex<Vec<Arc<OwnedFd>>>,
}

impl Vectors {
    /// Makes `count` eventfds, to be given to whoever signals them and then to
    /// [`Vectors::replace`].
    ///
    /// # Errors
    /// When there are more than [`VECTORS_MAX`] or the system has no more descriptors.
    pub fn make(count: u16) -> Result<Vec<Arc<OwnedFd>>> {
        if count > VECTORS_MAX {
            return Err(Error::Missing(format!(
                "{count} vectors are more than the {VECTORS_MAX} a driver may enable"
            )));
        }
        (0..count)
            .map(|_| {
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .map(Arc::new)
                    .map_err(|errno| Error::call("eventfd", errno))
            })
            .collect()
    }

    /// The eventfds in use are `events` from now on.
    pub fn replace(&self, events: Vec<Arc<OwnedFd>>) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = events;
    }

    /// Whether any vector is enabled.
    #[must_use]
    pub fn in_use(&self) -> bool {
        !self
            .events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// As [`super::Platform::wait`].
    ///
    /// # Errors
    /// When the vector is not enabled or the system call fails.
    pub fn wait(&self, vector: u16, limit: Duration) -> Result<u64> {
        let event = self
            .events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(usize::from(vector))
            .cloned()
            .ok_or_else(|| {
                Error::Missing(format!("vector {vector} is not enabled, so it cannot fire"))
            })?;
        wait_for(event.as_fd(), limit)
    }
}

fn wait_for(event: BorrowedFd<'_>, limit: Duration) -> Result<u64> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(left).map_err(|_| Error::call("poll", Errno::INVAL))?;
        match poll(
            &mut [PollFd::from_borrowed_fd(event, PollFlags::IN)],
            Some(&time),
        ) {
            Ok(0) => return Ok(0),
            Ok(_) => {
                let mut count = [0; 8];
                match read(event, &mut count) {
                    Ok(_) => return Ok(u64::from_ne_bytes(count)),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(errno) => return Err(Error::call("read of an eventfd", errno)),
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call("poll of an eventfd", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_until_waited_for() {
        let vectors = Vectors::default();
        let events = Vectors::make(2).unwrap();
        vectors.replace(events.clone());
        rustix::io::write(&*events[1], &3_u64.to_ne_bytes()).unwrap();
        assert_eq!(vectors.wait(1, Duration::from_secs(60)).unwrap(), 3);
        assert_eq!(vectors.wait(1, Duration::ZERO).unwrap(), 0);
        assert_eq!(vectors.wait(0, Duration::ZERO).unwrap(), 0);
        assert!(vectors.wait(2, Duration::ZERO).is_err());
        assert!(Vectors::make(VECTORS_MAX + 1).is_err());
    }
}
