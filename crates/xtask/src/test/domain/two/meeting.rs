//! Where threads wait for each other, and what is noted once all of them do.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::test::Failure;

/// See the module's documentation.
pub(super) struct Meeting<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// How long one waits for the others.
    limit: Duration,
}

struct State<T> {
    attendees: usize,
    waiting: usize,
    /// Of each time that all have come.
    records: Vec<T>,
}

/// Who comes. Dropping it is leaving for good.
pub(super) struct Attendee<T>(Arc<Shared<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Meeting<T> {
    /// A meeting of nobody, whose attendees wait at most so long for each other.
    pub(super) fn new(limit: Duration) -> Self {
        let state = State {
            attendees: 0,
            waiting: 0,
            records: Vec::new(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            limit,
        }))
    }

    /// One more who is waited for.
    pub(super) fn attend(&self) -> Attendee<T> {
        self.0.lock().attendees += 1;
        Attendee(Arc::clone(&self.0))
    }

    /// What has been noted.
    pub(super) fn records(&self) -> Vec<T> {
        self.0.lock().records.clone()
    }
}

impl<T> Attendee<T> {
    /// Waits until all have come; the last one notes what `record` tells.
    ///
    /// # Errors
    /// Another has left or does not come; that of `record`, for the last one.
    pub(super) fn rest(&self, record: impl FnOnce() -> Result<T, Failure>) -> Result<(), Failure> {
        let mut state = self.0.lock();
        let (attendees, round) = (state.attendees, state.records.len());
        state.waiting += 1;
        if state.waiting == attendees {
            let recorded = record()?;
            state.waiting = 0;
            state.records.push(recorded);
            self.0.changed.notify_all();
            return Ok(());
        }
        let is_waiting =
            |state: &mut State<T>| state.records.len() == round && state.attendees == attendees;
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, self.0.limit, is_waiting);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.records.len() == round {
            return Err("the other guest has not come as far".into());
        }
        Ok(())
    }
}

impl<T> Drop for Attendee<T> {
    fn drop(&mut self) {
        self.0.lock().attendees -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn it_is_noted_when_all_have_come() {
        let meeting = Meeting::new(LIMIT);
        let attendees = [meeting.attend(), meeting.attend()];
        std::thread::scope(|scope| {
            for attendee in &attendees {
                scope.spawn(|| {
                    for round in 0..3 {
                        attendee.rest(|| Ok(round)).unwrap();
                    }
                });
            }
        });
        assert_eq!(meeting.records(), [0, 1, 2]);
    }

    #[test]
    fn nobody_waits_for_who_has_left() {
        let meeting = Meeting::new(LIMIT);
        let (stays, leaves) = (meeting.attend(), meeting.attend());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| stays.rest(|| Ok(())).is_err());
            while meeting.0.lock().waiting == 0 {
                std::thread::yield_now();
            }
            drop(leaves);
            assert!(waits.join().unwrap());
        });
        assert_eq!(meeting.records(), []);
    }
}
