//! Starting a worker. It is no child that dies with this process; its end is noticed all the same, so that nothing of it stays
//! in the process list.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hdv_control::ControlError;
use hdv_qemu::locate::VARIABLE as QEMU_VARIABLE;

use super::program;
use crate::error::codes;
use crate::handover::{self, Order};
use crate::{Error, Result};

/// Names a file for what workers say before they have a log of their own, behind what is in it; without it that is lost.
const ERRORS_VARIABLE: &str = "OPENHDV_WORKER_ERRORS";
/// How long a worker may take until others can connect to it.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a worker that has broken the connection may take to end.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the worker of a new compute system and waits until it is there. The socket is the first handle's.
///
/// # Errors
/// The program was not found or does not run, or it has refused.
pub(super) fn launch(order: &Order) -> Result<UnixStream> {
    launch_program(&program::find()?, order, READY_PATIENCE)
}

fn launch_program(program: &Path, order: &Order, patience: Duration) -> Result<UnixStream> {
    let failed = |doing: String| move |source| Error::Io { doing, source };
    let (ours, theirs) = UnixStream::pair().map_err(failed("creating a socket pair".to_owned()))?;
    let child = start(program, order, theirs)?;
    let id = &order.id;
    let answer = order
        .send(&ours)
        .and_then(|()| handover::answered(&ours, patience));
    match answer {
        Ok(Ok(())) => {
            reap(child);
            Ok(ours)
        }
        Ok(Err(refusal)) => {
            reap(child);
            Err(refused(id, refusal))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            kill(child);
            Err(Error::Refused {
                message: format!(
                    "the worker of compute system {id:?} was not ready within {} s, and was killed: its program, {}, hangs or was stopped",
                    patience.as_secs(),
                    program.display()
                ),
                code: codes::HCS_E_OPERATION_TIMEOUT,
            })
        }
        Err(error) => {
            drop(ours);
            Err(Error::Gone {
                id: id.clone(),
                reason: ended_early(child, &error),
            })
        }
    }
}

fn start(program: &Path, order: &Order, socket: UnixStream) -> Result<Child> {
    let errors = match std::env::var_os(ERRORS_VARIABLE) {
        Some(path) if !path.is_empty() => {
            let file = File::options().create(true).append(true).open(&path);
            Stdio::from(file.map_err(|source| Error::Io {
                doing: format!("opening {} ({ERRORS_VARIABLE})", path.display()),
                source,
            })?)
        }
        _ => Stdio::null(),
    };
    let mut command = Command::new(program);
    if let Some(qemu) = std::env::var_os(QEMU_VARIABLE).filter(|path| !path.is_empty()) {
        // The worker leaves this process's directory.
        if let Ok(qemu) = std::path::absolute(qemu) {
            command.env(QEMU_VARIABLE, qemu);
        }
    }
    // The id is for people who look at the process list.
    command
        .arg0(format!("{} {}", program.display(), order.id))
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(|source| Error::Io {
            doing: format!("starting {}", program.display()),
            source,
        })
}

fn refused(id: &str, refusal: ControlError) -> Error {
    match refusal.code {
        Some(codes::HCS_E_SYSTEM_ALREADY_EXISTS) => Error::AlreadyExists(id.to_owned()),
        code => Error::Refused {
            message: refusal.message,
            code: code.unwrap_or(codes::E_FAIL),
        },
    }
}

/// What became of a worker that has broken the connection.
fn ended_early(mut child: Child, error: &io::Error) -> String {
    match hdv_qemu::child::wait_within(&mut child, END_PATIENCE) {
        Ok(Some(status)) => format!(
            "it ended before it was ready ({status}); {ERRORS_VARIABLE} names a file for what it has to say"
        ),
        Ok(None) | Err(_) => {
            kill(child);
            format!("it broke the connection before it was ready: {error}")
        }
    }
}

fn kill(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill();
    reap(child);
}

/// Notices the end of a worker, whenever it comes.
fn reap(mut child: Child) {
    let reaper = thread::Builder::new()
        .name("hdv-worker-end".to_owned())
        .spawn(move || match child.wait() {
            Ok(status) => tracing::debug!(%status, "a worker has ended"),
            // The program waits for all of its children itself.
            Err(error) => tracing::debug!(%error, "a worker has ended"),
        });
    if let Err(error) = reaper {
        tracing::warn!(%error, "a worker's end will not be noticed");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    const GENEROUS: Duration = Duration::from_secs(60);

    /// Starts a program of the shell's instead of a worker.
    fn launch_script(text: &str, patience: Duration) -> Error {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("worker");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
        let order = Order {
            id: "vm".to_owned(),
            document: "{}".to_owned(),
        };
        launch_program(&program, &order, patience).unwrap_err()
    }

    #[test]
    fn a_program_that_ends_at_once_is_told_with_its_status() {
        let error = launch_script("exit 3", GENEROUS);
        assert!(matches!(error, Error::Gone { .. }), "{error:?}");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_program_that_says_nothing_is_not_waited_for_without_end_and_killed() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", note.display());
        let error = launch_script(&script, Duration::from_secs(1));
        assert_eq!(error.code(), codes::HCS_E_OPERATION_TIMEOUT, "{error:?}");
        assert!(error.to_string().contains("was killed"), "{error}");
        // It may have been killed before it wrote.
        let pid: i32 = match std::fs::read_to_string(&note) {
            Ok(pid) if !pid.trim().is_empty() => pid.trim().parse().unwrap(),
            _ => return,
        };
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        let deadline = Instant::now() + GENEROUS;
        while rustix::process::test_kill_process(process).is_ok() {
            assert!(
                Instant::now() < deadline,
                "it lives on, or nobody waits for it"
            );
            thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_answers_something_else_is_killed() {
        let error = launch_script("printf nonsense >&0; exec sleep 1000", GENEROUS);
        assert!(matches!(error, Error::Gone { .. }), "{error:?}");
    }

    #[test]
    fn a_refusal_keeps_its_code_and_a_taken_id_is_told_as_such() {
        let refusal = ControlError::internal("no").with_code(-9);
        assert!(matches!(
            refused("vm", refusal),
            Error::Refused { code: -9, .. }
        ));
        let taken = Error::AlreadyExists("vm".to_owned()).to_control();
        assert!(matches!(refused("vm", taken), Error::AlreadyExists(id) if id == "vm"));
    }

    #[test]
    fn a_program_that_cannot_run_is_told() {
        let order = Order {
            id: "vm".to_owned(),
            document: String::new(),
        };
        let error = launch_program(Path::new("/nonexistent"), &order, GENEROUS).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
