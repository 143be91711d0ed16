//! A running QEMU: its serial lines, what it prints as errors, its control socket, its end.
//!
//! It dies with this process, and leaves no file behind. What a VM's states are is not known
//! here; `compute` keeps those.

mod log;
mod scratch;

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::time::Duration;

use crate::child;
use crate::error::doing;
use crate::locate::Qemu;
use crate::machine::Machine;
use crate::qmp::Qmp;
use crate::{Error, Result};

pub use log::LineReader;
use log::Log;
pub use scratch::Scratch;

/// How many of the last lines an error shows.
const SHOWN_LINES: usize = 12;

/// The name of the control socket in a guest's directory.
const QMP_SOCKET: &str = "qmp";

/// A QEMU that was started here; dropping it kills it and removes its directory.
pub struct RunningGuest {
    child: Child,
    input: Option<ChildStdin>,
    serial: Log,
    errors: Log,
    reader: LineReader,
    machine: Machine,
    scratch: Scratch,
}

impl RunningGuest {
    /// Starts QEMU. A machine without a QMP socket gets one in `scratch`; `scratch` lives as long
    /// as the guest, so its initramfs and sockets may lie there too.
    ///
    /// # Errors
    ///
    /// [`Error::Machine`] for a description that QEMU cannot take, [`Error::Io`] when it cannot be
    /// started. What QEMU itself finds wrong shows at its end: see [`RunningGuest::errors`].
    pub fn start(qemu: &Qemu, machine: Machine, scratch: Scratch) -> Result<Self> {
        let machine = match machine.qmp_socket() {
            Some(_) => machine,
            None => machine.qmp(scratch.path().join(QMP_SOCKET)),
        };
        let mut command = machine.command(qemu)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        tracing::debug!(?command, "starting QEMU");
        let mut child =
            child::spawn(command).map_err(doing(format!("starting {}", qemu.path().display())))?;
        let serial = Log::of(child.stdout.take());
        let errors = Log::of(child.stderr.take());
        let input = child.stdin.take();
        let reader = serial.reader();
        Ok(Self {
            child,
            input,
            serial,
            errors,
            reader,
            machine,
            scratch,
        })
    }

    /// The next line of the serial port that the predicate takes; lines before it are skipped.
    /// `what` says in an error what was expected.
    ///
    /// Needs [`Serial::Stdio`](crate::machine::Serial::Stdio), as all that reads lines here.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when it does not come within `limit`, [`Error::Ended`] when QEMU ends
    /// before; both show the last lines.
    pub fn expect_line(
        &mut self,
        what: &str,
        limit: Duration,
        mut takes: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        let deadline = crate::deadline::after(limit);
        loop {
            match self.reader.next(crate::deadline::left(deadline)) {
                log::Next::Line(line) if takes(&line) => return Ok(line),
                log::Next::Line(_) => {}
                log::Next::TimedOut => {
                    return Err(Error::TimedOut {
                        doing: what.to_owned(),
                        limit,
                        detail: self.last_seen(),
                    });
                }
                log::Next::Ended => return Err(self.ended(what)?),
            }
        }
    }

    /// The next line of the serial port; `None` when QEMU has ended and there is no more.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when none comes within `limit`.
    pub fn next_line(&mut self, limit: Duration) -> Result<Option<String>> {
        match self.reader.next(limit) {
            log::Next::Line(line) => Ok(Some(line)),
            log::Next::Ended => Ok(None),
            log::Next::TimedOut => Err(Error::TimedOut {
                doing: "a line of the serial port".to_owned(),
                limit,
                detail: self.last_seen(),
            }),
        }
    }

    /// A further reader of the serial port, from its first kept line, for another thread.
    #[must_use]
    pub fn serial(&self) -> LineReader {
        self.serial.reader()
    }

    /// All lines of the serial port that are still kept (the last 20,000).
    #[must_use]
    pub fn serial_lines(&self) -> Vec<String> {
        self.serial.lines()
    }

    /// What QEMU printed to its standard error so far, line by line. A QEMU that has nothing to
    /// complain about prints nothing; after [`RunningGuest::wait`] this is all it ever printed.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.errors.lines()
    }

    /// Waits until the first error line that the predicate takes; `None` when none came in time or
    /// QEMU ended without.
    pub fn wait_for_error(
        &self,
        limit: Duration,
        mut takes: impl FnMut(&str) -> bool,
    ) -> Option<String> {
        let deadline = crate::deadline::after(limit);
        let mut reader = self.errors.reader();
        loop {
            match reader.next(crate::deadline::left(deadline)) {
                log::Next::Line(line) if takes(&line) => return Some(line),
                log::Next::Line(_) => {}
                log::Next::TimedOut | log::Next::Ended => return None,
            }
        }
    }

    /// Sends bytes to the guest's serial port.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when QEMU has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        input
            .write_all(bytes)
            .and_then(|()| input.flush())
            .map_err(doing("writing to the guest's serial port"))
    }

    /// Connects to the control socket. QEMU serves one connection at a time.
    ///
    /// # Errors
    ///
    /// As [`Qmp::connect`]; [`Error::Ended`] with QEMU's words when it has ended.
    pub fn qmp(&mut self, limit: Duration) -> Result<Qmp> {
        const WHAT: &str = "connecting to its control socket";
        let Some(socket) = self.machine.qmp_socket() else {
            return Err(Error::Closed {
                doing: WHAT.to_owned(),
            });
        };
        let child = &mut self.child;
        match Qmp::connect_while(socket, limit, || matches!(child.try_wait(), Ok(None))) {
            Err(Error::Closed { .. }) => Err(self.ended(WHAT)?),
            result => result,
        }
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory of this guest's files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Whether QEMU still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until QEMU has ended and all it printed is here.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = "waiting for the end of QEMU";
        match child::wait_within(&mut self.child, limit).map_err(doing(what))? {
            Some(status) => {
                self.serial.drained();
                self.errors.drained();
                Ok(status)
            }
            None => Err(Error::TimedOut {
                doing: what.to_owned(),
                limit,
                detail: self.last_seen(),
            }),
        }
    }

    /// Kills QEMU at once (SIGKILL) and waits for its end; one that has ended already is left as
    /// it is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().map_err(doing("killing QEMU"))?;
        let status = self
            .child
            .wait()
            .map_err(doing("waiting for the end of QEMU"))?;
        self.serial.drained();
        self.errors.drained();
        Ok(status)
    }

    /// The last lines of both streams, for an error.
    fn last_seen(&self) -> String {
        let mut lines = self.serial.lines();
        lines.extend(
            self.errors
                .lines()
                .into_iter()
                .map(|line| format!("QEMU: {line}")),
        );
        let from = lines.len().saturating_sub(SHOWN_LINES);
        lines[from..].join("\n")
    }

    /// The error of a guest whose streams have ended; its process follows within a moment.
    fn ended(&mut self, what: &str) -> Result<Error> {
        const MOMENT: Duration = Duration::from_secs(30);
        let read = self.machine.uses_stdio();
        let status = if read || !self.is_running() {
            self.wait(MOMENT)?.to_string()
        } else {
            "its serial port is not read here".to_owned()
        };
        Ok(Error::Ended {
            doing: what.to_owned(),
            status,
            detail: self.last_seen(),
        })
    }
}

impl Drop for RunningGuest {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(%error, "QEMU was not killed");
        }
    }
}

impl fmt::Debug for RunningGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGuest")
            .field("pid", &self.pid())
            .field("directory", &self.directory())
            .finish_non_exhaustive()
    }
}
