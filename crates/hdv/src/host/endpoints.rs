//! What a host serves now: the endpoints by device, those that a function brought behind that function.
//!
//! Nothing is torn down here: whoever takes an endpoint out does that, without the list's lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::error::{DeviceId, HostError};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Endpoints {
    served: BTreeMap<DeviceId, Arc<Endpoint>>,
    /// The host is shut down: nothing new comes.
    closed: bool,
}

impl Endpoints {
    pub(super) fn get(&self, id: DeviceId) -> Option<&Arc<Endpoint>> {
        self.served.get(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = DeviceId> {
        self.served.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.served.values()
    }

    /// # Errors
    /// [`HostError::Closed`]; the endpoint is as it was.
    pub(super) fn add(&mut self, endpoint: &Arc<Endpoint>) -> Result<(), HostError> {
        if self.closed {
            return Err(HostError::Closed);
        }
        self.served.insert(endpoint.id(), Arc::clone(endpoint));
        Ok(())
    }

    /// Adds what the function `by` brings: all of it or, on an error, nothing.
    ///
    /// # Errors
    /// [`HostError::Closed`], [`HostError::NotServed`].
    pub(super) fn add_brought(
        &mut self,
        by: DeviceId,
        endpoints: &[Arc<Endpoint>],
    ) -> Result<(), HostError> {
        self.bringing(by)?;
        let added = endpoints
            .iter()
            .map(|endpoint| (endpoint.id(), Arc::clone(endpoint)));
        self.served.extend(added);
        Ok(())
    }

    /// The endpoint of a function that is about to bring others.
    ///
    /// # Errors
    /// [`HostError::Closed`], [`HostError::NotServed`].
    pub(super) fn bringing(&self, by: DeviceId) -> Result<&Arc<Endpoint>, HostError> {
        if self.closed {
            return Err(HostError::Closed);
        }
        self.get(by).ok_or(HostError::NotServed(by))
    }

    /// Takes a device out and, before it, what it brought.
    pub(super) fn take(&mut self, id: DeviceId) -> Vec<Arc<Endpoint>> {
        let Some(endpoint) = self.served.remove(&id) else {
            return Vec::new();
        };
        let brought: Vec<_> = self
            .iter()
            .filter(|other| other.brought_by() == Some(id))
            .map(|other| other.id())
            .collect();
        let mut taken = self.take_brought(id, brought.into_iter());
        taken.push(endpoint);
        taken
    }

    /// Takes out those of `ids` that the function `by` brought and that are still here.
    pub(super) fn take_brought(
        &mut self,
        by: DeviceId,
        ids: impl Iterator<Item = DeviceId>,
    ) -> Vec<Arc<Endpoint>> {
        let mut take = |id| {
            let ours = self.served.get(&id)?.brought_by() == Some(by);
            ours.then(|| self.served.remove(&id)).flatten()
        };
        ids.filter_map(&mut take).collect()
    }

    /// Lets nothing in any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes everything out: what a function brought before that function.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Endpoint>> {
        let mut taken: Vec<_> = std::mem::take(&mut self.served).into_values().collect();
        taken.sort_by_key(|endpoint| {
            let by = endpoint.brought_by();
            (by.unwrap_or(endpoint.id()), by.is_none(), endpoint.id())
        });
        taken
    }
}
