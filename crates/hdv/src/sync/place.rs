//! Where a thread announces what it reads, so that reading costs no locked instruction.
//!
//! Each thread has a place, which it alone writes and every writer looks through. An
//! announcement and the load after it must not change places, or a writer could miss the one
//! and the reader see the old value in the other. The fence for that costs as much as the
//! locked instruction that it saves; so the writer pays for both sides, with a system call that makes
//! every thread of the process pass a fence ([`fence_everywhere`]).
//!
//! Where the kernel has no such call, or there are no places left, a thread has none and counts
//! itself instead, as `published` does.

use super::atomic::AtomicPtr;

/// How many values one thread announces at a time.
const DEPTH: usize = if cfg!(loom) { 1 } else { 2 };

/// How many threads have a place at a time.
#[cfg(not(loom))]
const PLACES: usize = 1024;

/// What one thread reads. Alone on its cache lines, so that announcing disturbs nobody.
#[repr(align(128))]
pub(crate) struct Place([AtomicPtr<()>; DEPTH]);

impl Place {
    /// One of the calling thread's own that is free.
    pub(super) fn free(&self) -> Option<&AtomicPtr<()>> {
        self.0.iter().find(|announced| announced.load().is_null())
    }

    /// Whether `value` is announced here.
    pub(super) fn holds(&self, value: *mut ()) -> bool {
        self.0.iter().any(|announced| announced.load() == value)
    }
}

#[cfg(not(loom))]
mod registry {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use rustix::thread::{MembarrierCommand, membarrier};

    use super::{AtomicPtr, DEPTH, PLACES, Place};

    struct Entry {
        taken: AtomicBool,
        place: Place,
    }

    static ENTRIES: [Entry; PLACES] = [const {
        Entry {
            taken: AtomicBool::new(false),
            place: Place([const { AtomicPtr::null() }; DEPTH]),
        }
    }; PLACES];

    /// All places ever taken come before this.
    static USED: AtomicUsize = AtomicUsize::new(0);

    /// A thread's place, given back when the thread ends.
    struct Mine(Option<&'static Entry>);

    impl Mine {
        fn take() -> Self {
            if !fences_work() {
                return Self(None);
            }
            let index = ENTRIES
                .iter()
                .position(|entry| !entry.taken.swap(true, Ordering::SeqCst));
            if let Some(index) = index {
                USED.fetch_max(index + 1, Ordering::SeqCst);
            }
            Self(index.map(|index| &ENTRIES[index]))
        }
    }

    impl Drop for Mine {
        fn drop(&mut self) {
            if let Some(entry) = self.0 {
                entry.taken.store(false, Ordering::SeqCst);
            }
        }
    }

    thread_local! {
        static MINE: Mine = Mine::take();
    }

    /// Tells the kernel, once, that this process will ask for fences.
    fn fences_work() -> bool {
        static WORK: OnceLock<bool> = OnceLock::new();
        *WORK.get_or_init(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok())
    }

    /// The calling thread's place, if it has one.
    pub(crate) fn mine() -> Option<&'static Place> {
        MINE.try_with(|mine| mine.0)
            .ok()
            .flatten()
            .map(|entry| &entry.place)
    }

    /// Every place in which something can be announced.
    pub(crate) fn all() -> impl Iterator<Item = &'static Place> {
        ENTRIES[..USED.load(Ordering::SeqCst)]
            .iter()
            .map(|entry| &entry.place)
    }

    /// Returns when every running thread of this process has passed a fence.
    ///
    /// # Panics
    /// When the kernel no longer does what it promised: memory that somebody may read cannot be
    /// given back then.
    pub(crate) fn fence_everywhere() {
        if USED.load(Ordering::SeqCst) == 0 {
            return;
        }
        let fenced = membarrier(MembarrierCommand::PrivateExpedited)
            .or_else(|_| membarrier(MembarrierCommand::Global));
        assert!(fenced.is_ok(), "membarrier: {fenced:?}");
    }
}

/// One place; who uses it says so. The orders that fences forbid do not happen to loom's
/// sequentially consistent operations.
#[cfg(loom)]
mod registry {
    use super::{AtomicPtr, Place};

    loom::lazy_static! {
        static ref ONLY: Place = Place([AtomicPtr::new(std::ptr::null_mut())]);
    }

    loom::thread_local! {
        static OWNER: std::cell::Cell<bool> = std::cell::Cell::new(false);
    }

    /// Gives the place to the calling thread; one thread of a model does so.
    #[cfg(test)]
    pub(crate) fn take() {
        OWNER.with(|owner| owner.set(true));
    }

    pub(crate) fn mine() -> Option<&'static Place> {
        OWNER
            .try_with(std::cell::Cell::get)
            .unwrap_or(false)
            .then(|| &*ONLY)
    }

    pub(crate) fn all() -> impl Iterator<Item = &'static Place> {
        std::iter::once(&*ONLY)
    }

    pub(crate) fn fence_everywhere() {}
}

#[cfg(all(test, loom))]
pub(super) use registry::take;
pub(super) use registry::{all, fence_everywhere, mine};
