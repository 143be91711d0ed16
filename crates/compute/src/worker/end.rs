//! The end of a compute system: terminated, powered off, crashed. Its devices are torn down, its handles told.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::in_background_or_here;
use super::handles::tell_exited;
use super::refusal::{Result, of_state, refused};
use super::state::Refusal;
use super::vmm::{Ended, Vmm};
use super::worker::Worker;
use crate::error::codes;
use crate::{ExitStatus, ExitType};

/// How long an end that somebody else began may take: QEMU's, then the devices'.
const END_LIMIT: Duration = Duration::from_secs(60);

impl Worker {
    /// Ends it at once.
    pub(super) fn terminate(self: &Arc<Self>) -> Result<()> {
        let (vmm, ends) = {
            let mut inner = self.lock();
            if inner.exit.is_some() {
                return Err(of_state(&self.id, "be terminated", Refusal::Ended));
            }
            (inner.vmm.clone(), inner.life.end())
        };
        self.notify();
        if !ends {
            let deadline = Instant::now() + END_LIMIT;
            let inner = self.wait_until(Some(deadline), |inner| inner.exit.is_some());
            return if inner.exit.is_some() {
                Ok(())
            } else {
                Err(refused(
                    codes::HCS_E_OPERATION_TIMEOUT,
                    format!(
                        "compute system {:?} did not end within {} s; it goes on ending",
                        self.id,
                        END_LIMIT.as_secs()
                    ),
                ))
            };
        }
        if let Some(vmm) = vmm {
            vmm.terminate();
        }
        self.wind_up(&ExitStatus {
            status: codes::HCS_E_TERMINATED,
            exit_type: ExitType::ForcedExit,
            detail: "it was terminated".to_owned(),
        });
        Ok(())
    }

    /// What follows the end of QEMU, or of a system that had none.
    fn wind_up(&self, exit: &ExitStatus) {
        for hub in self.consoles.values() {
            hub.guest_has_ended();
        }
        self.tear_down(self.hosted());
        self.end_internal();
        self.connections.stop_all();
        let links = {
            let mut inner = self.lock();
            inner.unplug_all();
            inner.life.stopped();
            inner.exit = Some(exit.clone());
            inner.handles.links()
        };
        tracing::info!(?exit, "the system has ended");
        self.notify();
        tell_exited(&links, exit);
        // Only now may this process end.
        self.lock().is_told = true;
        self.notify();
    }
}

impl Worker {
    /// A handle is closed. The last one takes the system with it, where its document says so.
    pub(super) fn handle_closed(self: &Arc<Self>, number: u64) {
        let (link, ends) = {
            let mut inner = self.lock();
            let link = inner.handles.close(number);
            let is_last = inner.handles.is_empty() && !inner.life.has_ended();
            (
                link,
                is_last && self.document.should_terminate_on_last_handle_closed,
            )
        };
        drop(link);
        self.notify();
        if ends {
            tracing::info!("the last handle is closed, which ends the system");
            let worker = Arc::clone(self);
            // It may have ended by itself.
            in_background_or_here("terminate", move || drop(worker.terminate()));
        }
    }
}

/// Watches QEMU, on a thread, until it has ended; then the system ends.
pub(super) fn watch(worker: &Arc<Worker>, vmm: &Arc<Vmm>, child: Child) -> Result<()> {
    let (watching, watched) = (Arc::clone(worker), Arc::clone(vmm));
    let started = std::thread::Builder::new()
        .name("qemu-end".to_owned())
        .spawn(move || {
            watched.watch(child);
            vmm_ended(&watching, &watched);
        });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            // The child went with the thread that was not made; QEMU is ended, and reaped with this process.
            vmm.kill();
            Err(refused(
                codes::E_FAIL,
                format!("no thread can be had to watch QEMU: {error}"),
            ))
        }
    }
}

/// QEMU has ended. While the system is being started that is a start that failed; where the end was ordered, who ordered it
/// goes on.
pub(super) fn vmm_ended(worker: &Worker, vmm: &Arc<Vmm>) {
    {
        let mut inner = worker.lock();
        if !inner.has(vmm)
            || inner.life.is_during(super::state::Operation::Start)
            || !inner.life.end()
        {
            return;
        }
    }
    worker.notify();
    worker.wind_up(&exit_status(&vmm.ended()));
}

/// How a system ended whose QEMU ended by itself.
fn exit_status(ended: &Ended) -> ExitStatus {
    // It may have been killed, or have aborted, after the guest had asked for its end.
    let graceful = ended.has_succeeded
        && matches!(
            ended.reason.as_deref(),
            Some("guest-shutdown" | "guest-reset")
        );
    if ended.has_panicked || !graceful {
        let panicked = if ended.has_panicked {
            "the guest panicked; "
        } else {
            ""
        };
        return ExitStatus {
            status: codes::HCS_E_UNEXPECTED_EXIT,
            exit_type: ExitType::UnexpectedExit,
            detail: format!("{panicked}{}", ended.detail),
        };
    }
    let detail = match ended.reason.as_deref() {
        Some("guest-reset") => "the guest reset, which ends it (StopOnReset)",
        _ => "the guest powered off",
    };
    ExitStatus {
        status: 0,
        exit_type: ExitType::GracefulExit,
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_guest_wants_is_graceful() {
        let exit = |reason: Option<&str>, has_panicked, has_succeeded| {
            exit_status(&Ended {
                reason: reason.map(ToOwned::to_owned),
                has_panicked,
                has_succeeded,
                detail: "words".into(),
            })
        };
        for reason in ["guest-shutdown", "guest-reset"] {
            let exit = exit(Some(reason), false, true);
            assert_eq!((exit.status, exit.exit_type), (0, ExitType::GracefulExit));
        }
        for (reason, has_panicked, has_succeeded) in [
            (None, false, true),
            (Some("host-signal"), false, true),
            (Some("host-error"), false, true),
            (Some("guest-panic"), false, true),
            (Some("guest-shutdown"), true, true),
            (Some("guest-shutdown"), false, false),
            (Some("guest-reset"), false, false),
        ] {
            let exit = exit(reason, has_panicked, has_succeeded);
            assert_eq!(
                (exit.status, exit.exit_type),
                (codes::HCS_E_UNEXPECTED_EXIT, ExitType::UnexpectedExit)
            );
            assert!(exit.detail.contains("words"));
        }
    }
}
