//! Which addresses of this process are mapped files: entered and withdrawn under a lock, found
//! without one, since the finder is a signal handler.
//!
//! A handler needs one entry only, that of the mapping which its own thread was accessing when it was
//! interrupted. That one was complete before the access began and does not change before it ends, so it is
//! found whatever happens to the others meanwhile. Others may be half changed when the handler passes
//! them; each has a version, odd during a change, by which the handler knows an entry that changed
//! under its eyes and skips it: its own does not. An old entry for the same addresses, of a
//! mapping that is gone, is never found either: it was withdrawn before those addresses were mapped anew.

use std::array;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr as ChunkPtr, AtomicUsize as Count, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::Loss;
use crate::sync::atomic::{AtomicPtr, AtomicUsize};

/// Entries that are allocated at a time. They are never freed, only used again.
const CHUNK: usize = 512;

/// With this many chunks there are 4 Mi entries, beyond the 2 Mi of 256 devices with all the regions that
/// a client may have, each.
const MAX_CHUNKS: usize = 8192;

/// One mapping, or none.
pub(super) struct Entry {
    version: AtomicUsize,
    start: AtomicUsize,
    /// Exclusive; not above `start` when there is none.
    end: AtomicUsize,
    writeable: AtomicUsize,
    loss: AtomicPtr<Loss>,
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) writeable: bool,
    /// Valid as long as the mapping is registered.
    pub(super) loss: *const Loss,
}

impl Entry {
    fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            writeable: AtomicUsize::new(0),
            loss: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Only whoever has the entry calls this.
    fn set(&self, range: &Range<usize>, writeable: bool, loss: *const Loss) {
        self.version.increment();
        self.start.store(range.start);
        self.end.store(range.end);
        self.writeable.store(writeable.into());
        self.loss.swap(loss.cast_mut());
        self.version.increment();
    }

    /// As [`Entry::set`].
    fn clear(&self) {
        self.set(&(0..0), false, ptr::null());
    }

    fn find(&self, address: usize) -> Option<Found> {
        let version = self.version.load();
        if !version.is_multiple_of(2) {
            return None;
        }
        let range = self.start.load()..self.end.load();
        if !range.contains(&address) {
            return None;
        }
        let found = Found {
            range,
            writeable: self.writeable.load() != 0,
            loss: self.loss.load(),
        };
        (self.version.load() == version).then_some(found)
    }
}

type Chunk = [Entry; CHUNK];

static CHUNKS: [ChunkPtr<Chunk>; MAX_CHUNKS] =
    [const { ChunkPtr::new(ptr::null_mut()) }; MAX_CHUNKS];

/// How many of [`CHUNKS`] are there.
static USED: Count = Count::new(0);

/// Entries that nobody has.
static FREE: Mutex<Vec<&'static Entry>> = Mutex::new(Vec::new());

fn free() -> MutexGuard<'static, Vec<&'static Entry>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mapping that `address` is in, which the calling thread must be accessing. Async-signal-safe.
pub(super) fn find(address: usize) -> Option<Found> {
    CHUNKS[..USED.load(Ordering::Acquire)]
        .iter()
        .filter_map(|chunk| {
            // SAFETY: the pointers below `USED` were set, before `USED` was, to chunks that are
            // never freed.
            unsafe { chunk.load(Ordering::Acquire).as_ref() }
        })
        .flatten()
        .find_map(|entry| entry.find(address))
}

/// A mapping's place in the registry.
pub(crate) struct Registration {
    entry: &'static Entry,
    /// The entry points to it.
    _loss: Arc<Loss>,
}

impl Registration {
    /// # Errors
    /// `ENOMEM` when the registry is full.
    pub(super) fn new(
        range: Range<usize>,
        writeable: bool,
        loss: Arc<Loss>,
    ) -> Result<Self, Errno> {
        let mut free = free();
        let entry = match free.pop() {
            Some(entry) => entry,
            None => grow(&mut free)?,
        };
        drop(free);
        entry.set(&range, writeable, Arc::as_ptr(&loss));
        Ok(Self { entry, _loss: loss })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.entry.clear();
        free().push(self.entry);
    }
}

/// Makes further entries, one of them the caller's.
fn grow(free: &mut Vec<&'static Entry>) -> Result<&'static Entry, Errno> {
    // Only here, with the lock held, does it change.
    let used = USED.load(Ordering::Relaxed);
    let place = CHUNKS.get(used).ok_or(Errno::NOMEM)?;
    let chunk = Box::into_raw(Box::new(array::from_fn(|_| Entry::new())));
    place.store(chunk, Ordering::Release);
    USED.store(used + 1, Ordering::Release);
    // SAFETY: it came from a box just now and is never freed.
    let chunk: &'static Chunk = unsafe { &*chunk };
    let (mine, others) = chunk.split_first().ok_or(Errno::NOMEM)?;
    free.extend(others);
    Ok(mine)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Addresses that no process has mapped.
    const NOWHERE: usize = 1 << 60;

    fn register(index: usize, pages: usize, loss: &Arc<Loss>) -> Registration {
        let start = NOWHERE + index * 0x10_0000;
        let range = start..start + pages * 4096;
        Registration::new(range, index.is_multiple_of(2), Arc::clone(loss)).unwrap()
    }

    #[test]
    fn what_is_registered_is_found_until_it_is_withdrawn() {
        let losses: Vec<_> = (0..2 * CHUNK).map(|_| Arc::new(Loss::new())).collect();
        let mut registered: Vec<_> = losses
            .iter()
            .enumerate()
            .map(|(index, loss)| Some(register(index, 3, loss)))
            .collect();
        let check = |index: usize, there: bool| {
            let start = NOWHERE + index * 0x10_0000;
            let found = there.then(|| Found {
                range: start..start + 3 * 4096,
                writeable: index.is_multiple_of(2),
                loss: Arc::as_ptr(&losses[index]),
            });
            for address in [start, start + 1, start + 3 * 4096 - 1] {
                assert_eq!(find(address), found);
            }
            assert_eq!(find(start + 3 * 4096), None);
        };
        for index in 0..2 * CHUNK {
            check(index, true);
        }
        for index in (0..2 * CHUNK).step_by(3) {
            registered[index] = None;
        }
        for index in 0..2 * CHUNK {
            check(index, index % 3 != 0);
        }
        drop(registered);
        assert!(losses.iter().all(|loss| Arc::strong_count(loss) == 1));
    }

    #[test]
    fn entries_are_used_again() {
        let loss = Arc::new(Loss::new());
        drop(register(5000, 1, &loss));
        let before = USED.load(Ordering::Relaxed);
        for _ in 0..20 * CHUNK {
            drop(register(5000, 1, &loss));
        }
        // The other tests of this process register too.
        assert!(USED.load(Ordering::Relaxed) < before + 10);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn loss(number: usize) -> *const Loss {
        ptr::without_provenance(number)
    }

    /// A handler passes an entry that is withdrawn and used again meanwhile: it sees one mapping or
    /// the other or none, never the one's range with the other's rest.
    #[test]
    fn loom_an_entry_is_found_whole() {
        loom::model(|| {
            let entry = Arc::new(Entry::new());
            entry.set(&(16..32), false, loss(8));
            let handler = thread::spawn({
                let entry = Arc::clone(&entry);
                move || entry.find(24)
            });
            entry.clear();
            entry.set(&(8..32), true, loss(16));
            if let Some(found) = handler.join().expect("no panic") {
                assert!(
                    (found.range == (16..32) && !found.writeable && found.loss == loss(8))
                        || (found.range == (8..32) && found.writeable && found.loss == loss(16))
                );
            }
        });
    }

    /// The handler's own entry is found whatever its neighbour does.
    #[test]
    fn loom_the_own_entry_is_always_found() {
        loom::model(|| {
            let entries = Arc::new([Entry::new(), Entry::new()]);
            let handler = thread::spawn({
                let entries = Arc::clone(&entries);
                move || {
                    entries[1].set(&(16..32), true, loss(8));
                    let found = entries.iter().find_map(|entry| entry.find(24));
                    assert_eq!(found.expect("it is there").loss, loss(8));
                    entries[1].clear();
                }
            });
            // Those of a mapping elsewhere, with bounds that torn would enclose the other's.
            entries[0].set(&(0..8), false, loss(16));
            entries[0].set(&(40..48), false, loss(24));
            handler.join().expect("no panic");
        });
    }
}
