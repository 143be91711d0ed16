//! A value that many threads read without a lock and one replaces now and then, with the
//! promise that the replaced value has no reader left.
//!
//! That promise is what DMA_UNMAP needs: when it is answered, no copy into the old mapping may
//! be in flight. A reader announces the value in its thread's place (`place`) and looks whether
//! it still is the current one; a writer swaps the value, then waits until the old one is
//! announced nowhere.
//!
//! A reader without a free place takes the slower way, the sleepable kind of
//! read-copy-update: it counts itself in one of two counters, and the writer also waits until each
//! counter has been seen at zero once, turning new readers to the other counter meanwhile so
//! that a steady stream of them cannot keep it waiting.

use std::fmt;
use std::ops::Deref;
use std::ptr;
use std::sync::PoisonError;

use super::atomic::{AtomicPtr, AtomicUsize, Mutex, pause, spin};
use super::place;

/// Spins before the writer starts to sleep: readers hold a value for one copy or one eventfd
/// write, so most waits end within these.
const SPINS_BEFORE_SLEEP: u32 = if cfg!(loom) { 1 } else { 1000 };

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
        match place::mine().and_then(place::Place::free) {
            Some(place) => self.read_announced(place),
            None => self.read_counted(),
        }
    }

    fn read_announced(&self, place: &'static AtomicPtr<()>) -> Guard<'_, T> {
        let mut value = self.current.load();
        loop {
            place.announce(value.cast());
            let now = self.current.load();
            if now == value {
                break;
            }
            value = now;
        }
        Guard {
            // SAFETY: `current` always points to a live box. It was `value` after that was
            // announced, so a writer that swaps it out finds the announcement when it looks
            // through the places, and frees the box only when it is withdrawn.
            value: unsafe { &*value },
            held: Held::Announced(place),
        }
    }

    fn read_counted(&self) -> Guard<'_, T> {
        let readers = &self.readers[self.epoch.load() & 1];
        readers.increment();
        let value = self.current.load();
        Guard {
            // SAFETY: `current` always points to a live box. A writer that swaps it out frees
            // it only after it saw both counters at zero, and ours was raised before the load.
            value: unsafe { &*value },
            held: Held::Counted(readers),
        }
    }

    /// Replaces the value by what `change` makes of it and returns once nobody reads the old one.
    /// An error of `change` leaves everything as it is. Changes are serialized.
    pub(crate) fn replace<R, E>(
        &self,
        change: impl FnOnce(&T) -> Result<(T, R), E>,
    ) -> Result<R, E> {
        self.replace_helping(change, |_| {})
    }

    /// [`Published::replace`] for values whose readers may be stuck: `help` gets the old value again
    /// and again while the wait for its readers lasts, and must not block.
    pub(crate) fn replace_helping<R, E>(
        &self,
        change: impl FnOnce(&T) -> Result<(T, R), E>,
        help: impl Fn(&T),
    ) -> Result<R, E> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, result) = change(&self.read())?;
        let old = self.current.swap(Box::into_raw(Box::new(value)));
        let help = || {
            // SAFETY: as below, and it is freed only there.
            help(unsafe { &*old });
        };
        place::fence_everywhere();
        for place in place::all() {
            wait_until(|| !place.holds(old.cast()), help);
        }
        for _ in 0..2 {
            let epoch = self.epoch.increment();
            wait_until(|| self.readers[epoch & 1].load() == 0, help);
        }
        // A reader that loaded `old` had announced it, or raised its counter, before the swap; each
        // place has been without it and each counter zero since, so every such reader is gone.
        //
        // SAFETY: `old` came from `Box::into_raw` and was current until the swap above, which
        // only one writer at a time makes; nobody reads it any more.
        drop(unsafe { Box::from_raw(old) });
        Ok(result)
    }
}

fn wait_until(over: impl Fn() -> bool, help: impl Fn()) {
    let mut spins = 0;
    while !over() {
        if spins < SPINS_BEFORE_SLEEP {
            spins += 1;
            spin();
        } else {
            help();
            pause();
        }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        let value = self.current.swap(ptr::null_mut());
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
    held: Held<'a>,
}

/// How the writer knows of a reader.
enum Held<'a> {
    Announced(&'static AtomicPtr<()>),
    Counted(&'a AtomicUsize),
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        match self.held {
            Held::Announced(place) => place.withdraw(),
            Held::Counted(readers) => readers.decrement(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

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
    fn a_thread_that_reads_many_values_at_a_time_holds_each_of_them() {
        // More than a thread can announce, so that some are counted.
        let published = Published::new(1);
        let replaced = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mut guards: Vec<_> = (0..5).map(|_| published.read()).collect();
            scope.spawn(|| {
                published
                    .replace(|old| Ok::<_, Infallible>((old + 1, ())))
                    .unwrap();
                replaced.store(true, Ordering::SeqCst);
            });
            while *published.read() == 1 {
                std::thread::yield_now();
            }
            while let Some(guard) = guards.pop() {
                assert!(!replaced.load(Ordering::SeqCst));
                assert_eq!(*guard, 1);
            }
        });
        assert!(replaced.load(Ordering::SeqCst));
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

    #[test]
    fn a_stuck_reader_is_helped() {
        let published = Published::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let guard = published.read();
            scope.spawn(move || {
                while !guard.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            });
            published
                .replace_helping(
                    |_| Ok::<_, Infallible>((AtomicBool::new(false), ())),
                    |old| old.store(true, Ordering::SeqCst),
                )
                .unwrap();
        });
    }
}

/// Every order in which readers and writers can meet.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::convert::Infallible;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A value whose destruction loom can see collide with a reader.
    struct Watched(UnsafeCell<u32>);

    // SAFETY: every access is one that loom checks for races.
    unsafe impl Sync for Watched {}

    impl Watched {
        fn new(value: u32) -> Self {
            Self(UnsafeCell::new(value))
        }

        fn get(&self) -> u32 {
            // SAFETY: loom panics if this races with the write in `drop`.
            self.0.with(|value| unsafe { *value })
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            // SAFETY: loom panics if this races with the read in `get`.
            self.0.with_mut(|value| unsafe { *value = u32::MAX });
        }
    }

    fn replace(published: &Published<Watched>, by: u32) {
        let replaced = published.replace(|_| Ok::<_, Infallible>((Watched::new(by), ())));
        assert_eq!(replaced, Ok(()));
    }

    #[test]
    fn loom_a_reader_never_sees_a_dead_value() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let published = Arc::new(Published::new(Watched::new(0)));
            let reader = thread::spawn({
                let published = Arc::clone(&published);
                move || {
                    for _ in 0..2 {
                        let guard = published.read();
                        assert!(guard.get() <= 2);
                        assert!(guard.get() <= 2);
                    }
                }
            });
            replace(&published, 1);
            replace(&published, 2);
            assert_eq!(published.read().get(), 2);
            reader.join().expect("no panic");
        });
    }

    #[test]
    fn loom_a_reader_with_a_place_never_sees_a_dead_value() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let published = Arc::new(Published::new(Watched::new(0)));
            let reader = thread::spawn({
                let published = Arc::clone(&published);
                move || {
                    place::take();
                    for _ in 0..2 {
                        let outer = published.read();
                        // The place is taken: this one is counted.
                        let inner = published.read();
                        assert!(outer.get() <= inner.get() && inner.get() <= 2);
                        drop(outer);
                        assert!(inner.get() <= 2);
                    }
                }
            });
            replace(&published, 1);
            replace(&published, 2);
            assert_eq!(published.read().get(), 2);
            reader.join().expect("no panic");
        });
    }

    #[test]
    fn loom_two_writers_and_a_reader_with_a_place() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let published = Arc::new(Published::new(Watched::new(0)));
            let threads = [1, 2].map(|by| {
                let published = Arc::clone(&published);
                thread::spawn(move || replace(&published, by))
            });
            place::take();
            assert!(published.read().get() <= 2);
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert_ne!(published.read().get(), 0);
        });
    }

    #[test]
    fn loom_two_writers_and_a_reader() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let published = Arc::new(Published::new(Watched::new(0)));
            let threads = [1, 2].map(|by| {
                let published = Arc::clone(&published);
                thread::spawn(move || replace(&published, by))
            });
            assert!(published.read().get() <= 2);
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert_ne!(published.read().get(), 0);
        });
    }

    /// A value that is looked up in another, as a follower's memory is in its leader's: whoever replaces
    /// either of the two waits for a reader that has both.
    #[test]
    fn loom_a_reader_of_two_holds_both() {
        for taken in [false, true] {
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(3);
            model.check(move || {
                let leader = Arc::new(Published::new(Watched::new(0)));
                let follower = Arc::new(Published::new(Some(Arc::clone(&leader))));
                let done = Arc::new(AtomicUsize::new(0));
                let reader = thread::spawn({
                    let (follower, done) = (Arc::clone(&follower), Arc::clone(&done));
                    move || {
                        if taken {
                            place::take();
                        }
                        let follows = follower.read();
                        if let Some(leader) = &*follows {
                            let value = leader.read();
                            let (first, done) = (value.get(), done.load());
                            assert!(done == 0 || done == 1 && first == 1, "{done}: {first}");
                            assert_eq!(value.get(), first);
                        }
                    }
                });
                replace(&leader, 1);
                done.store(1);
                let ended = follower.replace(|_| Ok::<_, Infallible>((None, ())));
                assert_eq!(ended, Ok(()));
                done.store(2);
                reader.join().expect("no panic");
            });
        }
    }
}
