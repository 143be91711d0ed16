//! What a host serves now: the endpoints by device. Clients are listened for as long as one is here.
//!
//! Nothing is torn down here: whoever takes an endpoint out does that, without the list's lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::listeners::Listeners;
use crate::error::{DeviceId, HostError};

/// See the module's documentation.
pub(super) struct Endpoints {
    listeners: Arc<Listeners>,
    served: BTreeMap<DeviceId, Arc<Endpoint>>,
    /// The host is shut down: nothing new comes.
    closed: bool,
}

impl Endpoints {
    pub(super) fn new(listeners: Arc<Listeners>) -> Self {
        Self {
            listeners,
            served: BTreeMap::new(),
            closed: false,
        }
    }

    pub(super) fn get(&self, id: DeviceId) -> Option<&Arc<Endpoint>> {
        self.served.get(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = DeviceId> {
        self.served.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.served.values()
    }

    pub(super) fn count(&self) -> usize {
        self.served.len()
    }

    /// # Errors
    /// [`HostError::Closed`], or what the system says.
    pub(super) fn add(&mut self, endpoint: &Arc<Endpoint>) -> Result<(), HostError> {
        if self.closed {
            return Err(HostError::Closed);
        }
        self.listen(endpoint)
    }

    /// Adds what the function `by` brings: all of it or, on an error, nothing.
    ///
    /// # Errors
    /// [`HostError::Closed`], [`HostError::NotServed`], or what the system says.
    pub(super) fn add_brought(
        &mut self,
        by: DeviceId,
        endpoints: &[Arc<Endpoint>],
    ) -> Result<(), HostError> {
        self.bringing(by)?;
        let added = endpoints
            .iter()
            .try_for_each(|endpoint| self.listen(endpoint));
        if added.is_err() {
            for endpoint in endpoints {
                self.remove(endpoint.id());
            }
        }
        added
    }

    fn listen(&mut self, endpoint: &Arc<Endpoint>) -> Result<(), HostError> {
        if let Some(socket) = endpoint.listener() {
            self.listeners
                .add(socket, endpoint.id())
                .map_err(|error| HostError::system("listening for clients", error))?;
        }
        self.served.insert(endpoint.id(), Arc::clone(endpoint));
        Ok(())
    }

    fn remove(&mut self, id: DeviceId) -> Option<Arc<Endpoint>> {
        let endpoint = self.served.remove(&id)?;
        if let Some(socket) = endpoint.listener() {
            self.listeners.remove(socket);
        }
        Some(endpoint)
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
        let Some(endpoint) = self.remove(id) else {
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
            ours.then(|| self.remove(id)).flatten()
        };
        ids.filter_map(&mut take).collect()
    }

    /// Lets nothing in any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes everything out: what a function brought before that function.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Endpoint>> {
        let ids: Vec<_> = self.ids().collect();
        let mut taken: Vec<_> = ids.into_iter().filter_map(|id| self.remove(id)).collect();
        taken.sort_by_key(|endpoint| {
            let by = endpoint.brought_by();
            (by.unwrap_or(endpoint.id()), by.is_none(), endpoint.id())
        });
        taken
    }
}
