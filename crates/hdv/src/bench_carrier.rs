//! What carries the functions that a function on a test bench brings: slots, and no sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::brought::into_slots;
use crate::calls::HostToken;
use crate::carrier::{BroughtFunction, FunctionCarrier};
use crate::error::{DeviceId, HostError};
use crate::instance::DeviceInstance;

/// The function on the bench, among those that it carries.
pub(crate) const BENCHED: DeviceId = DeviceId(0);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct BenchCarrier {
    token: HostToken,
    carried: Mutex<Carried>,
}

#[derive(Debug, Default)]
struct Carried {
    by_vf: BTreeMap<u16, DeviceInstance>,
    last_id: u64,
    /// The function on the bench is torn down.
    closed: bool,
}

impl BenchCarrier {
    pub(crate) fn new(token: HostToken) -> Arc<Self> {
        Arc::new(Self {
            token,
            carried: Mutex::default(),
        })
    }

    fn carried(&self) -> MutexGuard<'_, Carried> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, vf: u16) -> Option<DeviceInstance> {
        self.carried().by_vf.get(&vf).cloned()
    }

    /// Tears everything down and takes nothing more.
    pub(crate) fn close(&self) {
        let carried = {
            let mut carried = self.carried();
            carried.closed = true;
            std::mem::take(&mut carried.by_vf)
        };
        for instance in carried.values() {
            instance.slot.remove();
        }
    }
}

impl FunctionCarrier for BenchCarrier {
    fn bring(&self, functions: Vec<BroughtFunction>) -> Result<Vec<DeviceInstance>, HostError> {
        let slots = into_slots(functions, "test bench", self.token)?;
        let mut carried = self.carried();
        if carried.closed {
            return Err(HostError::Closed);
        }
        let taken = slots.iter().find(|one| carried.by_vf.contains_key(&one.vf));
        if let Some(one) = taken {
            let taken = HostError::system("putting it on the bench", rustix::io::Errno::EXIST);
            return Err(HostError::brought(one.vf, taken));
        }
        let instances = slots
            .into_iter()
            .map(|one| {
                carried.last_id += 1;
                let instance = DeviceInstance {
                    id: DeviceId(carried.last_id),
                    ids: None,
                    brought_by: Some(BENCHED),
                    slot: one.slot,
                };
                carried.by_vf.insert(one.vf, instance.clone());
                instance
            })
            .collect();
        Ok(instances)
    }

    fn take_away(&self, functions: &[DeviceInstance]) {
        self.carried()
            .by_vf
            .retain(|_, carried| functions.iter().all(|one| one.id != carried.id));
        for instance in functions {
            instance.slot.remove();
        }
    }
}
