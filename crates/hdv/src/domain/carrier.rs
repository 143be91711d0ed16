//! The VFs of a PF inside: they come and go with its registers, on the bus that it is on.

use std::sync::{Arc, OnceLock, Weak};

use hdv_pci::topology::FunctionId;

use super::hierarchy::Hierarchy;
use super::inner::Inner;
use crate::brought::into_slots;
use crate::carrier::{BroughtFunction, FunctionCarrier};
use crate::error::{DeviceId, HostError};
use crate::instance::DeviceInstance;

/// Carries what one function of a domain brings.
pub(super) struct InnerCarrier {
    /// Not an owner: the function that holds this lives there.
    hierarchy: Weak<Hierarchy>,
    name: String,
    by: DeviceId,
    /// Once the function has its place.
    function: OnceLock<FunctionId>,
}

impl InnerCarrier {
    pub(super) fn new(hierarchy: &Arc<Hierarchy>, name: &str, by: DeviceId) -> Arc<Self> {
        Arc::new(Self {
            hierarchy: Arc::downgrade(hierarchy),
            name: name.to_owned(),
            by,
            function: OnceLock::new(),
        })
    }

    /// The function has its place.
    pub(super) fn placed(&self, function: FunctionId) {
        let _ = self.function.set(function);
    }
}

impl FunctionCarrier for InnerCarrier {
    fn bring(&self, functions: Vec<BroughtFunction>) -> Result<Vec<DeviceInstance>, HostError> {
        let hierarchy = self.hierarchy.upgrade().ok_or(HostError::Closed)?;
        // Made whatever is wrong here: dropping them tears the functions down.
        let slots = into_slots(functions, &self.name, hierarchy.token)?;
        let function = *self.function.get().ok_or(HostError::NotServed(self.by))?;
        let mut state = hierarchy.lock();
        if state.closed {
            return Err(HostError::Closed);
        }
        if !state.functions.contains_key(&function) {
            // Taken out while it brings them.
            return Err(HostError::NotServed(self.by));
        }
        let bring = |one: crate::brought::BroughtSlot| {
            let instance = DeviceInstance {
                id: DeviceId::next(),
                ids: None,
                brought_by: Some(self.by),
                slot: Arc::clone(&one.slot),
            };
            let inner = Arc::new(Inner::virtual_function(one.slot, one.identity));
            let key = (function, one.vf);
            state.virtual_functions.insert(key, (instance.id, inner));
            instance
        };
        Ok(slots.into_iter().map(bring).collect())
    }

    fn take_away(&self, functions: &[DeviceInstance]) {
        if let Some(hierarchy) = self.hierarchy.upgrade() {
            let is_going = |id: DeviceId| functions.iter().any(|one| one.id == id);
            let mut state = hierarchy.lock();
            // Their slots are kept by who asks.
            state.virtual_functions.retain(|_, (id, _)| !is_going(*id));
        }
        for instance in functions {
            instance.slot.remove();
        }
    }

    fn settled(&self) {
        if let Some((hierarchy, function)) = self.hierarchy.upgrade().zip(self.function.get()) {
            let inner = hierarchy.lock().functions.get(function).cloned();
            if let Some(inner) = inner {
                hierarchy.follow(*function, &inner);
            }
        }
    }
}

impl std::fmt::Debug for InnerCarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InnerCarrier")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
