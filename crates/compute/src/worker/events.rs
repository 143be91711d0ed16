//! What QEMU reports by itself, and what follows. It comes on the thread that reads the control socket, which must not wait:
//! what takes longer has a thread of its own.

use std::sync::{Arc, Weak};
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
        "STOP" if worker.is_running() => {
            // A pause that is under way has begun before, and is the reason.
            in_background("stopped", move || worker.stopped_by_itself());
        }
        "RESET" => tracing::info!(guest = ?event.data.get("guest"), "the machine was reset"),
        _ => {}
    }
}

/// Does something on a thread of its own.
pub(super) fn in_background(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(%error, name, "no thread can be had");
    }
}
