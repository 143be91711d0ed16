//! The device instances of a host and how far each has come; who drives them on is in `announcing`, `handle` and
//! `removal`.

use std::sync::Arc;

use uuid::Uuid;

use crate::error::{DeviceId, HostError};
use crate::instance::DeviceInstance;
use crate::system::System;

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Created,
    /// Announced before there was a system.
    Waiting,
    /// The system is being told of it.
    Announcing,
    /// The system knows of it.
    Announced,
    /// Its program removes it, and the system is being told.
    Withdrawing,
}

impl Progress {
    /// Whether the system may speak of it.
    fn known(self) -> bool {
        match self {
            Self::Created | Self::Waiting => false,
            Self::Announcing | Self::Announced | Self::Withdrawing => true,
        }
    }
}

struct Entry {
    instance: DeviceInstance,
    progress: Progress,
    /// Somebody powers it on, or has.
    powered_on: bool,
}

/// The system that they are for.
#[derive(Default)]
enum Attachment {
    #[default]
    None,
    /// It is being asked.
    Attaching,
    To(Arc<dyn System>),
}

/// An instance, and the system that is to be told of it.
pub(super) struct Announcing {
    pub(super) system: Arc<dyn System>,
    pub(super) instance: DeviceInstance,
}

/// What is left to do about an instance that its program removes.
pub(super) enum Removal {
    /// It is none of these: not an instance, or somebody removes it already.
    None,
    /// It has been taken out.
    Taken(DeviceInstance),
    /// The system is to be told first.
    Withdraw(DeviceInstance, Arc<dyn System>),
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Instances {
    attachment: Attachment,
    entries: Vec<Entry>,
    /// Those that their program removed while the system was being told of them.
    unwanted: Vec<DeviceId>,
    /// The host is shut down: nothing new comes.
    closed: bool,
}

impl Instances {
    fn position(&self, id: DeviceId) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.instance.id == id)
    }

    fn entry(&mut self, id: DeviceId) -> Option<&mut Entry> {
        let index = self.position(id)?;
        self.entries.get_mut(index)
    }

    /// One that the system may speak of.
    fn known(&mut self, instance_id: Uuid) -> Result<&mut Entry, HostError> {
        if self.closed {
            return Err(HostError::Closed);
        }
        let is = |entry: &Entry| {
            let ids = entry.instance.ids;
            entry.progress.known() && ids.is_some_and(|ids| ids.instance_id == instance_id)
        };
        self.entries
            .iter_mut()
            .find(|entry| is(entry))
            .ok_or(HostError::NoSuchInstance(instance_id))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = DeviceId> {
        self.entries.iter().map(|entry| entry.instance.id)
    }

    pub(super) fn get(&mut self, id: DeviceId) -> Option<DeviceInstance> {
        Some(self.entry(id)?.instance.clone())
    }

    /// # Errors
    /// [`HostError::Closed`], [`HostError::InstanceExists`].
    pub(super) fn add(&mut self, instance: &DeviceInstance) -> Result<(), HostError> {
        if self.closed {
            return Err(HostError::Closed);
        }
        let wanted = instance.ids.map(|ids| ids.instance_id);
        let ids = |entry: &Entry| entry.instance.ids.map(|ids| ids.instance_id);
        if let Some(id) = wanted
            && self.entries.iter().any(|entry| ids(entry) == wanted)
        {
            return Err(HostError::InstanceExists(id));
        }
        self.entries.push(Entry {
            instance: instance.clone(),
            progress: Progress::Created,
            powered_on: false,
        });
        Ok(())
    }

    /// Nobody else attaches from now on.
    ///
    /// # Errors
    /// [`HostError::Closed`], [`HostError::AlreadyAttached`].
    pub(super) fn begin_attaching(&mut self) -> Result<(), HostError> {
        if self.closed {
            return Err(HostError::Closed);
        }
        let Attachment::None = self.attachment else {
            return Err(HostError::AlreadyAttached);
        };
        self.attachment = Attachment::Attaching;
        Ok(())
    }

    /// The system does not want the host.
    pub(super) fn not_attached(&mut self) {
        self.attachment = Attachment::None;
    }

    /// The system has the host: the instances that have waited for that.
    ///
    /// # Errors
    /// The host was closed meanwhile: gives the system back, so that it is told.
    pub(super) fn attached(
        &mut self,
        system: Arc<dyn System>,
    ) -> Result<Vec<DeviceId>, Arc<dyn System>> {
        if self.closed {
            return Err(system);
        }
        self.attachment = Attachment::To(system);
        let waiting = |entry: &&Entry| entry.progress == Progress::Waiting;
        let waiting = self.entries.iter().filter(waiting);
        Ok(waiting.map(|entry| entry.instance.id).collect())
    }

    /// An instance is announced; `None` if there is nothing to do now.
    ///
    /// # Errors
    /// [`HostError::NoSuchDevice`].
    pub(super) fn begin_announcing(
        &mut self,
        id: DeviceId,
    ) -> Result<Option<Announcing>, HostError> {
        let system = match &self.attachment {
            Attachment::To(system) => Some(Arc::clone(system)),
            Attachment::None | Attachment::Attaching => None,
        };
        let entry = self.entry(id).ok_or(HostError::NoSuchDevice(id))?;
        if entry.progress.known() {
            return Ok(None);
        }
        let Some(system) = system else {
            entry.progress = Progress::Waiting;
            return Ok(None);
        };
        entry.progress = Progress::Announcing;
        let instance = entry.instance.clone();
        Ok(Some(Announcing { system, instance }))
    }

    /// The system knows of it now. Whether its program has removed it meanwhile, which the system has to be told.
    pub(super) fn announced(&mut self, id: DeviceId) -> bool {
        if let Some(entry) = self.entry(id) {
            entry.progress = Progress::Announced;
        }
        let unwanted = self.unwanted.iter().position(|other| *other == id);
        unwanted
            .map(|index| self.unwanted.swap_remove(index))
            .is_some()
    }

    /// The one instance of that id that the system may speak of.
    ///
    /// # Errors
    /// [`HostError::Closed`], [`HostError::NoSuchInstance`].
    pub(super) fn known_instance(
        &mut self,
        instance_id: Uuid,
    ) -> Result<DeviceInstance, HostError> {
        Ok(self.known(instance_id)?.instance.clone())
    }

    /// Whether it is the caller's to power on an instance.
    pub(super) fn claim_power_on(&mut self, id: DeviceId) -> bool {
        self.entry(id)
            .is_some_and(|entry| !std::mem::replace(&mut entry.powered_on, true))
    }

    /// [`Instances::known_instance`], for whoever powers it on.
    ///
    /// # Errors
    /// As there; [`HostError::PoweredOn`].
    pub(super) fn begin_power_on(
        &mut self,
        instance_id: Uuid,
    ) -> Result<DeviceInstance, HostError> {
        let entry = self.known(instance_id)?;
        if std::mem::replace(&mut entry.powered_on, true) {
            return Err(HostError::PoweredOn(instance_id));
        }
        Ok(entry.instance.clone())
    }

    /// Its program removes an instance.
    pub(super) fn begin_removal(&mut self, id: DeviceId) -> Removal {
        let Some(entry) = self.entry(id) else {
            return Removal::None;
        };
        match entry.progress {
            Progress::Withdrawing => return Removal::None,
            Progress::Created | Progress::Waiting => {}
            // Who tells the system of it tells this too, so that the system hears both in order.
            Progress::Announcing => self.unwanted.push(id),
            Progress::Announced => {
                entry.progress = Progress::Withdrawing;
                let instance = entry.instance.clone();
                if let Attachment::To(system) = &self.attachment {
                    return Removal::Withdraw(instance, Arc::clone(system));
                }
            }
        }
        self.take(id).map_or(Removal::None, Removal::Taken)
    }

    /// Takes an instance out, so that nobody else does.
    pub(super) fn take(&mut self, id: DeviceId) -> Option<DeviceInstance> {
        let index = self.position(id)?;
        Some(self.entries.remove(index).instance)
    }

    /// Takes an instance out that the system removes.
    ///
    /// # Errors
    /// [`HostError::Closed`], [`HostError::NoSuchInstance`].
    pub(super) fn take_known(&mut self, instance_id: Uuid) -> Result<DeviceInstance, HostError> {
        let id = self.known(instance_id)?.instance.id;
        self.take(id).ok_or(HostError::NoSuchInstance(instance_id))
    }

    /// Takes all instances out and lets none in any more; gives back the system too, once.
    pub(super) fn close(&mut self) -> (Vec<DeviceInstance>, Option<Arc<dyn System>>) {
        self.closed = true;
        let system = match std::mem::take(&mut self.attachment) {
            Attachment::To(system) => Some(system),
            // Who attaches sees that it is closed.
            Attachment::None | Attachment::Attaching => None,
        };
        let instances = self.entries.drain(..).map(|entry| entry.instance);
        (instances.collect(), system)
    }
}
