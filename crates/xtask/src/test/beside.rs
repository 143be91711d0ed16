//! A step that runs beside those after it: this program again, at the lowest priority, with its output kept until they are done.
//!
//! Building and running fuzz targets takes processors for minutes, while guests mostly wait.

use std::fs::File;
use std::io::{self, Seek};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_current_process_group, nice, setsid};

use super::Failure;

/// Added to the niceness.
const NICENESS: i32 = 19;
/// Where Linux is told the niceness of a session: it shares processors out between sessions first.
const SESSION_NICENESS: &str = "/proc/self/autogroup";

/// A step that is under way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Beside {
    child: Child,
    /// The child ends itself, and what it has started, when this is closed, also by our being killed.
    lifeline: Option<ChildStdin>,
    output: File,
    begun: Instant,
}

impl Beside {
    /// Starts the test command with these arguments.
    pub(super) fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> io::Result<Self> {
        let output = tempfile::tempfile()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["test", "--beside"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn()?;
        Ok(Self {
            // Waiting for a child would close it.
            lifeline: child.stdin.take(),
            child,
            output,
            begun: Instant::now(),
        })
    }

    /// Waits until it has ended and prints what it has said; how long it took.
    pub(super) fn join(mut self) -> (Result<(), Failure>, Duration) {
        let status = self.child.wait();
        let taken = self.begun.elapsed();
        let printed = self
            .output
            .rewind()
            .and_then(|()| io::copy(&mut self.output, &mut io::stdout()));
        let result = match (status, printed) {
            (Ok(status), Ok(_)) if status.success() => Ok(()),
            (Ok(status), Ok(_)) => Err(status.to_string().into()),
            (Err(error), _) | (_, Err(error)) => Err(error.into()),
        };
        (result, taken)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.child.wait();
    }
}

/// Is such a step from now on.
pub(super) fn settle() -> io::Result<()> {
    setsid()?;
    nice(NICENESS)?;
    // Not every kernel does that.
    let _ = std::fs::write(SESSION_NICENESS, NICENESS.to_string());
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = kill_current_process_group(Signal::TERM);
    });
    Ok(())
}
