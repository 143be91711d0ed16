//! The devices of a restricted host, as its broker knows them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use hdv_control::ControlError;
use uuid::Uuid;

use super::door::Door;
use super::refused;
use crate::error::codes;
use crate::protocol::Device;

/// How clients get to a device.
enum Access {
    /// None do: it has not been powered on.
    None,
    /// It is being powered on.
    Coming,
    /// They are let in.
    Open(Arc<Door>),
}

struct Known {
    class_id: Uuid,
    access: Access,
}

/// See the module's documentation.
pub(super) struct Devices {
    limit: usize,
    known: BTreeMap<Uuid, Known>,
    closed: bool,
}

impl Devices {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            known: BTreeMap::new(),
            closed: false,
        }
    }

    /// The host says that it has a device.
    ///
    /// # Errors
    /// It has said so before, or may not have more.
    pub(super) fn announce(&mut self, device: &Device) -> Result<(), ControlError> {
        let limit = self.limit;
        let count = self.known.len();
        match self.known.entry(device.instance_id) {
            Entry::Occupied(_) => Err(refused(
                codes::ALREADY_EXISTS,
                format!(
                    "device instance {} was announced before",
                    device.instance_id
                ),
            )),
            Entry::Vacant(_) if count >= limit => Err(refused(
                codes::E_ACCESSDENIED,
                format!("a restricted device host may have {limit} devices, and has as many"),
            )),
            Entry::Vacant(place) => {
                place.insert(Known {
                    class_id: device.class_id,
                    access: Access::None,
                });
                Ok(())
            }
        }
    }

    /// # Errors
    /// There is no such device.
    pub(super) fn check(&self, instance: Uuid) -> Result<(), ControlError> {
        self.known
            .contains_key(&instance)
            .then_some(())
            .ok_or_else(|| unknown(instance))
    }

    /// Its class, and the socket where clients come; `None` if there is no such device.
    pub(super) fn get(&self, instance: Uuid) -> Option<(Uuid, Option<Arc<Door>>)> {
        let known = self.known.get(&instance)?;
        let door = match &known.access {
            Access::Open(door) => Some(Arc::clone(door)),
            Access::None | Access::Coming => None,
        };
        Some((known.class_id, door))
    }

    /// It is powered on from now on, once.
    ///
    /// # Errors
    /// There is no such device, or it was before.
    pub(super) fn begin_power_on(&mut self, instance: Uuid) -> Result<(), ControlError> {
        let known = self.known.get_mut(&instance);
        let known = known.ok_or_else(|| unknown(instance))?;
        let Access::None = known.access else {
            return Err(refused(
                codes::HCS_E_INVALID_STATE,
                format!("device instance {instance} is powered on already"),
            ));
        };
        known.access = Access::Coming;
        Ok(())
    }

    /// It is powered on, and clients are let in.
    ///
    /// # Errors
    /// It has gone meanwhile.
    pub(super) fn open(&mut self, instance: Uuid, door: &Arc<Door>) -> Result<(), ControlError> {
        let known = self.known.get_mut(&instance).filter(|_| !self.closed);
        known.ok_or_else(|| unknown(instance))?.access = Access::Open(Arc::clone(door));
        Ok(())
    }

    /// It is gone. Gives back where clients came, to be closed without the lock.
    pub(super) fn forget(&mut self, instance: Uuid) -> Option<Arc<Door>> {
        match self.known.remove(&instance)?.access {
            Access::Open(door) => Some(door),
            Access::None | Access::Coming => None,
        }
    }

    /// Nothing comes any more. As [`Devices::forget`], for all.
    pub(super) fn close(&mut self) -> Vec<Arc<Door>> {
        self.closed = true;
        let known = std::mem::take(&mut self.known);
        let doors = known.into_values().map(|known| match known.access {
            Access::Open(door) => Some(door),
            Access::None | Access::Coming => None,
        });
        doors.flatten().collect()
    }
}

fn unknown(instance: Uuid) -> ControlError {
    let message = format!("the restricted device host has announced no device instance {instance}");
    ControlError::not_found(message).with_code(codes::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(instance: u128) -> Device {
        Device {
            class_id: Uuid::nil(),
            instance_id: Uuid::from_u128(instance),
        }
    }

    fn code(result: Result<(), ControlError>) -> Option<i32> {
        result.unwrap_err().code
    }

    #[test]
    fn what_a_host_says_is_checked() {
        let mut devices = Devices::new(2);
        devices.announce(&device(1)).unwrap();
        assert_eq!(
            code(devices.announce(&device(1))),
            Some(codes::ALREADY_EXISTS)
        );
        devices.announce(&device(2)).unwrap();
        assert_eq!(
            code(devices.announce(&device(3))),
            Some(codes::E_ACCESSDENIED)
        );
        assert_eq!(
            code(devices.check(Uuid::from_u128(3))),
            Some(codes::NOT_FOUND)
        );
        devices.begin_power_on(Uuid::from_u128(1)).unwrap();
        assert_eq!(
            code(devices.begin_power_on(Uuid::from_u128(1))),
            Some(codes::HCS_E_INVALID_STATE)
        );
        devices.forget(Uuid::from_u128(1));
        devices.announce(&device(3)).unwrap();
    }
}
