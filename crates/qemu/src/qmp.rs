//! QEMU's control socket: a small client of QMP (`docs/interop/qmp-spec.rst` of QEMU), every wait
//! with a limit.
//!
//! It sends commands and hands events over; what they mean for a VM is its user's to know. [`Qmp`] is for one thread,
//! [`Monitor`] for several.

mod monitor;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::deadline;
use crate::error::{at, doing};
use crate::version::Version;
use crate::{Error, Result};

pub use monitor::Monitor;

/// How long a command may take unless its caller says otherwise.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// The longest line that is taken from the socket.
const LINE_LIMIT: usize = 16 << 20;

/// The most events that are kept for a caller who does not ask for them; the oldest go first.
const EVENT_LIMIT: usize = 4096;

/// How much is read at once.
const READ_SIZE: usize = 16 << 10;

/// How often a socket that does not exist yet is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// Something that QEMU reported by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name, for example `DEVICE_DELETED`.
    pub name: String,
    /// Its data; an empty object when it has none.
    pub data: Value,
}

/// A connection to QEMU's control socket, ready for commands.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
    /// How much of `received` is known to have no line end.
    scanned: usize,
    events: VecDeque<Event>,
    last_id: u64,
    version: Version,
}

impl Qmp {
    /// Connects, waiting until the socket is there, and negotiates.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when it is not there or silent for `limit`, [`Error::Protocol`] when
    /// what answers is not QEMU.
    pub fn connect(socket: &Path, limit: Duration) -> Result<Self> {
        Self::connect_while(socket, limit, || true)
    }

    /// Like [`Qmp::connect`], given up with [`Error::Closed`] as soon as nobody is `alive` who
    /// could make the socket.
    ///
    /// # Errors
    ///
    /// As [`Qmp::connect`], and [`Error::Closed`].
    pub fn connect_while(
        socket: &Path,
        limit: Duration,
        mut alive: impl FnMut() -> bool,
    ) -> Result<Self> {
        let deadline = deadline::after(limit);
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                // QEMU makes the socket some time after it was started; nothing tells when.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::ConnectionRefused
                    ) =>
                {
                    let what = format!("connecting to QEMU at {}", socket.display());
                    if !alive() {
                        return Err(Error::Closed { doing: what });
                    }
                    let left = deadline::left(deadline);
                    if left.is_zero() {
                        return Err(timed_out(&what, limit));
                    }
                    thread::sleep(RETRY.min(left));
                }
                Err(error) => return Err(at("connecting to QEMU at", socket)(error)),
            }
        };
        Self::over(stream, deadline::left(deadline).max(RETRY))
    }

    /// Negotiates over a connected socket.
    ///
    /// # Errors
    ///
    /// As [`Qmp::connect`].
    pub fn over(stream: UnixStream, limit: Duration) -> Result<Self> {
        let version = Version::new(0, 0, 0);
        let mut qmp = Self {
            stream,
            received: Vec::new(),
            scanned: 0,
            events: VecDeque::new(),
            last_id: 0,
            version,
        };
        let what = "waiting for QEMU's greeting";
        let deadline = deadline::after(limit);
        let greeting = qmp
            .message(deadline)?
            .ok_or_else(|| timed_out(what, limit))?;
        let version = greeting.get("QMP").and_then(|qmp| qmp.get("version"));
        qmp.version = version
            .and_then(parse_version)
            .ok_or_else(|| Error::Protocol {
                reason: format!(
                    "the greeting has no version: {}",
                    Value::Object(greeting.clone())
                ),
            })?;
        qmp.execute_within(
            "qmp_capabilities",
            Value::Null,
            deadline::left(deadline).max(RETRY),
        )?;
        Ok(qmp)
    }

    /// QEMU's version, from its greeting.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Executes a command and gives its result. No arguments are `Value::Null`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when QEMU answers with an error, [`Error::TimedOut`] when it does not
    /// answer within [`DEFAULT_LIMIT`], [`Error::Closed`] when it hangs up instead.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.execute_within(command, arguments, DEFAULT_LIMIT)
    }

    /// Like [`Qmp::execute`], with a limit of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Qmp::execute`].
    pub fn execute_within(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value> {
        let what = || format!("answering {command}");
        let deadline = deadline::after(limit);
        self.last_id += 1;
        let id = self.last_id;
        self.stream
            .set_write_timeout(Some(limit.max(RETRY)))
            .map_err(doing("setting a limit on the control socket"))?;
        self.stream
            .write_all(format!("{}\n", request(command, arguments, id)).as_bytes())
            .map_err(|error| of_write(error, &what(), limit))?;
        loop {
            let message = match self.message(deadline) {
                Ok(Some(message)) => message,
                Ok(None) => return Err(timed_out(&what(), limit)),
                Err(Error::Closed { .. }) => return Err(Error::Closed { doing: what() }),
                Err(error) => return Err(error),
            };
            if let Some(event) = event(&message) {
                self.keep(event);
                continue;
            }
            // An answer that came after its command was given up.
            let stale = message
                .get("id")
                .and_then(Value::as_u64)
                .is_some_and(|answered| answered < id);
            if stale {
                continue;
            }
            return outcome(command, message);
        }
    }

    /// The next event, waiting at most `limit`; `None` when none came.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when QEMU hung up, [`Error::Protocol`] when it sent something else.
    pub fn next_event(&mut self, limit: Duration) -> Result<Option<Event>> {
        let deadline = deadline::after(limit);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.message(deadline)? {
                None => return Ok(None),
                // Anything else is an answer that came after its command was given up.
                Some(message) => self.events.extend(event(&message)),
            }
        }
    }

    /// Waits for an event of that name that `matches`; others that come before it are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when it does not come within `limit`, and as [`Qmp::next_event`].
    pub fn expect_event(
        &mut self,
        name: &str,
        limit: Duration,
        mut matches: impl FnMut(&Value) -> bool,
    ) -> Result<Event> {
        let deadline = deadline::after(limit);
        loop {
            match self.next_event(deadline::left(deadline))? {
                Some(event) if event.name == name && matches(&event.data) => return Ok(event),
                Some(_) => {}
                None => {
                    return Err(timed_out(
                        &format!("waiting for QEMU's event {name}"),
                        limit,
                    ));
                }
            }
        }
    }

    /// Resets the machine, as its reset button would.
    ///
    /// # Errors
    ///
    /// As [`Qmp::execute`].
    pub fn system_reset(&mut self) -> Result<()> {
        self.execute("system_reset", Value::Null).map(drop)
    }

    /// Ends QEMU. An end that comes before the answer is one too.
    ///
    /// # Errors
    ///
    /// As [`Qmp::execute`].
    pub fn quit(&mut self) -> Result<()> {
        match self.execute("quit", Value::Null) {
            Ok(_) | Err(Error::Closed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What `query-version` says.
    ///
    /// # Errors
    ///
    /// As [`Qmp::execute`].
    pub fn query_version(&mut self) -> Result<Version> {
        let result = self.execute("query-version", Value::Null)?;
        parse_version(&result).ok_or_else(|| Error::Protocol {
            reason: format!("no version: {result}"),
        })
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == EVENT_LIMIT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The next message; `None` when the deadline passed first. What of it had come stays.
    fn message(&mut self, deadline: Instant) -> Result<Option<Map<String, Value>>> {
        loop {
            if let Some(line) = self.line() {
                let text = line.trim_ascii();
                if text.is_empty() {
                    continue;
                }
                return match serde_json::from_slice(text) {
                    Ok(Value::Object(message)) => Ok(Some(message)),
                    Ok(other) => Err(Error::Protocol {
                        reason: format!("{other} is not an object"),
                    }),
                    Err(error) => Err(Error::Protocol {
                        reason: error.to_string(),
                    }),
                };
            }
            if self.received.len() > LINE_LIMIT {
                return Err(Error::Protocol {
                    reason: format!("a line is longer than {LINE_LIMIT} bytes"),
                });
            }
            if !self.receive(deadline)? {
                return Ok(None);
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.received[self.scanned..]
            .iter()
            .position(|byte| *byte == b'\n')
        else {
            self.scanned = self.received.len();
            return None;
        };
        let line = self.received.drain(..=self.scanned + end).collect();
        self.scanned = 0;
        Some(line)
    }

    /// Receives once; false when the deadline passed first.
    fn receive(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline::left(deadline);
        if left.is_zero() {
            return Ok(false);
        }
        self.stream
            .set_read_timeout(Some(left))
            .map_err(doing("setting a limit on the control socket"))?;
        let mut buffer = [0; READ_SIZE];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(closed()),
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            Err(error) => match error.kind() {
                // The deadline is looked at again: a limit may end a little early.
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(true),
                ErrorKind::ConnectionReset => Err(closed()),
                _ => Err(read_failed(error)),
            },
        }
    }
}

fn closed() -> Error {
    Error::Closed {
        doing: "waiting for a message".to_owned(),
    }
}

fn read_failed(error: io::Error) -> Error {
    doing("reading from QEMU's control socket")(error)
}

fn timed_out(doing: &str, limit: Duration) -> Error {
    Error::TimedOut {
        doing: doing.to_owned(),
        limit,
        detail: String::new(),
    }
}

fn request(command: &str, arguments: Value, id: u64) -> Value {
    let mut request = json!({"execute": command, "id": id});
    if !arguments.is_null() {
        request["arguments"] = arguments;
    }
    request
}

fn of_write(error: io::Error, what: &str, limit: Duration) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => timed_out(what, limit),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Closed {
            doing: what.to_owned(),
        },
        _ => doing(what.to_owned())(error),
    }
}

/// What an answer says.
fn outcome(command: &str, mut answer: Map<String, Value>) -> Result<Value> {
    if let Some(result) = answer.remove("return") {
        return Ok(result);
    }
    let text = |error: &Value, name: &str| {
        error
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Err(match answer.get("error") {
        Some(error) => Error::Refused {
            command: command.to_owned(),
            class: text(error, "class"),
            description: text(error, "desc"),
        },
        None => Error::Protocol {
            reason: format!("neither a result nor an event: {}", Value::Object(answer)),
        },
    })
}

fn event(message: &Map<String, Value>) -> Option<Event> {
    let name = message.get("event")?.as_str()?.to_owned();
    let data = message.get("data").cloned().unwrap_or_else(|| json!({}));
    Some(Event { name, data })
}

fn parse_version(value: &Value) -> Option<Version> {
    let numbers = value.get("qemu")?;
    let number = |name: &str| u32::try_from(numbers.get(name)?.as_u64()?).ok();
    Some(Version::new(
        number("major")?,
        number("minor")?,
        number("micro")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 3, "minor": 1, "major": 11}, "package": ""}, "capabilities": ["oob"]}}"#;
    pub(super) const LIMIT: Duration = Duration::from_secs(30);

    /// A peer that greets, takes the negotiation, and then answers each request with what
    /// `answer` makes of it; an empty answer ends it.
    pub(super) fn peer(answer: impl Fn(&Value) -> String + Send + 'static) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            writer
                .write_all(format!("{GREETING}\r\n").as_bytes())
                .unwrap();
            for line in BufReader::new(theirs).lines() {
                let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let text = match request["execute"].as_str() {
                    Some("qmp_capabilities") => {
                        format!("{}\n", json!({"return": {}, "id": request["id"]}))
                    }
                    _ => answer(&request),
                };
                if text.is_empty() {
                    return;
                }
                // In two pieces: a message need not come with one receive.
                let (head, tail) = text.as_bytes().split_at(text.len() / 2);
                writer.write_all(head).unwrap();
                writer.write_all(tail).unwrap();
            }
        });
        ours
    }

    #[test]
    fn results_errors_and_events_are_told_apart() {
        let stream = peer(|request| {
            let id = &request["id"];
            let event = r#"{"event": "RESET", "data": {"guest": false}, "timestamp": {"seconds": 1, "microseconds": 2}}"#;
            let answer = match request["execute"].as_str().unwrap() {
                "echo" => json!({"return": request["arguments"], "id": id}),
                other => json!({"error": {"class": "CommandNotFound", "desc": other}, "id": id}),
            };
            format!("{event}\r\n{answer}\r\n{{\"event\": \"STOP\"}}\r\n")
        });
        let mut qmp = Qmp::over(stream, LIMIT).unwrap();
        assert_eq!(qmp.version(), Version::new(11, 1, 3));
        assert_eq!(
            qmp.execute("echo", json!({"a": [1]})).unwrap(),
            json!({"a": [1]})
        );
        let error = qmp.execute("nonsense", Value::Null).unwrap_err();
        assert!(
            matches!(&error, Error::Refused { class, description, .. } if class == "CommandNotFound" && description == "nonsense")
        );
        assert_eq!(
            qmp.next_event(LIMIT).unwrap().unwrap(),
            Event {
                name: "RESET".into(),
                data: json!({"guest": false})
            }
        );
        assert_eq!(
            qmp.expect_event("RESET", LIMIT, |_| true).unwrap().name,
            "RESET"
        );
        assert_eq!(qmp.next_event(LIMIT).unwrap().unwrap().name, "STOP");
        assert_eq!(qmp.next_event(Duration::from_millis(1)).unwrap(), None);
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_ones() {
        let stream = peer(|request| match request["id"].as_u64().unwrap() {
            2 => " \n".to_owned(),
            id => format!(
                "{}\n{}\n",
                json!({"return": "late", "id": 2}),
                json!({"return": "right", "id": id})
            ),
        });
        let mut qmp = Qmp::over(stream, LIMIT).unwrap();
        let error = qmp
            .execute_within("slow", Value::Null, Duration::from_millis(20))
            .unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert_eq!(qmp.execute("fast", Value::Null).unwrap(), json!("right"));
    }

    #[test]
    fn an_end_is_an_error_except_where_it_was_asked_for() {
        let mut qmp = Qmp::over(peer(|_| String::new()), LIMIT).unwrap();
        let error = qmp.execute("query-status", Value::Null).unwrap_err();
        assert!(
            matches!(&error, Error::Closed { doing } if doing.contains("query-status")),
            "{error}"
        );
        assert!(
            Qmp::over(peer(|_| String::new()), LIMIT)
                .unwrap()
                .quit()
                .is_ok()
        );
    }

    #[test]
    fn what_is_not_qmp_is_refused() {
        for text in [
            "SSH-2.0-x\n",
            "[]\n",
            "{\"hello\": 1}\n",
            "{\"QMP\": {\"version\": {}}}\n",
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(text.as_bytes()).unwrap();
            let error = Qmp::over(ours, LIMIT).unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_socket_that_never_comes_and_one_that_is_silent_are_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let error =
            Qmp::connect(&directory.path().join("none"), Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = Qmp::over(ours, Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
}
