//! The atomics of the lock-free parts: all of them sequentially consistent, so that an order is
//! nothing to choose (but for announcements, of which `place` tells), and exchanged for loom's when the crate is built with `--cfg loom`.
//!
//! loom treats sequentially consistent loads as acquiring ones and would find failures that
//! cannot happen. Under loom a load is therefore a read-modify-write that changes nothing, which sees the
//! latest value as a sequentially consistent load does when no other order is in use; a store is a
//! swap everywhere, which costs the same.

#[cfg(loom)]
use loom::sync::atomic;
use std::fmt;
#[cfg(not(loom))]
use std::sync::atomic;
use std::sync::atomic::Ordering::SeqCst;

#[cfg(loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::Mutex;

/// A flag.
pub(crate) struct AtomicBool(atomic::AtomicBool);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        Self(atomic::AtomicBool::new(value))
    }

    pub(crate) fn load(&self) -> bool {
        #[cfg(loom)]
        return self.0.fetch_or(false, SeqCst);
        #[cfg(not(loom))]
        self.0.load(SeqCst)
    }

    pub(crate) fn store(&self, value: bool) {
        self.0.swap(value, SeqCst);
    }
}

/// Bits.
pub(crate) struct AtomicU8(atomic::AtomicU8);

impl AtomicU8 {
    pub(crate) fn new(value: u8) -> Self {
        Self(atomic::AtomicU8::new(value))
    }

    pub(crate) fn load(&self) -> u8 {
        #[cfg(loom)]
        return self.0.fetch_or(0, SeqCst);
        #[cfg(not(loom))]
        self.0.load(SeqCst)
    }

    /// Keeps `keep`, sets `bits` and clears all others, in one step.
    pub(crate) fn reset(&self, keep: u8, bits: u8) {
        let mut seen = self.load();
        while let Err(now) = self
            .0
            .compare_exchange(seen, seen & keep | bits, SeqCst, SeqCst)
        {
            seen = now;
        }
    }

    /// Sets bits.
    pub(crate) fn set(&self, bits: u8) {
        self.0.fetch_or(bits, SeqCst);
    }

    /// Clears bits.
    pub(crate) fn clear(&self, bits: u8) {
        self.0.fetch_and(!bits, SeqCst);
    }

    /// Clears `bits` if all of them are set and none of `unless` is, in one step; whether it did.
    pub(crate) fn take(&self, bits: u8, unless: u8) -> bool {
        let mut seen = self.load();
        while seen & (bits | unless) == bits {
            match self.0.compare_exchange(seen, seen & !bits, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }
}

/// A counter.
pub(crate) struct AtomicUsize(atomic::AtomicUsize);

impl AtomicUsize {
    pub(crate) fn new(value: usize) -> Self {
        Self(atomic::AtomicUsize::new(value))
    }

    pub(crate) fn load(&self) -> usize {
        #[cfg(loom)]
        return self.0.fetch_or(0, SeqCst);
        #[cfg(not(loom))]
        self.0.load(SeqCst)
    }

    /// Adds one and returns what was there before; wraps.
    pub(crate) fn increment(&self) -> usize {
        self.0.fetch_add(1, SeqCst)
    }

    /// Subtracts one; wraps.
    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, SeqCst);
    }

    /// Stores a value.
    pub(crate) fn store(&self, value: usize) {
        self.0.swap(value, SeqCst);
    }

    /// Stores `new` if `old` is there; whether it was.
    pub(crate) fn exchange(&self, old: usize, new: usize) -> bool {
        self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
    }
}

impl fmt::Debug for AtomicUsize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtomicUsize")
    }
}

/// A pointer; whom it belongs to is its user's business.
pub(crate) struct AtomicPtr<T>(atomic::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    pub(crate) fn new(value: *mut T) -> Self {
        Self(atomic::AtomicPtr::new(value))
    }

    pub(crate) fn load(&self) -> *mut T {
        #[cfg(loom)]
        {
            let null = std::ptr::null_mut();
            return match self.0.compare_exchange(null, null, SeqCst, SeqCst) {
                Ok(value) | Err(value) => value,
            };
        }
        #[cfg(not(loom))]
        self.0.load(SeqCst)
    }

    /// No pointer.
    #[cfg(not(loom))]
    pub(crate) const fn null() -> Self {
        Self(atomic::AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Stores a pointer. For other threads this and the loads that follow are in order only once
    /// this thread has passed a fence of theirs (`place::fence_everywhere`).
    pub(crate) fn announce(&self, value: *mut T) {
        #[cfg(loom)]
        self.0.swap(value, SeqCst);
        #[cfg(not(loom))]
        {
            self.0.store(value, std::sync::atomic::Ordering::Release);
            std::sync::atomic::compiler_fence(SeqCst);
        }
    }

    /// Stores no pointer. What this thread did before has happened for who sees it.
    pub(crate) fn withdraw(&self) {
        self.0
            .store(std::ptr::null_mut(), std::sync::atomic::Ordering::Release);
    }

    /// Stores a pointer and returns the one that was there.
    pub(crate) fn swap(&self, value: *mut T) -> *mut T {
        self.0.swap(value, SeqCst)
    }
}

impl<T> fmt::Debug for AtomicPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtomicPtr")
    }
}

/// One turn of a short wait for another thread.
pub(crate) fn spin() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}

/// One turn of a longer wait for another thread.
pub(crate) fn pause() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::sleep(std::time::Duration::from_micros(50));
}
