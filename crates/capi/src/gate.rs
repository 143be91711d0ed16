//! What callbacks pass through: once it is closed, none runs and none will.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

thread_local! {
    /// How many callbacks that passed a gate this thread is inside.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Opens once, closes once.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: u32,
    closed: bool,
}

/// A callback may run as long as this is kept.
#[derive(Debug)]
pub(crate) struct Pass<'a>(&'a Gate);

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a callback in; `None` once it is closed.
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.running += 1;
        Some(Pass(self))
    }

    #[cfg(test)]
    fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Lets no callback in from now on, and waits for those that are inside; on a thread that is inside one itself it does
    /// not wait: it would be for itself, or for one that waits for it.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        if DEPTH.get() > 0 {
            return;
        }
        while state.running > 0 {
            state = self
                .idle
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Pass<'_> {
    pub(crate) fn run(&self, callback: impl FnOnce()) {
        DEPTH.set(DEPTH.get() + 1);
        callback();
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        if state.running == 0 {
            self.0.idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_closes_waits_for_who_is_inside() {
        let gate = Gate::default();
        let ended = AtomicBool::new(false);
        let (inside, is_inside) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let pass = gate.enter().unwrap();
                pass.run(|| {
                    inside.send(()).unwrap();
                    while !gate.is_closed() {
                        std::thread::yield_now();
                    }
                    ended.store(true, Ordering::SeqCst);
                });
            });
            is_inside.recv().unwrap();
            gate.close();
            assert!(ended.load(Ordering::SeqCst));
        });
        assert!(gate.enter().is_none());
    }

    #[test]
    fn who_closes_from_inside_does_not_wait() {
        let (gate, other) = (Gate::default(), Gate::default());
        let pass = gate.enter().unwrap();
        let _others = other.enter().unwrap();
        pass.run(|| {
            gate.close();
            other.close();
        });
    }
}
