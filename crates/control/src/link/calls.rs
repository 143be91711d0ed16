//! The calls of a link that are under way: ours, which wait for their answers, and the other end's, of which there are only
//! so many.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wire::Response;

/// Calls of the other end that are under way at a time; further ones are refused.
pub(super) const CALL_LIMIT: usize = 32;

/// Why a link has ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    kind: io::ErrorKind,
    reason: String,
}

impl End {
    pub(super) fn new(kind: io::ErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    pub(super) fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.reason.clone())
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// What a call of ours waits for.
pub(super) type Answered = Result<Response, End>;

#[derive(Default)]
struct State {
    last_id: u64,
    ours: HashMap<u64, Sender<Answered>>,
    theirs: HashSet<u64>,
    end: Option<End>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Calls {
    state: Mutex<State>,
}

/// Whether a call of the other end is carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    /// There are too many.
    Busy,
    /// A call of that id is under way.
    IdInUse,
}

impl Calls {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of ours: its id, and where its answer comes.
    pub(super) fn begin(&self) -> Result<(u64, Receiver<Answered>), End> {
        let mut state = self.state();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        let (answer, answered) = mpsc::channel();
        state.last_id = state.last_id.wrapping_add(1);
        let id = state.last_id;
        state.ours.insert(id, answer);
        Ok((id, answered))
    }

    /// Nobody waits for the answer to a call of ours any more.
    pub(super) fn forget(&self, id: u64) {
        self.state().ours.remove(&id);
    }

    /// An answer has come; one that nobody waits for is dropped.
    pub(super) fn answered(&self, id: u64, response: Response) {
        let waiting = self.state().ours.remove(&id);
        match waiting {
            // Who waited may have given up just now.
            Some(waiting) => drop(waiting.send(Ok(response))),
            None => tracing::debug!(id, "dropped an answer that nobody waits for"),
        }
    }

    /// A call of the other end has come.
    pub(super) fn admit(&self, id: u64) -> Admission {
        let mut state = self.state();
        if state.theirs.contains(&id) {
            Admission::IdInUse
        } else if state.theirs.len() >= CALL_LIMIT {
            Admission::Busy
        } else {
            state.theirs.insert(id);
            Admission::Admitted
        }
    }

    /// It is about to be answered.
    pub(super) fn done(&self, id: u64) {
        self.state().theirs.remove(&id);
    }

    /// The link has ended: calls of ours fail. Only the first reason counts.
    pub(super) fn end(&self, end: &End) {
        let waiting = {
            let mut state = self.state();
            if state.end.is_some() {
                return;
            }
            state.end = Some(end.clone());
            std::mem::take(&mut state.ours)
        };
        for waiting in waiting.into_values() {
            let _ = waiting.send(Err(end.clone()));
        }
    }

    /// Why the link has ended, if it has.
    pub(super) fn ended(&self) -> Option<End> {
        self.state().end.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_has_so_many_calls_and_no_id_twice() {
        let calls = Calls::default();
        for id in 0..CALL_LIMIT as u64 {
            assert_eq!(calls.admit(id), Admission::Admitted);
        }
        assert_eq!(calls.admit(5), Admission::IdInUse);
        assert_eq!(calls.admit(99), Admission::Busy);
        calls.done(5);
        assert_eq!(calls.admit(5), Admission::Admitted);
    }

    #[test]
    fn an_end_reaches_who_waits_and_who_comes_later_and_the_first_reason_stays() {
        let calls = Calls::default();
        let (_, answered) = calls.begin().unwrap();
        calls.end(&End::new(io::ErrorKind::TimedOut, "first"));
        calls.end(&End::new(io::ErrorKind::Other, "second"));
        assert_eq!(answered.recv().unwrap().unwrap_err().reason, "first");
        assert_eq!(calls.begin().unwrap_err().reason, "first");
        assert_eq!(calls.ended().unwrap().reason, "first");
    }
}
