//! A value that many threads read without a lock and one replaces now and then, with the
//! promise that the replaced value has no reader left.
//!
//! That promise is what DMA_UNMAP needs: when it is answered, no copy into the old mapping may
//! be in flight. It is the sleepable kind of read-copy-update: readers announce
//! themselves in one of two counters; a writer swaps the value, then waits until each counter has
//! been seen at zero once, turning new readers to the other counter meanwhile so that a
//! steady stream of them cannot keep it waiting.

use std::fmt;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Spins before the writer starts to sleep: readers hold a value for one copy or one eventfd
/// write, so most waits end within these.
const SPINS_BEFORE_SLEEP: u32 = 1000;

/// See the module's documentation.
pub(crate) struct Published<T> {
    current: AtomicPtr<T>,
    /// The parity selects the counter new readers use.
    epoch: AtomicUsize,
    readers: [AtomicUsize; 2],
    writer: Mutex<()>,
}

impl<T: Send + Sync> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            current: AtomicPtr::new(Box::into_raw(Box::new(value))),
            epoch: AtomicUsize::new(0),
            readers: [AtomicUsize::new(0), AtomicUsize::new(0)],
            writer: Mutex::new(()),
        }
    }

    /// The current value. Keep the guard for one operation only and never call
    /// [`Published::replace`] while holding one: it would wait for itself.
    pub(crate) fn read(&self) -> Guard<'_, T> {
        let readers = &self.readers[self.epoch.load(Ordering::SeqCst) & 1];
        readers.fetch_add(1, Ordering::SeqCst);
        let value = self.current.load(Ordering::SeqCst);
        Guard {
            // SAFETY: `current` always points to a live box. A writer that swaps it out frees
            // it only after it saw both counters at zero, and ours was raised before the load.
            value: unsafe { &*value },
            readers,
        }
    }

    /// Replaces the value by what `change` makes of it and returns once nobody reads the old one.
    /// An error of `change` leaves everything as it is. Changes are serialized.
    pub(crate) fn replace<R, E>(
        &self,
        change: impl FnOnce(&T) -> Result<(T, R), E>,
    ) -> Result<R, E> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, result) = change(&self.read())?;
        let old = self
            .current
            .swap(Box::into_raw(Box::new(value)), Ordering::SeqCst);
        for _ in 0..2 {
            let epoch = self.epoch.fetch_add(1, Ordering::SeqCst);
            wait_for_zero(&self.readers[epoch & 1]);
        }
        // SAFETY: `old` came from `Box::into_raw`, was current until the swap above, which only
        // one writer at a time makes. A reader that loaded it had raised its counter before
        // the swap; each counter has been zero since, so every such reader is gone.
        drop(unsafe { Box::from_raw(old) });
        Ok(result)
    }
}

fn wait_for_zero(readers: &AtomicUsize) {
    let mut spins = 0;
    while readers.load(Ordering::SeqCst) != 0 {
        if spins < SPINS_BEFORE_SLEEP {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        let value = self.current.swap(ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: `value` came from `Box::into_raw` and `&mut self` proves that no guard is left.
        drop(unsafe { Box::from_raw(value) });
    }
}

impl<T: fmt::Debug + Send + Sync> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&*self.read()).finish()
    }
}

/// A borrowed [`Published`] value.
pub(crate) struct Guard<'a, T> {
    value: &'a T,
    readers: &'a AtomicUsize,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Says when it is dropped, so that a reader can see whether it reads a dead value.
    #[derive(Debug)]
    struct Canary {
        alive: Arc<AtomicBool>,
    }

    impl Canary {
        fn new() -> Self {
            Self {
                alive: Arc::new(AtomicBool::new(true)),
            }
        }
    }

    impl Drop for Canary {
        fn drop(&mut self) {
            self.alive.store(false, Ordering::SeqCst);
        }
    }

    #[test]
    fn readers_never_see_a_dead_value() {
        let published = Published::new(Canary::new());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let guard = published.read();
                        let alive = Arc::clone(&guard.alive);
                        for _ in 0..20 {
                            assert!(alive.load(Ordering::SeqCst));
                        }
                    }
                });
            }
            for _ in 0..2000 {
                published
                    .replace(|_| Ok::<_, Infallible>((Canary::new(), ())))
                    .unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn replace_waits_for_the_reader() {
        let published = Published::new(1);
        let replaced = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let guard = published.read();
            scope.spawn(|| {
                published
                    .replace(|old| Ok::<_, Infallible>((old + 1, ())))
                    .unwrap();
                replaced.store(true, Ordering::SeqCst);
            });
            // The new value is visible while the old one is still held.
            while *published.read() == 1 {
                std::thread::yield_now();
            }
            assert!(!replaced.load(Ordering::SeqCst));
            assert_eq!(*guard, 1);
            drop(guard);
        });
        assert!(replaced.load(Ordering::SeqCst));
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let published = Published::new(7);
        assert_eq!(published.replace(|_| Err::<(i32, ()), _>("no")), Err("no"));
        assert_eq!(*published.read(), 7);
    }
}
