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
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_must_be_done_is_done_elsewhere_and_once() {
        let (sender, done) = mpsc::channel();
        in_background_or_here("test", move || {
            sender.send(thread::current().id()).unwrap();
        });
        let by = done.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_ne!(by, thread::current().id());
        // The work, and with it the sender, is gone.
        assert!(done.recv_timeout(Duration::from_secs(60)).is_err());
    }
}
