//! Whether mapped memory was lost. Set by a signal handler, so it is all atomics.

use crate::sync::atomic::AtomicUsize;

/// Set in the state once something was lost.
const LOST: usize = 1;

/// How many faults may turn out to be over when they are looked at. Several threads that meet one loss
/// bring one each; a file that shrinks and grows all the time, or one whose faults cannot be looked at,
/// must not keep a thread here for ever.
const MAX_EXCUSED: usize = 4096;

/// Whether memory was lost, for all the mappings that share it.
///
/// The state counts the times that losses were forgotten: a handler that is late, because its fault
/// was before that, changes nothing.
#[derive(Debug)]
pub(crate) struct Loss {
    state: AtomicUsize,
    excused: AtomicUsize,
}

impl Loss {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
            excused: AtomicUsize::new(0),
        }
    }

    /// Whether something was lost and not forgotten.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.load() & LOST != 0
    }

    /// What [`Loss::mark`] wants, from before the memory was looked at.
    pub(super) fn seen(&self) -> usize {
        self.state.load()
    }

    /// Notes a loss, unless losses have been forgotten since `seen`.
    pub(super) fn mark(&self, seen: usize) {
        // When it fails it is lost already, or the memory that was lost is nobody's any more.
        self.state.exchange(seen & !LOST, seen | LOST);
    }

    /// Whether a fault that is over may pass for none.
    pub(super) fn excuse(&self) -> bool {
        self.excused.increment() < MAX_EXCUSED
    }

    /// Forgets what was lost. The lost memory must have been replaced before, so that a handler that finds
    /// it still bad has looked at the state before this.
    pub(crate) fn forget(&self) {
        let mut seen = self.state.load();
        while !self.state.exchange(seen, (seen | LOST).wrapping_add(1)) {
            seen = self.state.load();
        }
        self.excused.store(0);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_late_mark_is_ignored() {
        let loss = Loss::new();
        let seen = loss.seen();
        loss.mark(seen);
        assert!(loss.is_lost());
        loss.mark(seen);
        loss.mark(loss.seen());
        assert!(loss.is_lost());
        loss.forget();
        assert!(!loss.is_lost());
        loss.mark(seen);
        loss.mark(seen | LOST);
        assert!(!loss.is_lost());
        loss.mark(loss.seen());
        assert!(loss.is_lost());
    }

    #[test]
    fn excuses_end() {
        let loss = Loss::new();
        let given = |loss: &Loss| (0..2 * MAX_EXCUSED).filter(|_| loss.excuse()).count();
        assert_eq!(given(&loss), MAX_EXCUSED);
        loss.forget();
        assert_eq!(given(&loss), MAX_EXCUSED);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::sync::atomic::AtomicBool;

    /// A handler at work while its memory is taken back and a next client comes.
    #[test]
    fn loom_a_loss_of_before_is_not_the_next_clients() {
        loom::model(|| {
            let loss = Arc::new(Loss::new());
            let bad = Arc::new(AtomicBool::new(true));
            let handler = thread::spawn({
                let (loss, bad) = (Arc::clone(&loss), Arc::clone(&bad));
                move || {
                    let seen = loss.seen();
                    if bad.load() {
                        loss.mark(seen);
                        bad.store(false);
                    }
                }
            });
            bad.store(false);
            loss.forget();
            assert!(!loss.is_lost());
            handler.join().expect("no panic");
            assert!(!loss.is_lost());
        });
    }

    /// Two threads that fault at once.
    #[test]
    fn loom_every_loss_is_seen() {
        loom::model(|| {
            let loss = Arc::new(Loss::new());
            let handlers = [0, 1].map(|_| {
                let loss = Arc::clone(&loss);
                thread::spawn(move || {
                    loss.mark(loss.seen());
                    assert!(loss.is_lost());
                })
            });
            for handler in handlers {
                handler.join().expect("no panic");
            }
            assert!(loss.is_lost());
        });
    }
}
