//! Devices that QEMU must not free, and how it is found that the guest has let go of them: QEMU does not say it. Why is in
//! [`hdv_qemu::unplug`]; only devices with MSI-X are concerned, all others are let go of with an event.
//!
//! A held device's connection stays when it is out, until QEMU ends, with the stub that its host leaves there, or that of
//! `connections` when its host is gone.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hdv_qemu::unplug;
use serde_json::{Value, json};

use super::events::in_background;
use super::vmm::Vmm;
use super::worker::{Inner, Worker};
use crate::document::DeviceStatus;

/// How often is looked for devices that the guest is to let go of.
const BUSY_LOOK: Duration = Duration::from_millis(20);
/// How often when nobody waits: for devices that it may let go of some time, asked to or not.
const IDLE_LOOK: Duration = Duration::from_secs(2);

impl Worker {
    /// Holds a device that is just there, if it must be, and looks from then on whether it still is. The order is the
    /// caller's.
    pub(super) fn hold(self: &Arc<Self>, vmm: &Arc<Vmm>, name: &str) {
        let execute = |command: &str, arguments: Value| vmm.query(command, arguments);
        let is_held = has_msix(vmm, name).and_then(|has_msix| {
            if has_msix {
                unplug::hold(name, execute)?;
            }
            Ok(has_msix)
        });
        match is_held {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(name, "the device is not held: {error}");
                return;
            }
        }
        let is_first = {
            let mut inner = self.lock();
            let is_first = inner.held.is_empty();
            inner.held.insert(name.to_owned());
            is_first
        };
        if is_first {
            let (worker, vmm) = (Arc::downgrade(self), Arc::downgrade(vmm));
            in_background("held", move || look_on(&worker, &vmm));
        }
    }
}

fn has_msix(vmm: &Vmm, name: &str) -> hdv_qemu::Result<bool> {
    let path = format!("/machine/peripheral/{name}");
    let children = vmm.query("qom-list", json!({ "path": path }))?;
    let children = children.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_table = |child: &Value| {
        let name = child["name"].as_str();
        name.is_some_and(|name| name.starts_with("msix-table"))
    };
    Ok(children.iter().any(is_table))
}

/// Looks which held devices are still there, until none is or QEMU has ended.
fn look_on(worker: &Weak<Worker>, vmm: &Weak<Vmm>) {
    while let (Some(worker), Some(vmm)) = (worker.upgrade(), vmm.upgrade()) {
        let names = {
            let is_over =
                |inner: &mut Inner| vmm.has_ended() || inner.held.is_empty() || !inner.has(&vmm);
            let idle = Instant::now() + IDLE_LOOK;
            let inner = worker.wait_until(Some(idle), |inner| is_over(inner) || is_awaited(inner));
            let is_awaited = is_awaited(&inner);
            drop(inner);
            let busy = is_awaited.then(|| Instant::now() + BUSY_LOOK);
            let mut inner = worker.wait_until(busy, |inner| !is_awaited || is_over(inner));
            // Those of another QEMU, which was started since, have somebody else who looks.
            if !inner.has(&vmm) {
                return;
            }
            if vmm.has_ended() {
                inner.held.clear();
                return;
            }
            if inner.held.is_empty() {
                return;
            }
            inner.held.clone()
        };
        for name in gone(&vmm, &names) {
            worker.lock().held.remove(&name);
            worker.let_go(&name);
        }
    }
}

/// Whether somebody waits for a held device to go.
fn is_awaited(inner: &Inner) -> bool {
    inner.devices.iter().any(|(_, device)| {
        device.status == DeviceStatus::Removing
            && device
                .plug
                .as_ref()
                .is_some_and(|plug| inner.held.contains(&plug.name))
    })
}

/// Those that are not in the machine any more.
fn gone(vmm: &Vmm, names: &BTreeSet<String>) -> BTreeSet<String> {
    match unplug::plugged(|command, arguments| vmm.query(command, arguments)) {
        Ok(plugged) => names - &plugged,
        Err(error) => {
            tracing::debug!("cannot see which devices are there: {error}");
            BTreeSet::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vmm::tests::played;
    use super::super::worker::tests::running_in;
    use super::*;

    #[test]
    fn what_the_next_qemu_holds_is_nobody_elses_to_forget() {
        for is_current in [false, true] {
            let (vmm, mut child) = played();
            let (next, mut next_child) = played();
            let worker = running_in(if is_current { &vmm } else { &next });
            worker.lock().held.insert("hdv1".to_owned());
            drop(child.stdin.take());
            vmm.watch(child);
            look_on(&Arc::downgrade(&worker), &Arc::downgrade(&vmm));
            assert_eq!(worker.lock().held.is_empty(), is_current);
            drop(next_child.stdin.take());
            next.watch(next_child);
        }
    }
}
