//! What QEMU reports by itself, and what follows. It comes on the thread that reads the control socket, which must not wait:
//! what takes longer has a thread of its own.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use hdv_qemu::qmp::Event;

use super::vmm::Vmm;
use super::worker::Worker;

/// What takes a QEMU's events.
pub(super) fn handler(worker: &Arc<Worker>, vmm: &Arc<Vmm>) -> impl FnMut(Event) + Send + use<> {
    let (worker, vmm) = (Arc::downgrade(worker), Arc::downgrade(vmm));
    move |event| handle(&worker, &vmm, &event)
}

fn handle(worker: &Weak<Worker>, vmm: &Weak<Vmm>, event: &Event) {
    let (Some(worker), Some(vmm)) = (worker.upgrade(), vmm.upgrade()) else {
        return;
    };
    tracing::debug!(name = event.name, data = %event.data, "QEMU's event");
    let text = |name: &str| event.data.get(name).and_then(serde_json::Value::as_str);
    match event.name.as_str() {
        "SHUTDOWN" => vmm.note_reason(text("reason").unwrap_or("a cause that QEMU does not tell")),
        "GUEST_PANICKED" => vmm.note_panic(),
        "DEVICE_DELETED" => {
            if let Some(name) = text("device") {
                worker.let_go(name);
            }
        }
        "DEVICE_UNPLUG_GUEST_ERROR" => {
            if let Some(name) = text("device") {
                worker.lock().kept_by_guest.insert(name.to_owned());
                worker.notify();
            }
        }
        "STOP" => {
            let begins = {
                let mut inner = worker.lock();
                inner.has(&vmm) && inner.note_stopped()
            };
            // Begun here, before who asked for it, if anybody did, has the answer.
            if begins {
                in_background_or_here("stopped", move || worker.stopped_by_itself());
            }
        }
        "RESUME" => {
            let mut inner = worker.lock();
            if inner.has(&vmm) {
                inner.note_running();
            }
        }
        "RESET" => tracing::info!(guest = ?event.data.get("guest"), "the machine was reset"),
        _ => {}
    }
}

/// Does something on a thread of its own; false, and nothing happens, if none can be had.
pub(super) fn in_background(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    match thread::Builder::new().name(name.to_owned()).spawn(work) {
        Ok(_) => true,
        Err(error) => {
            tracing::error!(%error, name, "no thread can be had");
            false
        }
    }
}

/// Does something that must be done: on a thread of its own, or, if none can be had, on this one, which has to wait then.
pub(super) fn in_background_or_here(name: &str, work: impl FnOnce() + Send + 'static) {
    let shared = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let theirs = Arc::clone(&shared);
    let is_theirs = in_background(name, move || {
        if let Some(work) = take(&theirs) {
            work();
        }
    });
    if !is_theirs && let Some(work) = take(&shared) {
        work();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Child;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::super::end::vmm_ended;
    use super::super::state::Operation;
    use super::super::vmm::tests::played;
    use super::super::worker::tests::running_in;
    use super::*;
    use crate::document::State;
    use crate::{ExitStatus, ExitType};

    const GENEROUS: Duration = Duration::from_secs(60);

    fn tell(worker: &Arc<Worker>, vmm: &Arc<Vmm>, name: &str, data: Value) {
        handler(worker, vmm)(Event {
            name: name.to_owned(),
            data,
        });
    }

    /// Waits for a state that no operation is about to change.
    fn comes_to(worker: &Worker, state: State) {
        let deadline = Instant::now() + GENEROUS;
        let is_so = |inner: &mut super::super::worker::Inner| {
            inner.life.state() == state && !inner.life.is_during(Operation::Pause)
        };
        let inner = worker.wait_until(Some(deadline), is_so);
        assert_eq!(inner.life.state(), state);
        assert!(!inner.life.is_during(Operation::Pause));
    }

    /// The end of what plays QEMU, and what it means for the system.
    fn ends(worker: &Worker, vmm: &Arc<Vmm>, mut child: Child) -> ExitStatus {
        drop(child.stdin.take());
        vmm.watch(child);
        vmm_ended(worker, vmm);
        let exit = worker.lock().exit.clone();
        exit.unwrap()
    }

    #[test]
    fn a_qemu_that_stops_by_itself_pauses_the_system_and_only_this_one() {
        let (vmm, child) = played();
        let worker = running_in(&vmm);
        let (other, other_child) = played();
        tell(&worker, &other, "STOP", Value::Null);
        assert!(!worker.lock().is_stopped());
        comes_to(&worker, State::Running);
        tell(&worker, &vmm, "STOP", Value::Null);
        comes_to(&worker, State::Paused);
        // It does not end before who stopped it lets it.
        assert!(worker.lock().is_stopped());
        for (vmm, mut child) in [(vmm, child), (other, other_child)] {
            drop(child.stdin.take());
            vmm.watch(child);
        }
    }

    #[test]
    fn one_that_runs_again_at_once_is_not_left_paused() {
        let (vmm, child) = played();
        let worker = running_in(&vmm);
        // Whoever looks after the stop waits for its turn.
        let turn = worker.order();
        tell(&worker, &vmm, "STOP", Value::Null);
        assert!(worker.lock().life.is_during(Operation::Pause));
        tell(&worker, &vmm, "RESUME", Value::Null);
        drop(turn);
        comes_to(&worker, State::Running);
        ends(&worker, &vmm, child);
    }

    #[test]
    fn how_a_guest_ended_is_told_in_the_exit() {
        let shutdown = |reason: &str| ("SHUTDOWN", json!({ "guest": true, "reason": reason }));
        let panicked = ("GUEST_PANICKED", json!({ "action": "pause" }));
        for (told, exit_type, detail) in [
            (vec![], ExitType::UnexpectedExit, "words"),
            (
                vec![shutdown("guest-shutdown")],
                ExitType::GracefulExit,
                "the guest powered off",
            ),
            (
                vec![panicked, shutdown("guest-shutdown")],
                ExitType::UnexpectedExit,
                "the guest panicked; QEMU ended",
            ),
            (
                vec![shutdown("host-signal")],
                ExitType::UnexpectedExit,
                "because of host-signal",
            ),
        ] {
            let (vmm, mut child) = played();
            let worker = running_in(&vmm);
            for (name, data) in &told {
                tell(&worker, &vmm, name, data.clone());
            }
            // It says its last words before it waits for its input, which is a line here.
            std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"end\n").unwrap();
            let exit = ends(&worker, &vmm, child);
            assert_eq!(exit.exit_type, exit_type, "{exit:?}");
            assert!(exit.detail.contains(detail), "{exit:?}");
            assert!(worker.lock().is_told);
        }
    }

    #[test]
    fn what_must_be_done_is_done_elsewhere_and_once() {
        let (sender, done) = mpsc::channel();
        in_background_or_here("test", move || {
            sender.send(thread::current().id()).unwrap();
        });
        let by = done.recv_timeout(GENEROUS).unwrap();
        assert_ne!(by, thread::current().id());
        // The work, and with it the sender, is gone.
        assert!(done.recv_timeout(GENEROUS).is_err());
    }
}
