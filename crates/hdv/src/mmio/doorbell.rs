//! Doorbells: which writes ring them, and what is rung.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hdv_pci::BarIndex;

use super::MmioError;
use super::allowance::Permit;
use crate::event;

/// How wide an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessSize {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
    /// 8 bytes.
    Qword,
}

impl AccessSize {
    /// Its width in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// The width of an access of 1, 2, 4 or 8 bytes.
    pub(super) fn of(bytes: u8) -> Option<Self> {
        [Self::Byte, Self::Word, Self::Dword, Self::Qword]
            .into_iter()
            .find(|size| size.bytes() == u64::from(bytes))
    }

    /// The bits of a value that an access of this width writes.
    const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// Which writes ring: those that begin at `offset` and match size and value.
///
/// Where several match one write, an exact value goes before any value, then an exact size before
/// any size. Only the best match rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Doorbell {
    /// Which BAR.
    pub bar: BarIndex,
    /// Offset in the BAR, in bytes; a multiple of `size`, if that is given.
    pub offset: u64,
    /// How wide the write must be; `None` for any width.
    pub size: Option<AccessSize>,
    /// The value written, zero-extended; `None` for any value. With a `size`, bits beyond it do not count.
    pub value: Option<u64>,
}

impl Doorbell {
    /// Without the bits of the value that do not count: two that ring for the same writes are equal.
    pub(super) fn normalized(mut self) -> Self {
        if let (Some(size), Some(value)) = (self.size, &mut self.value) {
            *value &= size.mask();
        }
        self
    }

    /// Whether it says size and value, so that no other at its offset can match the same write.
    pub(super) fn is_exact(&self) -> bool {
        self.size.is_some() && self.value.is_some()
    }
}

/// A duplicate of a device's eventfd.
#[derive(Debug)]
pub(super) struct Bell {
    event: Arc<OwnedFd>,
    /// A client has it too.
    given: AtomicBool,
    _permit: Option<Permit>,
}

impl Bell {
    pub(super) fn new(event: BorrowedFd<'_>, permit: Option<Permit>) -> Result<Self, MmioError> {
        if !event::is_event(event) {
            return Err(MmioError::NotAnEvent);
        }
        let event = rustix::io::fcntl_dupfd_cloexec(event, 0).map_err(MmioError::Descriptor)?;
        Ok(Self {
            event: Arc::new(event),
            given: AtomicBool::new(false),
            _permit: permit,
        })
    }

    pub(super) fn ring(&self) {
        // The device may have left it blocking, for a thread of its own. Only a client that has it
        // too can make it full, to hang the thread that serves it.
        if !self.given.load(Ordering::Relaxed) || !event::is_full(&*self.event) {
            event::signal(&*self.event);
        }
    }

    /// Frees a thread that hangs in [`Bell::ring`].
    pub(super) fn relieve(&self) {
        if self.given.load(Ordering::Relaxed) {
            event::relieve(self.event.as_fd());
        }
    }

    /// The eventfd, for a client.
    pub(super) fn give(&self) -> Arc<OwnedFd> {
        self.given.store(true, Ordering::Relaxed);
        Arc::clone(&self.event)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::OFlags;

    use super::*;

    #[test]
    fn values_count_as_far_as_the_size_goes() {
        let masked = |size, value| {
            Doorbell {
                bar: BarIndex::BAR0,
                offset: 0,
                size,
                value: Some(value),
            }
            .normalized()
            .value
        };
        let all = u64::MAX;
        assert_eq!(masked(Some(AccessSize::Byte), all), Some(0xff));
        assert_eq!(masked(Some(AccessSize::Word), all), Some(0xffff));
        assert_eq!(masked(Some(AccessSize::Dword), all), Some(0xffff_ffff));
        assert_eq!(masked(Some(AccessSize::Qword), all), Some(all));
        assert_eq!(masked(None, all), Some(all));
    }

    #[test]
    fn only_eventfds_are_taken_and_they_stay_as_they_are() {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let bell = Bell::new(event.as_fd(), None).unwrap();
        assert!(
            !rustix::fs::fcntl_getfl(&event)
                .unwrap()
                .contains(OFlags::NONBLOCK)
        );
        bell.ring();
        let mut count = [0; 8];
        rustix::io::read(&event, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
        let (read, _write) = rustix::pipe::pipe().unwrap();
        assert_eq!(
            Bell::new(read.as_fd(), None).unwrap_err(),
            MmioError::NotAnEvent
        );
    }

    #[test]
    fn a_client_that_fills_the_counter_does_not_hang_us() {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let bell = Bell::new(event.as_fd(), None).unwrap();
        let given = bell.give();
        rustix::io::write(&*given, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        bell.ring();
        // It can still come between the look and the write: as if it had.
        std::thread::scope(|scope| {
            let session = scope.spawn(|| event::signal(&event));
            while !session.is_finished() {
                bell.relieve();
                std::thread::yield_now();
            }
        });
    }
}
