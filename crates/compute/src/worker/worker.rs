//! The worker's state: one mutex, held for short times only, never over a call to a host or to QEMU.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::connections::Connections;
use super::console::Hub;
use super::devices::Devices;
use super::handles::Handles;
use super::hosts::{HostId, Hosts};
use super::internal::InternalHost;
use super::ports::Ports;
use super::refusal::{self, Result};
use super::state::{Life, Operation, Request};
use super::vmm::Vmm;
use crate::ExitStatus;
use crate::document::{ComputeSystemDocument, DeviceStatus, MemoryProperties, Properties, State};

/// What a worker is made from.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) id: String,
    pub(super) document: ComputeSystemDocument,
    /// The runtime directory.
    pub(super) runtime_directory: PathBuf,
    /// This worker's socket.
    pub(super) socket: PathBuf,
    /// This worker's own directory.
    pub(super) directory: PathBuf,
    /// Its serial ports, by number.
    pub(super) consoles: BTreeMap<u8, Hub>,
    /// The names of its root ports.
    pub(super) ports: Vec<String>,
}

/// A compute system, in the process that owns it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) runtime_id: Uuid,
    pub(super) document: ComputeSystemDocument,
    pub(super) runtime_directory: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) consoles: BTreeMap<u8, Hub>,
    /// The process of our own devices, while there is one. Taken before the state.
    pub(super) internal: Mutex<Option<InternalHost>>,
    /// Where QEMU is awaited.
    pub(super) connections: Connections,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Held while QEMU is told to plug a device in, to stop or to go on, and what comes of that is noted: so that nobody
    /// stops processors between a device's start and its being in the list of those that are to be stopped.
    order: Mutex<()>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) life: Life,
    pub(super) devices: Devices,
    pub(super) ports: Ports,
    pub(super) hosts: Hosts,
    pub(super) handles: Handles,
    pub(super) vmm: Option<Arc<Vmm>>,
    /// Devices, by QEMU's name, that the guest said it does not let go of.
    pub(super) kept_by_guest: BTreeSet<String>,
    /// Devices, by QEMU's name, that QEMU must not free.
    pub(super) held: BTreeSet<String>,
    /// How it ended, once it has.
    pub(super) exit: Option<ExitStatus>,
    /// Its handles were told.
    pub(super) is_told: bool,
    /// QEMU has stopped the processors, and not let them go on since: whoever asked it to.
    is_stopped: bool,
    /// This process was told to end.
    pub(super) is_quitting: bool,
    last_number: u64,
}

/// What came of the end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is over.
    Over,
    /// It is over, and QEMU stopped the processors by itself meanwhile: a pause has begun, which is the caller's to carry
    /// out.
    Pauses,
    /// The system ended meanwhile.
    Ended,
}

impl Inner {
    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes a device's host away from it, to be told to remove it: by the first who asks.
    pub(super) fn take_host(&mut self, instance: Uuid) -> Option<HostId> {
        self.devices.get_mut(instance)?.host.take()
    }

    /// Whether this is the QEMU that it has now.
    pub(super) fn has(&self, vmm: &Arc<Vmm>) -> bool {
        let current = self.vmm.as_ref();
        current.is_some_and(|current| Arc::ptr_eq(current, vmm))
    }

    /// QEMU has stopped the processors. True if nobody asked it to: a pause has begun, which is the caller's to carry out.
    pub(super) fn note_stopped(&mut self) -> bool {
        self.is_stopped = true;
        // An operation that is under way is the reason, or sees it when it finishes.
        self.life.begin(Operation::Pause).is_ok()
    }

    /// QEMU lets the processors run.
    pub(super) fn note_running(&mut self) {
        self.is_stopped = false;
    }

    /// Whether QEMU has stopped the processors.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// An operation that has begun is over.
    pub(super) fn finish(&mut self, operation: Operation, is_done: bool) -> Finish {
        if !self.life.finish(operation, is_done) {
            Finish::Ended
        } else if self.is_stopped && self.life.begin(Operation::Pause).is_ok() {
            Finish::Pauses
        } else {
            Finish::Over
        }
    }

    /// QEMU is gone, and with it all that was plugged in.
    pub(super) fn unplug_all(&mut self) {
        self.ports.free_all();
        self.held.clear();
        self.kept_by_guest.clear();
        self.is_stopped = false;
        self.devices.unplug_all();
    }
}

impl Worker {
    pub(super) fn new(parts: Parts) -> Result<Arc<Self>> {
        let mut devices = Devices::default();
        for (key, settings) in &parts.document.virtual_machine.devices.flexible_iov {
            devices
                .add(key, settings.clone(), DeviceStatus::Waiting)
                .map(drop)
                .map_err(|taken| {
                    refusal::refused(
                        crate::error::codes::HCS_E_INVALID_JSON,
                        format!(
                            "the keys {key:?} and {:?} under VirtualMachine/Devices/FlexibleIov stand for the same instance id",
                            taken.key
                        ),
                    )
                })?;
        }
        Ok(Arc::new(Self {
            id: parts.id,
            runtime_id: Uuid::new_v4(),
            document: parts.document,
            runtime_directory: parts.runtime_directory,
            socket: parts.socket,
            directory: parts.directory,
            consoles: parts.consoles,
            internal: Mutex::new(None),
            connections: Connections::default(),
            inner: Mutex::new(Inner {
                life: Life::new(),
                devices,
                ports: Ports::new(parts.ports),
                hosts: Hosts::default(),
                handles: Handles::default(),
                vmm: None,
                kept_by_guest: BTreeSet::new(),
                held: BTreeSet::new(),
                exit: None,
                is_told: false,
                is_stopped: false,
                is_quitting: false,
                last_number: 0,
            }),
            changed: Condvar::new(),
            order: Mutex::new(()),
        }))
    }

    /// What changes, for a short time.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to change what QEMU runs.
    pub(super) fn order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait for a change.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits until something is so, at most until `deadline`; `None` waits as long as it takes. The state is as it was last
    /// seen.
    pub(super) fn wait_until(
        &self,
        deadline: Option<Instant>,
        mut is_so: impl FnMut(&mut Inner) -> bool,
    ) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        while !is_so(&mut inner) {
            inner = match deadline {
                None => self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        break;
                    }
                    let waited = self.changed.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        inner
    }

    /// Begins an operation.
    pub(super) fn begin(&self, operation: Operation) -> Result<()> {
        let begun = self.lock().life.begin(operation);
        begun.map_err(|refusal| refusal::of_operation(&self.id, operation, refusal))
    }

    /// Whether a request makes sense now; `what` is the end of a sentence that begins with "it cannot".
    pub(super) fn allows(&self, inner: &Inner, request: Request, what: &str) -> Result<()> {
        let allowed = inner.life.allows(request);
        allowed.map_err(|refusal| refusal::of_state(&self.id, what, refusal))
    }

    /// What it says of itself.
    pub(super) fn properties(&self) -> Properties {
        let machine = &self.document.virtual_machine;
        let consoles = self
            .consoles
            .iter()
            .map(|(number, hub)| (number.to_string(), hub.client_socket().to_owned()))
            .collect();
        let inner = self.lock();
        let vmm = inner.vmm.as_ref().filter(|vmm| !vmm.has_ended());
        Properties {
            id: self.id.clone(),
            system_type: "VirtualMachine".to_owned(),
            owner: self.document.owner.clone(),
            runtime_id: self.runtime_id,
            state: inner.life.state(),
            exit_type: inner
                .exit
                .as_ref()
                .map(|exit| format!("{:?}", exit.exit_type)),
            terminate_on_last_handle_closed: self.document.should_terminate_on_last_handle_closed,
            memory: MemoryProperties {
                size_in_mb: machine.compute_topology.memory.size_in_mb,
            },
            processor_count: machine.compute_topology.processor.count,
            worker_process_id: std::process::id(),
            vmm_process_id: vmm.map(|vmm| vmm.pid),
            accelerator: inner
                .vmm
                .as_ref()
                .map(|vmm| vmm.accelerator.name().to_owned()),
            consoles,
            devices: inner.devices.properties(),
        }
    }

    /// Whether its processors are stopped and can go on.
    pub(super) fn is_paused(inner: &Inner) -> bool {
        inner.life.state() == State::Paused
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a system without devices has.
    pub(in super::super) fn inner() -> Inner {
        Inner {
            life: Life::new(),
            devices: Devices::default(),
            ports: Ports::new(["port".to_owned()]),
            hosts: Hosts::default(),
            handles: Handles::default(),
            vmm: None,
            kept_by_guest: BTreeSet::new(),
            held: BTreeSet::new(),
            exit: None,
            is_told: false,
            is_stopped: false,
            is_quitting: false,
            last_number: 0,
        }
    }

    /// A system without devices.
    pub(in super::super) fn created() -> Arc<Worker> {
        let document = r#"{"SchemaVersion": {"Major": 2, "Minor": 7}, "VirtualMachine": {}}"#;
        Worker::new(Parts {
            id: "vm".to_owned(),
            document: ComputeSystemDocument::parse(document).unwrap(),
            runtime_directory: PathBuf::new(),
            socket: PathBuf::new(),
            directory: PathBuf::new(),
            consoles: BTreeMap::new(),
            ports: Vec::new(),
        })
        .unwrap()
    }

    /// The same, running in this QEMU.
    pub(in super::super) fn running_in(vmm: &Arc<Vmm>) -> Arc<Worker> {
        let worker = created();
        worker.begin(Operation::Start).unwrap();
        let mut inner = worker.lock();
        inner.vmm = Some(Arc::clone(vmm));
        assert_eq!(inner.finish(Operation::Start, true), Finish::Over);
        drop(inner);
        worker
    }

    fn running() -> Inner {
        let mut inner = inner();
        inner.life.begin(Operation::Start).unwrap();
        inner.note_running();
        assert_eq!(inner.finish(Operation::Start, true), Finish::Over);
        inner
    }

    #[test]
    fn a_stop_that_nobody_asked_for_begins_a_pause_at_once() {
        let mut inner = running();
        assert!(inner.note_stopped());
        assert!(inner.life.is_during(Operation::Pause));
        // A resume waits for its end.
        assert!(inner.life.begin(Operation::Resume).is_err());
        assert_eq!(inner.finish(Operation::Pause, true), Finish::Over);
        assert_eq!(inner.life.state(), State::Paused);
    }

    #[test]
    fn a_stop_that_is_asked_for_begins_nothing() {
        let mut inner = running();
        inner.life.begin(Operation::Pause).unwrap();
        assert!(!inner.note_stopped());
        assert_eq!(inner.finish(Operation::Pause, true), Finish::Over);
        inner.life.begin(Operation::Resume).unwrap();
        inner.note_running();
        assert_eq!(inner.finish(Operation::Resume, true), Finish::Over);
        assert_eq!(inner.life.state(), State::Running);
    }

    #[test]
    fn a_stop_during_an_operation_is_seen_at_its_end() {
        for operation in [Operation::Start, Operation::Resume, Operation::Pause] {
            let mut inner = inner();
            if operation != Operation::Start {
                inner = running();
            }
            if operation == Operation::Resume {
                inner.life.begin(Operation::Pause).unwrap();
                inner.note_stopped();
                assert_eq!(inner.finish(Operation::Pause, true), Finish::Over);
            }
            inner.life.begin(operation).unwrap();
            inner.note_running();
            assert!(!inner.note_stopped());
            // A pause that fails, although processors stop then.
            let is_done = operation != Operation::Pause;
            assert_eq!(inner.finish(operation, is_done), Finish::Pauses);
            assert!(inner.life.is_during(Operation::Pause));
        }
    }

    #[test]
    fn a_stop_is_of_no_account_once_the_system_ends_or_did_not_start() {
        let mut inner = running();
        inner.life.end();
        assert!(!inner.note_stopped());
        let mut inner = self::inner();
        inner.life.begin(Operation::Start).unwrap();
        inner.note_stopped();
        inner.unplug_all();
        assert_eq!(inner.finish(Operation::Start, false), Finish::Over);
        assert_eq!(inner.life.state(), State::Created);
    }
}
