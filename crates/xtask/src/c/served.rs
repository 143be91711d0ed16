//! A program that serves devices: it says what it serves, then `ready`, and ends on SIGTERM.
//!
//! It prints either `ready SOCKET` or a line `device NAME INSTANCE-ID SOCKET` for each device and then
//! `ready`; or it is the command, which prints `{"serving": [..]}` in JSON.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use hdv_qemu::child;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// The most lines that are kept of a program's output.
const LINES_KEPT: usize = 2000;

/// A device as its program announces it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ServedDevice {
    /// What the program calls it; empty when it has only one.
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
}

/// Why a program does not serve, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServedError {
    #[error("{program}: {source}")]
    Io { program: String, source: io::Error },
    #[error("{program} was not ready within {} s; it printed:\n{output}", limit.as_secs())]
    NotReady {
        program: String,
        limit: Duration,
        output: String,
    },
    #[error("{program} ended before it was ready; it printed:\n{output}")]
    Ended { program: String, output: String },
    #[error("{program} ended with {status}; it printed:\n{output}")]
    Failed {
        program: String,
        status: ExitStatus,
        output: String,
    },
    #[error("{program} did not end within {} s after SIGTERM; it printed:\n{output}", limit.as_secs())]
    Stuck {
        program: String,
        limit: Duration,
        output: String,
    },
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Served {
    program: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    devices: Vec<ServedDevice>,
}

impl Served {
    /// Starts a program and waits until it serves.
    pub(crate) fn start(mut command: Command, limit: Duration) -> Result<Self, ServedError> {
        let program = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = child::spawn(command).map_err(|source| ServedError::Io {
            program: program.clone(),
            source,
        })?;
        let (sender, lines) = mpsc::channel();
        for stream in [
            child.stdout.take().map(boxed),
            child.stderr.take().map(boxed),
        ]
        .into_iter()
        .flatten()
        {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        // The readers' are the only ones from now on, so that the program's end is heard.
        drop(sender);
        let mut served = Self {
            program,
            child,
            lines,
            seen: Vec::new(),
            devices: Vec::new(),
        };
        served.wait_until_ready(limit)?;
        Ok(served)
    }

    fn wait_until_ready(&mut self, limit: Duration) -> Result<(), ServedError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(ServedError::NotReady {
                        program: self.program.clone(),
                        limit,
                        output: self.output(),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ServedError::Ended {
                        program: self.program.clone(),
                        output: self.output(),
                    });
                }
            };
            let heard = hear(&line);
            self.keep(line);
            match heard {
                Heard::Device(device) => self.devices.push(device),
                Heard::Ready(devices) => {
                    self.devices.extend(devices);
                    return Ok(());
                }
                Heard::Other => {}
            }
        }
    }

    fn keep(&mut self, line: String) {
        if self.seen.len() < LINES_KEPT {
            self.seen.push(line);
        }
    }

    /// What it printed until it was ready, and what was read of it since.
    fn output(&self) -> String {
        self.seen.join("\n")
    }

    /// Its devices, in the order in which it named them.
    pub(crate) fn devices(&self) -> &[ServedDevice] {
        &self.devices
    }

    /// Asks it to end, and waits; everything it printed.
    pub(crate) fn end(mut self, limit: Duration) -> Result<String, ServedError> {
        let failed = |program: &str, source: io::Error| ServedError::Io {
            program: program.to_owned(),
            source,
        };
        // One that has ended by itself is told apart by its status.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let status = child::wait_within(&mut self.child, limit)
            .map_err(|error| failed(&self.program, error))?;
        let program = self.program.clone();
        let Some(status) = status else {
            while let Ok(line) = self.lines.try_recv() {
                self.keep(line);
            }
            return Err(ServedError::Stuck {
                program,
                limit,
                output: self.output(),
            });
        };
        while let Ok(line) = self.lines.recv_timeout(limit) {
            self.keep(line);
        }
        let output = self.output();
        if status.success() {
            Ok(output)
        } else {
            Err(ServedError::Failed {
                program,
                status,
                output,
            })
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn boxed(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Device(ServedDevice),
    Ready(Vec<ServedDevice>),
    Other,
}

/// What the command prints when it serves.
#[derive(Debug, Deserialize)]
struct Serving {
    serving: Vec<ServedDevice>,
}

fn hear(line: &str) -> Heard {
    if line == "ready" {
        return Heard::Ready(Vec::new());
    }
    if let Some(socket) = line.strip_prefix("ready ") {
        return Heard::Ready(vec![ServedDevice {
            name: String::new(),
            socket: socket.into(),
        }]);
    }
    if let Ok(Serving { serving }) = serde_json::from_str(line) {
        return Heard::Ready(serving);
    }
    // The path is the rest of the line, whatever is in it.
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("device"), Some(name), Some(_), Some(socket)) => Heard::Device(ServedDevice {
            name: name.to_owned(),
            socket: socket.into(),
        }),
        _ => Heard::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn devices_are_heard_until_ready_and_the_end_is_asked_for() {
        let served = Served::start(
            shell(
                "trap 'echo bye; exit 0' TERM; echo hello; echo device a 1-2 /tmp/x y.sock; echo ready; \
                 while :; do sleep 0.01; done",
            ),
            LIMIT,
        )
        .unwrap();
        let device = ServedDevice {
            name: "a".to_owned(),
            socket: "/tmp/x y.sock".into(),
        };
        assert_eq!(served.devices(), [device]);
        let output = served.end(LIMIT).unwrap();
        assert!(
            output.starts_with("hello\n") && output.ends_with("bye"),
            "{output}"
        );
    }

    #[test]
    fn a_single_device_is_named_with_ready() {
        let device = |name: &str| ServedDevice {
            name: name.to_owned(),
            socket: "/run/a b.sock".into(),
        };
        assert_eq!(hear("ready /run/a b.sock"), Heard::Ready(vec![device("")]));
        assert_eq!(
            hear(r#"{"serving":[{"name":"a","more":1,"socket":"/run/a b.sock"}]}"#),
            Heard::Ready(vec![device("a")])
        );
        assert_eq!(hear("{}"), Heard::Other);
        assert_eq!(hear("device a"), Heard::Other);
        assert_eq!(hear("readying"), Heard::Other);
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words() {
        let error = Served::start(shell("echo no device >&2; exit 3"), LIMIT).unwrap_err();
        assert!(matches!(error, ServedError::Ended { .. }), "{error}");
        assert!(error.to_string().contains("no device"), "{error}");
        let served = Served::start(
            shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"),
            LIMIT,
        )
        .unwrap();
        let error = served.end(LIMIT).unwrap_err();
        assert!(matches!(error, ServedError::Failed { .. }), "{error}");
    }
}
