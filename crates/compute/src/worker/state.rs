//! The states of a compute system: which operation may begin in which, and what comes of it. No I/O, no time.

use crate::document::State;

/// What takes a while and changes the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Start,
    Pause,
    Resume,
}

impl Operation {
    /// The end of a sentence that begins with "it cannot be".
    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Pause => "paused",
            Self::Resume => "resumed",
        }
    }
}

/// What does not change the state, and depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A press of the power button.
    ShutDown,
    /// A device is plugged in or out.
    Plug,
    /// A device host says something.
    Announce,
}

/// Why something cannot be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The system is in another state, described by the end of a sentence that begins with "it".
    Wrong(&'static str),
    /// It has ended, or is about to.
    Ended,
}

/// Where the system is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Created,
    Running,
    Paused,
    /// An operation is under way.
    During(Operation),
    /// It ends; the state that it had before.
    Ending(State),
    Stopped,
}

/// The life of a compute system.
#[derive(Debug)]
pub(super) struct Life {
    phase: Phase,
}

impl Life {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Created,
        }
    }

    /// What is shown: an operation that is under way has not changed anything yet.
    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Created | Phase::During(Operation::Start) => State::Created,
            Phase::Running | Phase::During(Operation::Pause) => State::Running,
            Phase::Paused | Phase::During(Operation::Resume) => State::Paused,
            Phase::Ending(before) => before,
            Phase::Stopped => State::Stopped,
        }
    }

    /// Begins an operation; no other may begin until it has finished.
    pub(super) fn begin(&mut self, operation: Operation) -> Result<(), Refusal> {
        let from = match operation {
            Operation::Start => Phase::Created,
            Operation::Pause => Phase::Running,
            Operation::Resume => Phase::Paused,
        };
        if self.phase != from {
            return Err(self.refusal());
        }
        self.phase = Phase::During(operation);
        Ok(())
    }

    /// An operation that has begun is over; false, and nothing happens, if the system ended meanwhile.
    pub(super) fn finish(&mut self, operation: Operation, is_done: bool) -> bool {
        if self.phase != Phase::During(operation) {
            return false;
        }
        self.phase = match (operation, is_done) {
            (Operation::Start, false) => Phase::Created,
            (Operation::Start | Operation::Resume, true) | (Operation::Pause, false) => {
                Phase::Running
            }
            (Operation::Pause, true) | (Operation::Resume, false) => Phase::Paused,
        };
        true
    }

    /// Whether an operation is under way.
    pub(super) fn is_during(&self, operation: Operation) -> bool {
        self.phase == Phase::During(operation)
    }

    /// Whether a request makes sense now.
    pub(super) fn allows(&self, request: Request) -> Result<(), Refusal> {
        let allowed = match (request, self.phase) {
            (_, Phase::Ending(_) | Phase::Stopped) => return Err(Refusal::Ended),
            (Request::Announce, _) | (_, Phase::Running) => true,
            (Request::Plug, Phase::Created | Phase::Paused) => true,
            (Request::ShutDown | Request::Plug, _) => false,
        };
        match (request, self.phase) {
            _ if allowed => Ok(()),
            (Request::ShutDown, Phase::Paused) => Err(Refusal::Wrong(
                "is paused; `hdv resume` it first, or `hdv stop --force`",
            )),
            _ => Err(self.refusal()),
        }
    }

    /// The end begins; false if it has already.
    pub(super) fn end(&mut self) -> bool {
        let ends = !self.has_ended();
        if ends {
            self.phase = Phase::Ending(self.state());
        }
        ends
    }

    /// Nothing is left of it.
    pub(super) fn stopped(&mut self) {
        self.phase = Phase::Stopped;
    }

    /// Whether it has ended, or is about to.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ending(_) | Phase::Stopped)
    }

    fn refusal(&self) -> Refusal {
        Refusal::Wrong(match self.phase {
            Phase::Created => "has not been started; `hdv start` it first",
            Phase::Running => "runs already",
            Phase::Paused => "is paused",
            Phase::During(Operation::Start) => "is being started",
            Phase::During(Operation::Pause) => "is being paused",
            Phase::During(Operation::Resume) => "is being resumed",
            Phase::Ending(_) | Phase::Stopped => return Refusal::Ended,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPERATIONS: [Operation; 3] = [Operation::Start, Operation::Pause, Operation::Resume];

    /// A life in each phase, with what it shows and what may be done: start, pause, resume, press the power button, plug.
    fn table() -> Vec<(Phase, State, [bool; 5])> {
        let during = |operation| Phase::During(operation);
        vec![
            (
                Phase::Created,
                State::Created,
                [true, false, false, false, true],
            ),
            (during(Operation::Start), State::Created, [false; 5]),
            (
                Phase::Running,
                State::Running,
                [false, true, false, true, true],
            ),
            (during(Operation::Pause), State::Running, [false; 5]),
            (
                Phase::Paused,
                State::Paused,
                [false, false, true, false, true],
            ),
            (during(Operation::Resume), State::Paused, [false; 5]),
            (Phase::Ending(State::Paused), State::Paused, [false; 5]),
            (Phase::Stopped, State::Stopped, [false; 5]),
        ]
    }

    #[test]
    fn what_is_allowed_when_is_the_table() {
        for (phase, state, allowed) in table() {
            let life = || Life { phase };
            assert_eq!(life().state(), state, "{phase:?}");
            let ended = matches!(phase, Phase::Ending(_) | Phase::Stopped);
            let check = |result: Result<(), Refusal>, allowed: bool, what: &str| {
                assert_eq!(result.is_ok(), allowed, "{what} in {phase:?}");
                if let Err(refusal) = result {
                    assert_eq!(refusal == Refusal::Ended, ended, "{what} in {phase:?}");
                }
            };
            for (operation, allowed) in OPERATIONS.into_iter().zip(allowed) {
                check(life().begin(operation), allowed, operation.done());
            }
            check(life().allows(Request::ShutDown), allowed[3], "shut down");
            check(life().allows(Request::Plug), allowed[4], "plug");
            check(life().allows(Request::Announce), !ended, "announce");
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin(Operation),
        Finish(Operation, bool),
        End,
    }

    fn step() -> impl Strategy<Value = Step> {
        let operation = || prop::sample::select(OPERATIONS.to_vec());
        prop_oneof![
            4 => operation().prop_map(Step::Begin),
            4 => (operation(), any::<bool>()).prop_map(|(operation, done)| Step::Finish(operation, done)),
            1 => Just(Step::End),
        ]
    }

    proptest! {
        #[test]
        fn one_operation_at_a_time_and_nothing_after_the_end(steps in prop::collection::vec(step(), 0..40)) {
            let mut life = Life::new();
            let mut under_way = None;
            let mut ended = false;
            for step in steps {
                let before = life.state();
                match step {
                    Step::Begin(operation) => {
                        let began = life.begin(operation).is_ok();
                        prop_assert!(!(began && (under_way.is_some() || ended)));
                        if began {
                            under_way = Some(operation);
                        }
                        // A beginning is not seen.
                        prop_assert_eq!(life.state(), before);
                    }
                    Step::Finish(operation, done) => {
                        let expected = under_way == Some(operation) && !ended;
                        prop_assert_eq!(life.finish(operation, done), expected);
                        if expected {
                            under_way = None;
                            // Undone, it is what it was.
                            prop_assert_eq!(life.state() == before, !done);
                        } else {
                            prop_assert_eq!(life.state(), before);
                        }
                    }
                    Step::End => {
                        prop_assert_eq!(life.end(), !ended);
                        ended = true;
                        prop_assert_eq!(life.state(), before);
                    }
                }
                prop_assert_eq!(life.has_ended(), ended);
                prop_assert!(OPERATIONS.iter().all(|operation| life.is_during(*operation) == (!ended && under_way == Some(*operation))));
            }
        }
    }
}
