//! Starting a worker. It is no child that dies with this process; its end is noticed all the same, so that nothing of it stays
//! in the process list.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hdv_control::ControlError;

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
    let failed = |doing: String| move |source| Error::Io { doing, source };
    let (ours, theirs) = UnixStream::pair().map_err(failed("creating a socket pair".to_owned()))?;
    let child = start(order, theirs)?;
    let id = &order.id;
    let answer = order
        .send(&ours)
        .and_then(|()| handover::answered(&ours, READY_PATIENCE));
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
            Err(Error::TimedOut {
                what: format!("the start of the worker of compute system {id:?}"),
                seconds: READY_PATIENCE.as_secs(),
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

fn start(order: &Order, socket: UnixStream) -> Result<Child> {
    let program = program::find()?;
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
    // The id is for people who look at the process list.
    Command::new(&program)
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
