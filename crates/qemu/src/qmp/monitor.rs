//! A control socket for several threads: commands from any of them, events as they come.
//!
//! One thread reads; each command waits for its own answer, with a limit.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::{Event, Qmp, event, of_write, outcome, request, timed_out};
use crate::deadline;
use crate::error::doing;
use crate::{Error, Result};

/// A control socket for several threads. Clones share it; it is closed when the last is dropped, or by QEMU.
///
/// QEMU carries commands out in the order in which they are sent.
#[derive(Clone)]
pub struct Monitor {
    closing: Arc<Closing>,
}

/// Closes the socket with the last [`Monitor`]: the reader has the rest.
struct Closing {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Mutex<Writer>,
    /// Somebody writes, who may have to wait for QEMU. Taken before the writer, which is free then.
    is_writing: Mutex<bool>,
    written: Condvar,
    waiting: Mutex<Waiting>,
    ended: Condvar,
}

struct Writer {
    stream: UnixStream,
    last_id: u64,
}

struct Waiting {
    /// Who waits for the answer to which command.
    answers: HashMap<u64, SyncSender<Map<String, Value>>>,
    is_ended: bool,
}

impl Monitor {
    /// Takes a negotiated connection. `events` gets every event in order, those first that came before, on the reading
    /// thread: it must not wait for a command.
    ///
    /// # Errors
    /// [`Error::Io`] when a thread or a descriptor cannot be had.
    pub fn start(mut qmp: Qmp, mut events: impl FnMut(Event) + Send + 'static) -> Result<Self> {
        let stream = qmp
            .stream
            .try_clone()
            .map_err(doing("duplicating the control socket"))?;
        let shared = Arc::new(Shared {
            writer: Mutex::new(Writer {
                stream,
                last_id: qmp.last_id,
            }),
            is_writing: Mutex::new(false),
            written: Condvar::new(),
            waiting: Mutex::new(Waiting {
                answers: HashMap::new(),
                is_ended: false,
            }),
            ended: Condvar::new(),
        });
        let reading = Arc::clone(&shared);
        thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || {
                let _end = End(&reading);
                for event in std::mem::take(&mut qmp.events) {
                    events(event);
                }
                reading.read(&mut qmp, &mut events);
            })
            .map_err(doing("starting the thread of the control socket"))?;
        Ok(Self {
            closing: Arc::new(Closing { shared }),
        })
    }

    /// Executes a command and gives its result. No arguments are `Value::Null`.
    ///
    /// # Errors
    /// As [`Qmp::execute_within`].
    pub fn execute(&self, command: &str, arguments: Value, limit: Duration) -> Result<Value> {
        let what = || format!("answering {command}");
        let deadline = deadline::after(limit);
        let shared = &self.closing.shared;
        let (sender, receiver) = mpsc::sync_channel(1);
        let id = {
            let turn = shared.turn(deadline);
            let _turn = turn.ok_or_else(|| timed_out(&what(), limit))?;
            let mut writer = shared.writer();
            writer.last_id += 1;
            let id = writer.last_id;
            {
                let mut waiting = shared.waiting();
                if waiting.is_ended {
                    return Err(Error::Closed { doing: what() });
                }
                waiting.answers.insert(id, sender);
            }
            let text = format!("{}\n", request(command, arguments, id));
            let written = writer
                .stream
                .set_write_timeout(Some(deadline::left(deadline).max(super::RETRY)))
                .and_then(|()| writer.stream.write_all(text.as_bytes()));
            if let Err(error) = written {
                shared.waiting().answers.remove(&id);
                // Part of it may have gone out: nothing that follows would be understood.
                let _ = writer.stream.shutdown(Shutdown::Both);
                return Err(of_write(error, &what(), limit));
            }
            id
        };
        match receiver.recv_timeout(deadline::left(deadline)) {
            Ok(answer) => outcome(command, answer),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Closed { doing: what() }),
            Err(RecvTimeoutError::Timeout) => {
                // An answer that came just now is as good as one in time.
                shared.waiting().answers.remove(&id);
                match receiver.try_recv() {
                    Ok(answer) => outcome(command, answer),
                    Err(_) => Err(timed_out(&what(), limit)),
                }
            }
        }
    }

    /// Waits until the connection has ended and every event was handed over; false when it has not within `limit`.
    #[must_use]
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let shared = &self.closing.shared;
        let waited = shared
            .ended
            .wait_timeout_while(shared.waiting(), limit, |waiting| !waiting.is_ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_ended
    }
}

/// The turn to write; it ends with this.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.is_writing() = false;
        self.0.written.notify_one();
    }
}

impl Shared {
    fn is_writing(&self) -> MutexGuard<'_, bool> {
        self.is_writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to write; `None` if it does not come in time.
    fn turn(&self, deadline: Instant) -> Option<Turn<'_>> {
        let left = deadline::left(deadline);
        let waited = self
            .written
            .wait_timeout_while(self.is_writing(), left, |is_writing| *is_writing);
        let mut is_writing = waited.unwrap_or_else(PoisonError::into_inner).0;
        // Not made, and dropped, for who has it not.
        (!std::mem::replace(&mut *is_writing, true)).then(|| Turn(self))
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, qmp: &mut Qmp, events: &mut impl FnMut(Event)) {
        loop {
            match qmp.message(deadline::after(Duration::MAX)) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    if let Some(event) = event(&message) {
                        events(event);
                        continue;
                    }
                    let id = message.get("id").and_then(Value::as_u64);
                    let waiting = id.and_then(|id| self.waiting().answers.remove(&id));
                    match waiting {
                        // Who waited may have given up just now.
                        Some(waiting) => drop(waiting.try_send(message)),
                        None => tracing::debug!(?id, "an answer that nobody waits for any more"),
                    }
                }
                Err(Error::Closed { .. }) => return,
                Err(error) => {
                    tracing::warn!(%error, "the control socket is given up");
                    return;
                }
            }
        }
    }
}

/// Marks the end, however the reading thread comes to it.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.is_ended = true;
        waiting.answers.clear();
        drop(waiting);
        self.0.ended.notify_all();
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.shared.writer().stream.shutdown(Shutdown::Both);
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("ended", &self.closing.shared.waiting().is_ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMIT, peer};
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_find_their_commands_whatever_their_order() {
        let held = Mutex::new(None::<String>);
        let stream = peer(move |request| {
            let answer = format!(
                "{}\n",
                json!({"return": request["execute"], "id": request["id"]})
            );
            let mut held = held.lock().unwrap();
            match held.take() {
                // Both at once, the later first.
                Some(earlier) => answer + &earlier,
                None => {
                    *held = Some(answer);
                    " \n".to_owned()
                }
            }
        });
        let monitor = Monitor::start(Qmp::over(stream, LIMIT).unwrap(), |_| {}).unwrap();
        thread::scope(|scope| {
            for command in ["one", "two"] {
                let monitor = &monitor;
                scope.spawn(move || {
                    assert_eq!(
                        monitor.execute(command, Value::Null, LIMIT).unwrap(),
                        command
                    );
                });
            }
        });
    }

    #[test]
    fn events_come_while_nobody_asks_and_the_end_fails_who_waits() {
        let stream = peer(|request| match request["execute"].as_str().unwrap() {
            "end" => String::new(),
            other => format!(
                "{{\"event\": \"{other}\"}}\n{}\n",
                json!({"error": {"class": "C", "desc": "D"}, "id": request["id"]})
            ),
        });
        let (sender, events) = mpsc::channel();
        let monitor = Monitor::start(Qmp::over(stream, LIMIT).unwrap(), move |event| {
            sender.send(event.name).unwrap();
        })
        .unwrap();
        let error = monitor.execute("STOP", Value::Null, LIMIT).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert_eq!(events.recv_timeout(LIMIT).unwrap(), "STOP");
        assert!(!monitor.wait_for_end(Duration::ZERO));
        let error = monitor.execute("end", Value::Null, LIMIT).unwrap_err();
        assert!(
            matches!(&error, Error::Closed { doing } if doing.contains("end")),
            "{error}"
        );
        assert!(monitor.wait_for_end(LIMIT));
        let error = monitor.execute("more", Value::Null, LIMIT).unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    }

    #[test]
    fn a_silent_peer_is_given_up_and_the_connection_goes_on() {
        let stream = peer(|request| match request["execute"].as_str().unwrap() {
            "silent" => " \n".to_owned(),
            _ => format!("{}\n", json!({"return": 7, "id": request["id"]})),
        });
        let monitor = Monitor::start(Qmp::over(stream, LIMIT).unwrap(), |_| {}).unwrap();
        let error = monitor
            .execute("silent", Value::Null, Duration::from_millis(20))
            .unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert_eq!(monitor.execute("next", Value::Null, LIMIT).unwrap(), 7);
    }

    #[test]
    fn the_limit_holds_while_another_writes() {
        let stream = peer(|request| format!("{}\n", json!({"return": 7, "id": request["id"]})));
        let monitor = Monitor::start(Qmp::over(stream, LIMIT).unwrap(), |_| {}).unwrap();
        let turn = monitor.closing.shared.turn(deadline::after(LIMIT)).unwrap();
        let error = monitor
            .execute("waits", Value::Null, Duration::from_millis(20))
            .unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        drop(turn);
        assert_eq!(monitor.execute("next", Value::Null, LIMIT).unwrap(), 7);
    }

    #[test]
    fn the_last_one_closes_the_connection() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let asked = thread::spawn(move || {
            let mut theirs = theirs;
            theirs
                .write_all(b"{\"QMP\": {\"version\": {\"qemu\": {\"major\": 1, \"minor\": 2, \"micro\": 3}}}}\n{\"return\": {}, \"id\": 1}\n")
                .unwrap();
            // Ends when the connection does.
            std::io::read_to_string(theirs).unwrap()
        });
        let monitor = Monitor::start(Qmp::over(ours, LIMIT).unwrap(), |_| {}).unwrap();
        drop(monitor.clone());
        assert!(!asked.is_finished());
        drop(monitor);
        assert!(asked.join().unwrap().contains("qmp_capabilities"));
    }
}
