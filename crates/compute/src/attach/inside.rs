//! Which device hosts of this process are in which compute system: what waits for calls into their devices must not be asked
//! for from inside one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hdv::HostHandle;
use uuid::Uuid;

/// By the id of the system's run.
static HOSTS: Mutex<Vec<(Uuid, HostHandle)>> = Mutex::new(Vec::new());

fn hosts() -> MutexGuard<'static, Vec<(Uuid, HostHandle)>> {
    HOSTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A host is in a system.
pub(super) fn add(runtime_id: Uuid, host: &HostHandle) {
    hosts().push((runtime_id, host.clone()));
}

/// It is in none any more.
pub(super) fn remove(host: &HostHandle) {
    hosts().retain(|(_, other)| !other.is(host));
}

/// Whether this thread is inside a call into a device of a system.
pub(crate) fn inside_call(runtime_id: Uuid) -> bool {
    hosts()
        .iter()
        .any(|(id, host)| *id == runtime_id && host.inside_call())
}

/// Whether this thread is inside a call into a device of the host that has a device instance of a system.
pub(crate) fn inside_call_beside(runtime_id: Uuid, instance_id: Uuid) -> bool {
    hosts().iter().any(|(id, host)| {
        *id == runtime_id && host.inside_call() && host.state(instance_id).is_ok()
    })
}
