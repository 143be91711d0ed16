//! What a handle has heard from its worker, who waits for it, and who is told.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdv_control::{ControlError, ErrorKind, Link, LinkHandler};
use serde_json::Value;

use super::{Event, EventCallback, ExitStatus, ExitType};
use crate::error::codes;
use crate::protocol::handle;

#[derive(Default)]
struct State {
    /// All of them, in the order in which they came; at most one of each kind.
    heard: Vec<Event>,
    callback: Option<EventCallback>,
    /// What the callback is to be told.
    untold: VecDeque<Event>,
    /// The thread that tells.
    teller: bool,
    /// The handle is closed.
    closed: bool,
}

impl State {
    fn exit(&self) -> Option<ExitStatus> {
        self.heard.iter().find_map(|event| match event {
            Event::Exited(status) => Some(status.clone()),
            Event::Disconnected => None,
        })
    }

    fn disconnected(&self) -> bool {
        self.heard.contains(&Event::Disconnected)
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Events {
    state: Mutex<State>,
    changed: Condvar,
}

impl Events {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match until {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.changed.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn hear(&self, event: Event) {
        let mut state = self.state();
        let known = match &event {
            Event::Exited(_) => state.exit().is_some(),
            Event::Disconnected => state.disconnected(),
        };
        if known {
            return;
        }
        state.heard.push(event.clone());
        if state.callback.is_some() {
            state.untold.push_back(event);
        }
        self.changed.notify_all();
    }

    pub(super) fn wait_for_exit(&self, limit: Duration) -> Option<ExitStatus> {
        // Further away than clocks go is for ever.
        let until = Instant::now().checked_add(limit);
        let mut state = self.state();
        loop {
            if let Some(status) = state.exit() {
                return Some(status);
            }
            if state.disconnected() {
                return Some(ExitStatus {
                    status: codes::HCS_E_UNEXPECTED_EXIT,
                    exit_type: ExitType::UnexpectedExit,
                    detail: "the worker is gone, and the virtual machine with it".to_owned(),
                });
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return None;
            }
            state = self.wait(state, until);
        }
    }

    pub(super) fn set_callback(this: &Arc<Self>, callback: Option<EventCallback>) {
        let mut state = this.state();
        state.untold = if callback.is_some() {
            state.heard.iter().cloned().collect()
        } else {
            VecDeque::new()
        };
        let before = std::mem::replace(&mut state.callback, callback);
        if state.callback.is_some() && !state.teller {
            let events = Arc::clone(this);
            let teller = thread::Builder::new().name("hdv-events".to_owned());
            match teller.spawn(move || events.tell()) {
                Ok(_) => state.teller = true,
                Err(error) => tracing::error!(%error, "nobody can be told of events"),
            }
        }
        this.changed.notify_all();
        drop(state);
        // Outside the lock: it may be the last of something that uses the handle.
        drop(before);
    }

    /// The handle is closed: nobody is told of anything any more.
    pub(super) fn nobody_listens(&self) {
        let mut state = self.state();
        state.closed = true;
        state.untold.clear();
        let before = state.callback.take();
        self.changed.notify_all();
        drop(state);
        drop(before);
    }

    /// The telling thread's: until the handle is closed, or nothing can come any more.
    fn tell(&self) {
        let mut state = self.state();
        loop {
            if let Some(event) = state.untold.pop_front() {
                let callback = state.callback.clone();
                drop(state);
                if let Some(callback) = callback
                    && catch_unwind(AssertUnwindSafe(|| callback(&event))).is_err()
                {
                    tracing::error!(?event, "the callback for an event panicked");
                }
                state = self.state();
            } else if state.closed || state.disconnected() {
                // A callback that is set later starts another one.
                state.teller = false;
                return;
            } else {
                state = self.wait(state, None);
            }
        }
    }
}

/// The handle's end of its link: a worker calls nothing there.
pub(super) struct Listener {
    events: Arc<Events>,
}

impl Listener {
    pub(super) fn new(events: &Arc<Events>) -> Self {
        Self {
            events: Arc::clone(events),
        }
    }
}

impl LinkHandler for Listener {
    fn call(
        &self,
        _: &Link,
        command: &str,
        _: Value,
        _: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        let message = format!("a handle has no command {command:?}");
        Err(ControlError::new(ErrorKind::UnknownCommand, message))
    }

    fn notice(&self, _: &Link, name: &str, args: Value) {
        if name != handle::EXITED {
            tracing::debug!(name, "a worker told something that is not known here");
            return;
        }
        match serde_json::from_value(args) {
            Ok(status) => self.events.hear(Event::Exited(status)),
            Err(error) => tracing::warn!(%error, "a worker's exit status cannot be understood"),
        }
    }

    fn closed(&self, _: &Link) {
        self.events.hear(Event::Disconnected);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const GENEROUS: Duration = Duration::from_secs(60);

    fn exited() -> Event {
        Event::Exited(ExitStatus {
            status: 0,
            exit_type: ExitType::GracefulExit,
            detail: String::new(),
        })
    }

    fn listening(events: &Arc<Events>) -> mpsc::Receiver<Event> {
        let (tell, told) = mpsc::channel();
        let callback: EventCallback = Arc::new(move |event| tell.send(event.clone()).unwrap());
        Events::set_callback(events, Some(callback));
        told
    }

    #[test]
    fn each_callback_is_told_everything_once() {
        let events = Arc::new(Events::default());
        let first = listening(&events);
        events.hear(exited());
        events.hear(exited());
        assert_eq!(first.recv_timeout(GENEROUS).unwrap(), exited());
        let second = listening(&events);
        assert_eq!(second.recv_timeout(GENEROUS).unwrap(), exited());
        events.hear(Event::Disconnected);
        assert_eq!(second.recv_timeout(GENEROUS).unwrap(), Event::Disconnected);
        // Also one that comes when nothing can happen any more.
        let third = listening(&events);
        assert_eq!(third.recv_timeout(GENEROUS).unwrap(), exited());
        assert_eq!(third.recv_timeout(GENEROUS).unwrap(), Event::Disconnected);
        events.nobody_listens();
        // Callbacks that are no more have let go of their senders.
        assert!(first.recv().is_err());
        assert!(second.recv().is_err());
        assert!(third.recv().is_err());
    }

    #[test]
    fn a_closed_handle_tells_nobody_and_its_thread_ends() {
        let events = Arc::new(Events::default());
        let told = listening(&events);
        events.nobody_listens();
        events.hear(Event::Disconnected);
        assert!(told.recv().is_err());
        let deadline = Instant::now() + GENEROUS;
        while Arc::strong_count(&events) > 1 {
            assert!(Instant::now() < deadline, "the thread goes on");
            thread::yield_now();
        }
    }

    #[test]
    fn a_worker_that_goes_without_a_word_is_an_unexpected_exit() {
        let events = Arc::new(Events::default());
        assert_eq!(events.wait_for_exit(Duration::ZERO), None);
        assert_eq!(events.wait_for_exit(Duration::from_millis(5)), None);
        let waiting = Arc::clone(&events);
        let waiting = thread::spawn(move || waiting.wait_for_exit(Duration::MAX));
        events.hear(Event::Disconnected);
        let status = waiting.join().unwrap().unwrap();
        assert_eq!(status.exit_type, ExitType::UnexpectedExit);
        assert_eq!(status.status, codes::HCS_E_UNEXPECTED_EXIT);
    }

    #[test]
    fn an_exit_that_was_told_counts_more_than_the_end_of_the_connection() {
        let events = Arc::new(Events::default());
        events.hear(exited());
        events.hear(Event::Disconnected);
        let status = events.wait_for_exit(Duration::ZERO).unwrap();
        assert_eq!(Event::Exited(status), exited());
    }
}
